/** Short ways of writing events and reading instructions. */
import { type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import {
  type ErrorFields,
  type Instruction,
  type SchedulerOp,
  type StoredValue,
  WorkerMachine,
  type WorkerEvent,
  type WorkerMachineConfig,
} from "../../../src/core/index.ts";

export const ADDRESS = "tcp://10.0.0.1:1";
export const LOCAL_PEER = "tcp://10.0.0.1:2";
export const LOCAL_PEER_2 = "tcp://10.0.0.1:3";
export const REMOTE_PEER = "tcp://10.0.0.2:1";
export const REMOTE_PEER_2 = "tcp://10.0.0.3:1";

export const TYPE: Uint8Array = new Uint8Array([1, 2, 3]);
export const ERROR: ErrorFields = {
  exception: "exc",
  traceback: "tb",
  exceptionText: "Exc()",
  tracebackText: "line 1",
};

type WhoHas = Readonly<Record<string, readonly string[]>>;

function machine(config: Partial<WorkerMachineConfig> = {}): WorkerMachine {
  return new WorkerMachine({ address: ADDRESS, nthreads: 1, validate: true, transitionCounterMax: 1e6, ...config });
}

/** A machine with a clock, that fails the test where it emits `fail`, and checks the whole state after every event. */
export class Driver {
  readonly machine: WorkerMachine;
  /** What the executor would hold. */
  readonly store: Set<string> = new Set();
  now = 100;

  constructor(config: Partial<WorkerMachineConfig> = {}) {
    this.machine = machine(config);
  }

  /** Handles the events; instructions in the short form of {@link simplify}. */
  do(...events: WorkerEvent[]): Value[][] {
    return this.raw(...events).flatMap(simplify);
  }

  raw(...events: WorkerEvent[]): Instruction[] {
    const out: Instruction[] = [];
    for (const event of events) {
      this.now += 1;
      if (event.kind === "execute-success") this.store.add(keyId(event.key));
      if (event.kind === "gather-success") for (const { key } of event.received) this.store.add(keyId(key));
      if (event.kind === "update-data") for (const { key } of event.entries) this.store.add(keyId(key));
      const instructions = this.machine.handle(event, this.now);
      for (const instruction of instructions) {
        if (instruction.kind === "fail") throw new Error(instruction.reason, { cause: instruction.error });
        if (instruction.kind === "drop") for (const key of instruction.keys) this.store.delete(keyId(key));
      }
      this.machine.validateState();
      out.push(...instructions);
    }
    return out;
  }

  /** Task states: `cancelled(executing)`, `resumed(flight->waiting)`. */
  states(): Record<string, string> {
    return Object.fromEntries(Array.from(this.machine.tasks, ([id, ts]) => [id, stateText(ts)]));
  }
  state(key: Key): string {
    const ts = this.machine.task(key);
    return ts === undefined ? "forgotten" : stateText(ts);
  }
}

function stateText(ts: { state: string; previous: string | null; next: string | null }): string {
  if (ts.state === "cancelled") return `cancelled(${ts.previous})`;
  if (ts.state === "resumed") return `resumed(${ts.previous}->${ts.next})`;
  return ts.state;
}

let stimulus = 0;
export function op(kind: SchedulerOp, fields: Message): WorkerEvent {
  return { kind, message: { op: kind, stimulus_id: `s${stimulus++}`, ...fields } };
}

export function toMap(record: Readonly<Record<string, Value>>): Map<Value, Value> {
  return new Map<Value, Value>(Object.entries(record));
}

export interface ComputeOptions {
  readonly runId?: number;
  readonly whoHas?: WhoHas;
  readonly nbytes?: Readonly<Record<string, number>>;
  readonly priority?: readonly number[];
  readonly resources?: Readonly<Record<string, number>>;
  readonly actor?: boolean;
}

export function compute(key: Key, options: ComputeOptions = {}): WorkerEvent {
  const whoHas = options.whoHas ?? {};
  const nbytes = options.nbytes ?? Object.fromEntries(Object.keys(whoHas).map((dep) => [dep, 1]));
  return op("compute-task", {
    key: key,
    run_id: options.runId ?? 1,
    priority: [...(options.priority ?? [0])],
    who_has: toMap(whoHas),
    nbytes: toMap(nbytes),
    run_spec: "spec",
    resource_restrictions: toMap(options.resources ?? {}),
    actor: options.actor ?? false,
    annotations: new Map(),
    span_id: null,
  });
}

export const free = (...keys: Key[]): WorkerEvent => op("free-keys", { keys: keys });
export const removeReplicas = (...keys: Key[]): WorkerEvent => op("remove-replicas", { keys: keys });
export const steal = (key: Key): WorkerEvent => op("steal-request", { key: key });
export const cancelCompute = (key: Key): WorkerEvent => op("cancel-compute", { key: key });
export const removeWorker = (worker: string): WorkerEvent => op("remove-worker", { worker });
export const refresh = (whoHas: WhoHas): WorkerEvent => op("refresh-who-has", { who_has: toMap(whoHas) });
export const acquire = (whoHas: WhoHas, nbytes: Readonly<Record<string, number>> = {}): WorkerEvent =>
  op("acquire-replicas", {
    who_has: toMap(whoHas),
    nbytes: toMap(Object.fromEntries(Object.keys(whoHas).map((key) => [key, nbytes[key] ?? 1]))),
  });

export function value(key: Key, nbytes = 1): StoredValue {
  return { key, nbytes, type: TYPE, typename: "builtins.int" };
}

export function success(
  key: Key,
  options: { runId?: number; nbytes?: number; seconds?: number; thread?: number | null } = {},
): WorkerEvent {
  return {
    kind: "execute-success",
    runId: options.runId ?? 1,
    ...value(key, options.nbytes ?? 1),
    start: 10,
    stop: 10 + (options.seconds ?? 0.5),
    thread: options.thread === undefined ? 7 : options.thread,
    startstops: [],
    metadata: null,
    stimulusId: `s${stimulus++}`,
  };
}
export function failure(key: Key, options: { runId?: number } = {}): WorkerEvent {
  return {
    kind: "execute-failure",
    key,
    runId: options.runId ?? 1,
    error: ERROR,
    start: 10,
    stop: 10.5,
    thread: 7,
    startstops: [],
    stimulusId: `s${stimulus++}`,
  };
}
export const recalled = (...keys: Key[]): WorkerEvent => ({ kind: "recalled", keys, stimulusId: `s${stimulus++}` });
export const reschedule = (key: Key): WorkerEvent => ({ kind: "reschedule", key, stimulusId: `s${stimulus++}` });
export const secede = (key: Key, computeDuration = 2): WorkerEvent => ({
  kind: "secede",
  key,
  computeDuration,
  stimulusId: `s${stimulus++}`,
});
export const gathered = (worker: string, keys: readonly Key[], totalNbytes = keys.length): WorkerEvent => ({
  kind: "gather-success",
  worker,
  totalNbytes,
  received: keys.map((key) => value(key)),
  stimulusId: `s${stimulus++}`,
});
export const busy = (worker: string, totalNbytes = 1): WorkerEvent => ({
  kind: "gather-busy",
  worker,
  totalNbytes,
  stimulusId: `s${stimulus++}`,
});
export const networkFailure = (worker: string, totalNbytes = 1): WorkerEvent => ({
  kind: "gather-network-failure",
  worker,
  totalNbytes,
  stimulusId: `s${stimulus++}`,
});
export const gatherFailure = (worker: string, totalNbytes = 1): WorkerEvent => ({
  kind: "gather-failure",
  worker,
  totalNbytes,
  error: ERROR,
  stimulusId: `s${stimulus++}`,
});
export const retryBusyWorker = (worker: string): WorkerEvent => ({
  kind: "retry-busy-worker",
  worker,
  stimulusId: `s${stimulus++}`,
});
export const updateData = (...keys: Key[]): WorkerEvent => ({
  kind: "update-data",
  entries: keys.map((key) => value(key)),
  stimulusId: `s${stimulus++}`,
});
export const findMissing = (): WorkerEvent => ({ kind: "find-missing", stimulusId: `s${stimulus++}` });
export const pause = (): WorkerEvent => ({ kind: "pause", stimulusId: `s${stimulus++}` });
export const unpause = (): WorkerEvent => ({ kind: "unpause", stimulusId: `s${stimulus++}` });

function sortedKeys(keys: readonly unknown[]): Value[] {
  return (keys as Value[]).toSorted((a, b) => (keyId(a) < keyId(b) ? -1 : 1));
}

/** An instruction as a short tuple; `add-keys` of several keys as one each, so that it reads like the original's. */
export function simplify(instruction: Instruction): Value[][] {
  switch (instruction.kind) {
    case "execute":
      return [["execute", instruction.key]];
    case "gather":
      return [["gather", instruction.worker, sortedKeys(instruction.keys), instruction.totalNbytes]];
    case "retry-busy-worker-later":
      return [["retry-busy-worker-later", instruction.worker]];
    case "drop":
      return [["drop", instruction.keys.slice()]];
    case "cancel":
      return [["cancel", instruction.key]];
    case "transition":
      return [["transition", instruction.key, instruction.start, instruction.finish]];
    case "fail":
      return [["fail", instruction.reason]];
    case "send":
      return simplifyMessage(instruction.message);
  }
}

function simplifyMessage(message: Message): Value[][] {
  const name = message["op"] ?? null;
  const keys = message["keys"];
  if (name === "add-keys") return (keys as Value[]).map((key) => [name, [key]]);
  const out: Value[] = [name, Array.isArray(keys) ? sortedKeys(keys) : (message["key"] ?? null)];
  for (const field of ["run_id", "nbytes", "state", "compute_duration"]) {
    const part = message[field];
    if (part !== undefined) out.push(part);
  }
  const startstops = message["startstops"];
  if (Array.isArray(startstops)) out.push((startstops as Message[]).map((entry) => entry["action"] ?? null));
  return [out];
}
