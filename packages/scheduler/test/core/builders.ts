/** Builders for core tests: a core with workers and clients, graphs from plain objects, and a record of the outbox. */
import { type Key, keyId, type Message, Pickled, type Value } from "@dask-ts/protocol";
import { expect } from "vitest";
import {
  type CoreConfig,
  DEFAULT_CORE_CONFIG,
  type Graph,
  SchedulerCore,
  TaskFlag,
  type TaskState,
  type UpdateGraphRequest,
  type UpdateGraphResult,
  type WorkerRegistration,
  type WorkerState,
} from "../../src/core/index.ts";

export type GraphSpec = Record<string, readonly string[]>;

export interface GraphOptions {
  readonly external?: readonly Key[];
  /** key → annotations */
  readonly annotations?: Record<string, ReadonlyMap<Value, Value>>;
  readonly dataProducers?: readonly string[];
}

const RUN_SPEC = new Pickled(new Uint8Array([0x80]), []);

/** A graph of str keys; a dependency that is no task of the graph is external. */
export function graphOf(spec: GraphSpec, options: GraphOptions = {}): Graph {
  const keys = Object.keys(spec);
  const numbers = new Map(keys.map((key, i) => [key, i]));
  const externalKeys: string[] = [];
  const dependencies = keys.map((key) =>
    (spec[key] as readonly string[]).map((name) => {
      const known = numbers.get(name);
      if (known !== undefined) return known;
      let i = externalKeys.indexOf(name);
      if (i < 0) i = externalKeys.push(name) - 1;
      return keys.length + i;
    }),
  );
  const annotationSets: ReadonlyMap<Value, Value>[] = [];
  let annotationOf: Int32Array | undefined;
  if (options.annotations !== undefined) {
    annotationOf = new Int32Array(keys.length).fill(-1);
    for (const [key, annotations] of Object.entries(options.annotations)) {
      annotationOf[numbers.get(key) as number] = annotationSets.push(annotations) - 1;
    }
  }
  const flags = new Uint8Array(keys.length);
  for (const key of options.dataProducers ?? []) flags[numbers.get(key) as number] = TaskFlag.dataProducer;
  return {
    keys,
    ids: keys.map((key) => keyId(key)),
    dependencies,
    externalKeys,
    externalIds: externalKeys.map((key) => keyId(key)),
    runSpecs: keys.map(() => RUN_SPEC),
    flags,
    annotationSets,
    annotationOf,
    code: [],
    spanMetadata: new Map(),
  };
}

/** A core with helpers; every message that comes out has to be taken, or the test fails in `expectQuiet`. */
export class TestCore {
  readonly core: SchedulerCore;
  now = 1000;
  readonly closed: string[] = [];
  private readonly workers: Map<string, Message[]> = new Map();
  private readonly clients: Map<string, Message[]> = new Map();

  constructor(config: Partial<CoreConfig> = {}) {
    this.core = new SchedulerCore(
      {
        ...DEFAULT_CORE_CONFIG,
        validate: true,
        makeException: (info) => `exception:${info.kind}`,
        ...config,
      },
      this.now,
    );
  }

  addWorker(name: string, options: Partial<WorkerRegistration> = {}): WorkerState {
    const address = options.address ?? addressOf(name);
    expect(this.core.addWorker(registration(name, options), this.now)).toEqual({ status: "OK" });
    this.collect();
    const ws = this.core.state.workers.get(address);
    if (ws === undefined) throw new Error("worker not added");
    return ws;
  }

  addClient(client = "c"): void {
    this.core.addClient(client, this.now);
    this.collect();
  }

  removeWorker(name: string, options: { expected?: boolean; close?: boolean } = {}): void {
    this.core.removeWorker(addressOf(name), { stimulusId: "test-remove-worker", ...options }, this.now);
    this.collect();
  }

  submit(
    spec: GraphSpec,
    keys: readonly Key[],
    options: GraphOptions & Partial<UpdateGraphRequest> = {},
  ): UpdateGraphResult {
    return this.submitGraph(graphOf(spec, options), keys, options);
  }

  submitGraph(graph: Graph, keys: readonly Key[], options: Partial<UpdateGraphRequest> = {}): UpdateGraphResult {
    const steps = this.core.updateGraph(
      {
        client: "c",
        graph,
        keys,
        internalPriority: new Map(graph.keys.map((key, i) => [key as Value, i])),
        submittingTask: null,
        fifoTimeout: 0.1,
        actors: null,
        userPriority: 0,
        ...withoutAnnotations(options),
      },
      this.now,
    );
    for (;;) {
      const step = steps.next(this.now);
      if (step.done) {
        this.collect();
        return step.value;
      }
    }
  }

  /** A message from the worker. */
  fromWorker(name: string, message: Message): void {
    this.core.workerMessage(addressOf(name), { stimulus_id: `test-${this.now}`, ...message }, this.now);
    this.collect();
  }

  fromClient(message: Message, client = "c"): void {
    this.core.clientMessage(client, message, this.now);
    this.collect();
  }

