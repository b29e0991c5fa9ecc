/**
 * The scheduler's state machine: events in (method calls with the time), effects out ({@link Outbox}). It does no
 * IO and reads no clock. All times are seconds. After each call the shell sends what is in `outbox` and clears it.
 * Calls must not be nested; between two steps of an update-graph any other call may be made.
 */
import type { Key, Message, Value } from "@dask-ts/protocol";
import type {
  AddWorkerResult,
  CancelOptions,
  GraphFailure,
  Heartbeat,
  RemoveWorkerOptions,
  SchedulerCoreApi,
  UpdateGraphRequest,
  UpdateGraphResult,
} from "./api.ts";
import type { CoreConfig } from "./config.ts";
import type { Context } from "./context.ts";
import { BadMessageError, UnknownKeyError, UnknownOpError } from "./errors.ts";
import { beginEvent } from "./event.ts";
import { graphFailed } from "./graph-failed.ts";
import { addWorker } from "./handlers/add-worker.ts";
import { cancelKeys, clientDesiresKeys, clientReleasesKeys, retry } from "./handlers/client-keys.ts";
import { addClient, releaseWanted, removeClient } from "./handlers/clients.ts";
import { heartbeat } from "./handlers/heartbeat.ts";
import { removeWorker } from "./handlers/remove-worker.ts";
import { addKeys } from "./handlers/replicas.ts";
import { setResources } from "./handlers/resources.ts";
import { CLIENT_HANDLERS, type StreamHandler, WORKER_HANDLERS } from "./handlers/table.ts";
import { reschedule } from "./handlers/task-stream.ts";
import { updateData } from "./handlers/update-data.ts";
import { changeStatus, workerStatus } from "./handlers/worker-status.ts";
import type { Listeners, SpansHook, StealingHook } from "./hooks.ts";
import { TaskMetadataCollector } from "./metadata.ts";
import { Outbox } from "./outbox.ts";
import { Recommendations } from "./recommendations.ts";
import { reportKey } from "./report.ts";
import { restart } from "./restart.ts";
import { Restrictions } from "./restrictions.ts";
import { SchedulerState } from "./state.ts";
import { checkIdle, checkNoWorkers, checkWorkerTtl } from "./ticks.ts";
import { type Transition, TransitionLog } from "./transition-log.ts";
import { updateGraph } from "./update-graph.ts";
import { validateState } from "./validate.ts";
import type { WorkerRegistration } from "./worker-state.ts";

export class SchedulerCore implements SchedulerCoreApi, Context {
  readonly config: CoreConfig;
  readonly state: SchedulerState;
  readonly outbox: Outbox = new Outbox();
  readonly recs: Recommendations = new Recommendations();
  readonly log: TransitionLog;
  readonly listeners: Listeners = {
    transition: [],
    addWorker: [],
    removeWorker: [],
    updateGraph: [],
    addClient: [],
    removeClient: [],
    restart: [],
  };
  stealing: StealingHook | null = null;
  spans: SpansHook | null = null;
  now: number;
  stimulusId = "";
  private readonly collectors: Map<string, TaskMetadataCollector> = new Map();

  constructor(config: CoreConfig, now: number) {
    this.config = config;
    this.now = now;
    this.state = new SchedulerState(config, now);
    this.log = new TransitionLog(config.logLength, this.recs);
  }

  addClient(client: string, now: number, versions: Value = new Map()): void {
    addClient(this, client, now, versions);
    this.validate();
  }

  removeClient(client: string, now: number, stimulusId = `remove-client-${now}`): void {
    removeClient(this, client, now, stimulusId);
    this.validate();
  }

  releaseWanted(client: string, limit: number, now: number, stimulusId = `remove-client-${now}`): boolean {
    const more = releaseWanted(this, client, limit, now, stimulusId);
    this.validate();
    return more;
  }

  addWorker(registration: WorkerRegistration, now: number): AddWorkerResult {
    const result = addWorker(this, registration, now);
    this.validate();
    return result;
  }

  removeWorker(address: string, options: RemoveWorkerOptions, now: number): "OK" | "already-removed" {
    const result = removeWorker(this, address, options, now);
    this.validate();
    return result;
  }

  heartbeat(fields: Heartbeat, now: number): boolean {
    const known = heartbeat(this, fields, now);
    this.validate();
    return known;
  }

  clientMessage(client: string, message: Message, now: number): void {
    this.handle(CLIENT_HANDLERS, client, message, now);
  }

  workerMessage(worker: string, message: Message, now: number): void {
    this.handle(WORKER_HANDLERS, worker, message, now);
  }

  private handle(table: ReadonlyMap<string, StreamHandler>, peer: string, message: Message, now: number): void {
    const { op } = message;
    if (typeof op !== "string") throw new BadMessageError(`stream message without op from ${peer}`);
    const handler = table.get(op);
    if (handler === undefined) throw new UnknownOpError(op, peer);
    handler(this, peer, message, now);
    this.validate();
  }

