/**
 * The scheduler's state machine: events in (method calls with the time), effects out ({@link Outbox}). It does no
 * IO and reads no clock. All times are seconds.
 *
 * After each call the shell takes what is in `outbox` and sends it. Calls must not be nested.
 */
import type { Key, Message, Value } from "@dask-ts/protocol";
import type { CoreConfig } from "./config.ts";
import type { Graph } from "./graph.ts";
import type { Listeners, SpansHook, StealingHook } from "./hooks.ts";
import type { Outbox } from "./outbox.ts";
import type { SchedulerState } from "./state.ts";
import type { WorkerRegistration } from "./worker-state.ts";

/** See the doc comments of the implementing class; this is its surface. */
export interface SchedulerCoreApi {
  readonly config: CoreConfig;
  readonly state: SchedulerState;
  readonly outbox: Outbox;
  readonly listeners: Listeners;
  stealing: StealingHook | null;
  spans: SpansHook | null;

  addClient(client: string, now: number, versions?: Value): void;
  /** Also for `close-client` and the end of the stream. Unknown clients are ignored. */
  removeClient(client: string, now: number, stimulusId?: string): void;
  /**
   * Lets go of `limit` of the keys that a leaving client wants; false where no more than these are left, and for
   * `removeClient` to do. So that a client with very many keys does not hold all others up.
   */
  releaseWanted(client: string, limit: number, now: number, stimulusId?: string): boolean;
  addWorker(registration: WorkerRegistration, now: number): AddWorkerResult;
  removeWorker(address: string, options: RemoveWorkerOptions, now: number): "OK" | "already-removed";
  /** false: the worker is not registered ({"status": "missing"}). */
  heartbeat(fields: Heartbeat, now: number): boolean;
  /**
   * One element of a client's stream, except `update-graph`, topics and extension ops, which are the shell's.
   *
   * @throws {UnknownOpError} for an op that is not in the table; {@link BadMessageError} for bad fields.
   */
  clientMessage(client: string, message: Message, now: number): void;
  /** One element of a worker's stream; throws as {@link clientMessage} does. Unknown workers are ignored. */
  workerMessage(worker: string, message: Message, now: number): void;
  /**
   * Takes a graph in, a few thousand tasks at a time: `next(now)` until done, with other events in between. At most
   * one may be under way; a second call throws until the first is done (or was ended with `return()`).
   */
  updateGraph(request: UpdateGraphRequest, now: number): Generator<undefined, UpdateGraphResult, number>;
  /** The graph could not be opened: `task-erred` for all its keys, to this client and others that want them. */
  graphFailed(client: string, keys: readonly Key[], failure: GraphFailure, now: number): void;
  /** Scheduler.update_data: data that was scattered. */
  updateData(
    whoHas: ReadonlyMap<Key, readonly string[]>,
    nbytes: ReadonlyMap<Key, number>,
    client: string | null,
    now: number,
  ): void;
  clientDesiresKeys(keys: readonly Key[], client: string, now: number): void;
  clientReleasesKeys(keys: readonly Key[], client: string, now: number, stimulusId?: string): void;
  /** Scheduler.stimulus_retry. @returns the keys touched. @throws {UnknownKeyError} */
  retry(keys: readonly Key[], client: string | null, now: number): Key[];
  cancelKeys(keys: readonly Key[], client: string, options: CancelOptions, now: number): void;
  reportKey(key: Key, client: string | null): void;
  addKeys(worker: string, keys: readonly Key[], stimulusId: string | null, now: number): "OK" | "not found";
  reschedule(key: Key, worker: string | null, stimulusId: string, now: number): void;
  setRestrictions(restrictions: ReadonlyMap<Key, readonly string[] | null>): void;
  setResources(worker: string, resources: ReadonlyMap<string, number>): void;
  /** Scheduler.handle_worker_status_change, also for changes that the scheduler starts (retire). */
  workerStatusChange(address: string, status: string, stimulusId: string, now: number): void;
  /** Scheduler.close_worker: asks the worker to close, nothing more. */
  closeWorker(address: string): void;
  /** First half of Scheduler.restart: every client releases every key, state is cleared, `restart` to clients. */
  restart(now: number, stimulusId: string): void;

  /** Every 250 ms. `close` is true where the idle timeout has passed. */
  checkIdle(now: number): { readonly idleSince: number | null; readonly close: boolean };
  /** Every 250 ms (Scheduler._check_no_workers). */
  checkNoWorkers(now: number): void;
  /** Every worker-ttl: addresses of workers whose heartbeat is late, to be restarted or removed by the shell. */
  checkWorkerTtl(now: number): string[];
}

export type AddWorkerResult =
  | { readonly status: "OK" }
  | { readonly status: "error"; readonly reason: "exists" | "name"; readonly message: string };

export interface RemoveWorkerOptions {
  readonly stimulusId: string;
  /** Not counted as a death. Default false. */
  readonly expected?: boolean;
  /** Send `close` first. Default true. */
  readonly close?: boolean;
}

/** Fields of `heartbeat_worker`; `address` is resolved. */
export interface Heartbeat {
  readonly address: string;
  readonly workerNow: number | null;
  readonly metrics: ReadonlyMap<Value, Value>;
  /** key → seconds; null where absent */
  readonly executing: ReadonlyMap<Value, Value> | null;
  readonly resources: ReadonlyMap<string, number> | null;
  readonly hostInfo: ReadonlyMap<Value, Value> | null;
}

export interface UpdateGraphRequest {
  readonly client: string;
  readonly graph: Graph;
  readonly keys: readonly Key[];
  /** key → rank; null or empty: the core orders the graph itself. */
  readonly internalPriority: ReadonlyMap<Value, Value> | null;
  readonly submittingTask: Key | null;
  readonly fifoTimeout: number;
  readonly actors: boolean | readonly Key[] | null;
  /** Number, or key → number. */
  readonly userPriority: number | ReadonlyMap<Value, Value>;
  /** Global annotations, where the graph host did not merge them into the graph's sets. */
  readonly annotations?: ReadonlyMap<Value, Value> | null;
  readonly stimulusId?: string;
  /** When the message came (for the generation and the event's metrics); default now. */
  readonly start?: number;
  /** When the graph host was done, for the event's metrics. */
  readonly materialized?: number;
}

export type UpdateGraphResult =
  | { readonly status: "OK"; readonly newTasks: number; readonly touched: number; readonly collisions: number }
  | { readonly status: "cancelled"; readonly lost: readonly Key[] }
  /** The client went away meanwhile. */
  | { readonly status: "abandoned" };

export interface GraphFailure {
  readonly exception: Value;
  readonly traceback: Value;
  readonly message: string;
  readonly stimulusId?: string;
}

export interface CancelOptions {
  readonly force: boolean;
  readonly reason: string | null;
  readonly msg: string | null;
}