  /** The worker finishes the task as it was last sent. */
  finish(name: string, key: Key, options: { nbytes?: number; duration?: number; runId?: number } = {}): void {
    this.fromWorker(name, {
      op: "task-finished",
      key: key,
      run_id: options.runId ?? this.task(key).runId,
      nbytes: options.nbytes ?? 10,
      type: new Uint8Array([1]),
      typename: "int",
      metadata: new Map(),
      startstops: [
        new Map<Value, Value>([
          ["action", "compute"],
          ["start", this.now],
          ["stop", this.now + (options.duration ?? 0.1)],
        ]),
      ],
      status: "OK",
    });
  }

  err(name: string, key: Key, runId?: number): void {
    this.fromWorker(name, {
      op: "task-erred",
      key: key,
      run_id: runId ?? this.task(key).runId,
      exception: `error of ${keyId(key)}`,
      traceback: "traceback",
      exception_text: "text",
      traceback_text: "",
    });
  }

  release(...keys: Key[]): void {
    this.fromClient({ op: "client-releases-keys", keys: keys });
  }

  task(key: Key): TaskState {
    const ts = this.core.state.tasks.get(keyId(key));
    if (ts === undefined) throw new Error(`no task ${keyId(key)}`);
    return ts;
  }

  has(key: Key): boolean {
    return this.core.state.tasks.has(keyId(key));
  }

  /** State of each task by id. */
  states(): Record<string, string> {
    const result: Record<string, string> = {};
    for (const ts of this.core.state.tasks.values()) result[ts.id] = ts.state;
    return result;
  }

  /** Takes the messages sent to a worker, as `op key,key`. */
  toWorker(name: string): string[] {
    return this.takeWorker(name).map(brief);
  }

  takeWorker(name: string): Message[] {
    const address = addressOf(name);
    const messages = this.workers.get(address) ?? [];
    this.workers.delete(address);
    return messages;
  }

  toClient(client = "c"): string[] {
    return this.takeClient(client).map(brief);
  }

  takeClient(client = "c"): Message[] {
    const messages = this.clients.get(client) ?? [];
    this.clients.delete(client);
    return messages;
  }

  /** Takes what the outbox holds. */
  collect(): void {
    const { outbox } = this.core;
    for (const [address, messages] of outbox.toWorkers) append(this.workers, address, messages);
    for (const [client, messages] of outbox.toClients) append(this.clients, client, messages);
    this.closed.push(...outbox.closeWorkers);
    outbox.clear();
  }

  /** Nothing was sent that the test has not taken. */
  expectQuiet(): void {
    this.collect();
    const left: Record<string, string[]> = {};
    for (const [to, messages] of [...this.workers, ...this.clients]) left[to] = messages.map(brief);
    expect(left).toEqual({});
  }

  /** Nobody wants anything: nothing may be left. */
  expectEmpty(): void {
    const { state } = this.core;
    expect(this.states()).toEqual({});
    expect(state.taskGroups.size).toBe(0);
    expect(state.unrunnable.size).toBe(0);
    expect(state.queued.size).toBe(0);
    expect(state.replicatedTasks.size).toBe(0);
    expect(state.computeOccupancy).toBe(0);
    expect(state.networkOcc).toBe(0);
    for (const ws of state.workers.values()) {
      expect(ws.processing.size).toBe(0);
      expect(ws.longRunning.size).toBe(0);
      expect(ws.hasWhat.size).toBe(0);
      expect(ws.needsWhat.size).toBe(0);
      expect(ws.prefixCounts.size).toBe(0);
      expect(ws.actors.size).toBe(0);
      expect(ws.nbytes).toBe(0);
    }
    for (const cs of state.clients.values()) expect(cs.wantsWhat.size).toBe(0);
    for (const prefix of state.taskPrefixes.values()) {
      expect(prefix.groups.size).toBe(0);
      expect(prefix.processing).toBe(0);
    }
  }
}

export function addressOf(name: string): string {
  return name.includes(":") ? name : `tcp://${name}:1`;
}

export function registration(name: string, options: Partial<WorkerRegistration> = {}): WorkerRegistration {
  return {
    address: addressOf(name),
    host: name,
    status: "running",
    serverId: `Worker-${name}`,
    name,
    nthreads: 1,
    memoryLimit: 0,
    localDirectory: "",
    nanny: null,
    pid: 1,
    services: new Map(),
    versions: new Map(),
    metrics: new Map<Value, Value>([["memory", 0]]),
    extra: new Map(),
    resources: new Map(),
    workerNow: 1000,
    stimulusId: "test-add-worker",
    ...options,
  };
}

function withoutAnnotations(options: Partial<UpdateGraphRequest>): Partial<UpdateGraphRequest> {
  const { annotations, ...rest } = options;
  return annotations instanceof Map ? options : rest;
}

function append(into: Map<string, Message[]>, to: string, messages: readonly Message[]): void {
  const known = into.get(to);
  if (known === undefined) into.set(to, [...messages]);
  else known.push(...messages);
}

function brief(message: Message): string {
  const { op, key, keys } = message;
  const names = keys === undefined ? [key] : [...(keys as Iterable<Value>)];
  const text = names.map((name) => (name === undefined ? "" : keyId(name))).join(",");
  return text === "" ? String(op) : `${String(op)} ${text}`;
}