  updateGraph(request: UpdateGraphRequest, now: number): Generator<undefined, UpdateGraphResult, number> {
    return updateGraph(this, request, now);
  }

  graphFailed(client: string, keys: readonly Key[], failure: GraphFailure, now: number): void {
    graphFailed(this, client, keys, failure, now);
    this.validate();
  }

  updateData(
    whoHas: ReadonlyMap<Key, readonly string[]>,
    nbytes: ReadonlyMap<Key, number>,
    client: string | null,
    now: number,
  ): void {
    beginEvent(this, `update-data-${now}`, now);
    updateData(this, whoHas, nbytes, client);
    this.validate();
  }

  clientDesiresKeys(keys: readonly Key[], client: string, now: number): void {
    beginEvent(this, `client-desires-keys-${now}`, now);
    clientDesiresKeys(this, keys, client);
    this.validate();
  }

  clientReleasesKeys(
    keys: readonly Key[],
    client: string,
    now: number,
    stimulusId = `client-releases-keys-${now}`,
  ): void {
    beginEvent(this, stimulusId, now);
    clientReleasesKeys(this, keys, client);
    this.validate();
  }

  retry(keys: readonly Key[], client: string | null, now: number): Key[] {
    const touched = retry(this, keys, client, now);
    this.validate();
    return touched;
  }

  cancelKeys(keys: readonly Key[], client: string, options: CancelOptions, now: number): void {
    cancelKeys(this, keys, client, options, now);
    this.validate();
  }

  reportKey(key: Key, client: string | null): void {
    reportKey(this, key, client);
  }

  addKeys(worker: string, keys: readonly Key[], stimulusId: string | null, now: number): "OK" | "not found" {
    const cause = stimulusId ?? `redundant-replicas-${now}`;
    beginEvent(this, cause, now);
    const result = addKeys(this, worker, keys, cause);
    this.validate();
    return result;
  }

  reschedule(key: Key, worker: string | null, stimulusId: string, now: number): void {
    reschedule(this, key, worker, stimulusId, now);
    this.validate();
  }

  setRestrictions(restrictions: ReadonlyMap<Key, readonly string[] | null>): void {
    for (const key of restrictions.keys()) {
      if (this.state.taskOf(key) === undefined) throw new UnknownKeyError(key);
    }
    for (const [key, workers] of restrictions) {
      const ts = this.state.taskOf(key);
      if (ts === undefined) continue;
      const old = ts.restrictions;
      const named = workers === null || workers.length === 0 ? null : new Set(workers);
      ts.restrictions = new Restrictions(
        named,
        old?.hosts ?? null,
        old?.resources ?? null,
        old?.loose ?? false,
        old?.resourcesOnWire ?? null,
      );
    }
  }

  setResources(worker: string, resources: ReadonlyMap<string, number>): void {
    const ws = this.state.workers.get(worker);
    if (ws === undefined) throw new BadMessageError(`unknown worker ${worker}`);
    setResources(this, ws, resources);
  }

  workerStatusChange(address: string, status: string, stimulusId: string, now: number): void {
    changeStatus(this, address, workerStatus(status), stimulusId, now);
    this.validate();
  }

  closeWorker(address: string): void {
    if (!this.state.workers.has(address)) return;
    this.outbox.log("info", `Closing worker ${address}`);
    this.outbox.event(address, new Map([["action", "close-worker"]]));
    this.outbox.worker(address, { op: "close", reason: "scheduler-close-worker" });
  }

  restart(now: number, stimulusId: string): void {
    restart(this, now, stimulusId);
    this.validate();
  }

  checkIdle(now: number): { readonly idleSince: number | null; readonly close: boolean } {
    return checkIdle(this, now);
  }

  checkNoWorkers(now: number): void {
    checkNoWorkers(this, now);
    this.validate();
  }

  checkWorkerTtl(now: number): string[] {
    return checkWorkerTtl(this, now);
  }

  /** Scheduler.get_story. */
  story(keysOrStimuli: readonly Key[]): Transition[] {
    return this.log.story(keysOrStimuli);
  }

  /** Scheduler.start_task_metadata. */
  startTaskMetadata(name: string): void {
    this.collectors.get(name)?.stop();
    this.collectors.set(name, new TaskMetadataCollector(this));
  }

  /** Scheduler.stop_task_metadata; undefined for an unknown name. */
  stopTaskMetadata(name: string): TaskMetadataCollector | undefined {
    const collector = this.collectors.get(name);
    collector?.stop();
    this.collectors.delete(name);
    return collector;
  }

  /** Checks every invariant, where the configuration asks for it. */
  private validate(): void {
    if (this.config.validate) validateState(this);
  }
}
