/** What RPC handlers read. Addresses may be aliases; unknown workers are left out or answered as Dask does. */
import { asNumber, type Key, keyId, keySplit, PythonError, type Value } from "@dask-ts/protocol";
import { UnknownKeyError } from "./errors.ts";
import { totalOccupancy } from "./occupancy.ts";
import type { SchedulerState } from "./state.ts";
import { State } from "./task-status.ts";
import type { TaskState } from "./task-state.ts";
import type { MemoryState, WorkerState } from "./worker-state.ts";

/** Scheduler.get_who_has. */
export function whoHas(state: SchedulerState, keys: readonly Key[] | null): Map<Key, string[]> {
  const result = new Map<Key, string[]>();
  const addresses = (ts: TaskState | undefined): string[] => ts?.whoHas.items.map((ws) => ws.address) ?? [];
  if (keys === null) for (const ts of state.tasks.values()) result.set(ts.key, addresses(ts));
  else for (const key of keys) result.set(key, addresses(state.taskOf(key)));
  return result;
}

/** Scheduler.get_has_what. */
export function hasWhat(state: SchedulerState, workers: readonly Value[] | null): Map<string, Key[]> {
  const result = new Map<string, Key[]>();
  for (const address of addressesOf(state, workers)) {
    const ws = state.workers.get(address);
    result.set(address, ws === undefined ? [] : Array.from(ws.hasWhat, (ts) => ts.key));
  }
  return result;
}

/** Scheduler.get_processing. @throws {PythonError} a KeyError for an unknown worker. */
export function processing(state: SchedulerState, workers: readonly Value[] | null): Map<string, Key[]> {
  const result = new Map<string, Key[]>();
  for (const address of addressesOf(state, workers)) {
    const ws = state.workers.get(address);
    if (ws === undefined) throw new PythonError("KeyError", address);
    const keys = Array.from(ws.processing, (ts) => ts.key);
    result.set(address, keys);
  }
  return result;
}

/** Scheduler.get_ncores, and get_ncores_running with `runningOnly`. */
export function ncores(
  state: SchedulerState,
  workers: readonly Value[] | null,
  runningOnly = false,
): Map<string, number> {
  const result = new Map<string, number>();
  for (const address of addressesOf(state, workers)) {
    const ws = state.workers.get(address);
    if (ws !== undefined && (!runningOnly || ws.status === "running")) result.set(address, ws.nthreads);
  }
  return result;
}

/** Scheduler.get_nbytes. @throws {UnknownKeyError} */
export function nbytes(state: SchedulerState, keys: readonly Key[] | null, summary: boolean): Map<Key, number> {
  const result = new Map<Key, number>();
  const add = (ts: TaskState): void => {
    if (summary) {
      const prefix = keySplit(ts.key);
      result.set(prefix, (result.get(prefix) ?? 0) + ts.nbytes);
    } else {
      result.set(ts.key, ts.nbytes);
    }
  };
  if (keys === null) {
    for (const ts of state.tasks.values()) if (ts.nbytes >= 0) add(ts);
  } else {
    for (const key of keys) {
      const ts = state.taskOf(key);
      if (ts === undefined) throw new UnknownKeyError(key);
      add(ts);
    }
  }
  return result;
}

/** Scheduler.get_task_status: null for unknown keys. */
export function taskStatus(state: SchedulerState, keys: readonly Key[]): Map<Key, string | null> {
  const result = new Map<Key, string | null>();
  for (const key of keys) result.set(key, state.taskOf(key)?.state ?? null);
  return result;
}

/** Scheduler.get_task_prefix_states. */
export function prefixStates(state: SchedulerState): Map<string, Map<string, number>> {
  const result = new Map<string, Map<string, number>>();
  for (const prefix of state.taskPrefixes.values()) {
    const { states } = prefix;
    const counts = new Map<string, number>([
      ["memory", states[State.memory] as number],
      ["erred", states[State.erred] as number],
      ["released", states[State.released] as number],
      ["processing", states[State.processing] as number],
      ["waiting", states[State.waiting] as number],
    ]);
    for (const count of counts.values()) {
      if (count === 0) continue;
      result.set(prefix.name, counts);
      break;
    }
  }
  return result;
}

/** Client.get_error_cause's question: the key to blame, or null. */
export function errorCause(state: SchedulerState, keys: readonly Key[]): Key | null {
  for (const key of keys) {
    const blame = state.taskOf(key)?.exceptionBlame;
    if (blame) return blame.key;
  }
  return null;
}

/** WorkerState.memory; bytes. */
export function workerMemory(ws: WorkerState): MemoryState {
  const process = asNumber(ws.metrics.get("memory"), 0);
  const spilledBytes = ws.metrics.get("spilled_bytes");
  const inMemory = spilledBytes instanceof Map ? asNumber(spilledBytes.get("memory"), 0) : 0;
  const onDisk = spilledBytes instanceof Map ? asNumber(spilledBytes.get("disk"), 0) : 0;
  const managed = Math.min(process, Math.max(0, ws.nbytes - inMemory));
  return {
    process,
    managed,
    spilled: onDisk,
    unmanagedOld: Math.min(ws.memoryUnmanagedOld, process - managed),
  };
}

/** What adaptive scaling looks at (Scheduler.adaptive_target); the policy is elsewhere. */
export interface AdaptiveInputs {
  readonly totalOccupancy: number;
  /** Estimated seconds of the tasks that have no worker: the first hundred, scaled up. */
  readonly queuedOccupancy: number;
  readonly queued: number;
  readonly unrunnable: number;
  readonly workers: readonly WorkerState[];
}

export function adaptiveInputs(state: SchedulerState): AdaptiveInputs {
  let queuedOccupancy = 0;
  let taken = 0;
  for (const tasks of [state.queued.values(), state.unrunnable.keys()]) {
    for (const ts of tasks) {
      if (taken++ >= 100) break;
      queuedOccupancy += ts.prefix.estimate;
    }
  }
  const ready = state.queued.size + state.unrunnable.size;
  if (ready > 100) queuedOccupancy *= ready / 100;
  return {
    totalOccupancy: totalOccupancy(state),
    queuedOccupancy,
    queued: state.queued.size,
    unrunnable: state.unrunnable.size,
    workers: state.workerOrder.list,
  };
}

/** Scheduler.coerce_address for each; null means all workers. */
function addressesOf(state: SchedulerState, workers: readonly Value[] | null): string[] {
  if (workers === null) return state.workerOrder.list.map((ws) => ws.address);
  return workers.map((name) => {
    const alias = typeof name === "string" || typeof name === "number" ? state.aliases.get(keyId(name)) : undefined;
    return alias ?? String(name);
  });
}

export { occupancyOf, totalOccupancy } from "./occupancy.ts";
