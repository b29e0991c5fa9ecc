/** Steps that several transitions share: the `_transition_generic_*` functions and `_transition_to_memory`. */
import { float } from "@dask-ts/protocol";
import { FETCH, FORGOTTEN, MISSING, READY, type Recommendation, RELEASED } from "../recommendations.ts";
import { type TaskState, type TaskStateName, withItem } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";

/**
 * A transition: changes the state, leaves instructions and further recommendations in it. `to` is the recommendation that
 * is followed.
 */
export type Transition = (s: WorkerState, ts: TaskState, to: Recommendation) => void;

/** A broken invariant that is cheap enough to look at always. */
export function assert(condition: boolean, s: WorkerState, ts: TaskState, to: TaskStateName): asserts condition {
  if (!condition) throw s.invalidTransition(ts, ts.state, to);
}

/** Dependencies of tasks in these states are kept. */
const UNRELEASABLE: ReadonlySet<TaskStateName> = new Set<TaskStateName>([
  "waiting",
  "ready",
  "constrained",
  "executing",
  "long-running",
  "memory",
]);

export function genericReleased(s: WorkerState, ts: TaskState): void {
  s.purge(ts);
  for (const dependency of ts.dependencies) {
    if (dependency.waiters.size === 0 && !UNRELEASABLE.has(dependency.state)) {
      s.recommendations.set(dependency, RELEASED);
    }
  }
  s.setState(ts, "released");
  if (ts.dependents.size === 0) s.recommendations.set(ts, FORGOTTEN);
}

export function genericFetch(s: WorkerState, ts: TaskState): void {
  if (ts.whoHas.size === 0) {
    s.recommendations.set(ts, MISSING);
    return;
  }
  assert(ts.priority !== null, s, ts, "fetch");
  s.setState(ts, "fetch");
  ts.done = false;
  s.fetchCount++;
  for (const peer of ts.whoHas) s.addNeeded(peer, ts);
}

export function genericMissing(s: WorkerState, ts: TaskState): void {
  if (s.validate) assert(ts.whoHas.size === 0, s, ts, "missing");
  s.setState(ts, "missing");
  s.missingDepFlight.add(ts);
  ts.done = false;
}

export function genericError(s: WorkerState, ts: TaskState, to: Recommendation): void {
  assert(to.finish === "error", s, ts, "error");
  ts.exception = to.error.exception;
  ts.traceback = to.error.traceback;
  ts.exceptionText = to.error.exceptionText;
  ts.tracebackText = to.error.tracebackText;
  // The bytes of the run_spec are of no further use: whoever wants the task again sends it again.
  ts.runSpec = null;
  s.setState(ts, "error");
  s.sendTaskErred(ts, to.runId);
}

/**
 * `_transition_to_memory`: the executor holds the value. Reached by an execution, a transfer, or `update_data`; what the
 * scheduler is told follows from what it expects, not from how the value came about.
 */
export function toMemory(
  s: WorkerState,
  ts: TaskState,
  to: Recommendation,
  message: "task-finished" | "add-keys" | null,
): void {
  assert(to.finish === "memory", s, ts, "memory");
  if (s.validate) assert(!ts.stored, s, ts, "memory");
  ts.stored = true;
  s.setState(ts, "memory");
  ts.nbytes ??= to.nbytes;
  s.nbytes += ts.nbytes;
  ts.type = to.type;
  ts.typename = to.typename;
  ts.runSpec = null;

  for (const dependent of ts.dependents) {
    dependent.waitingForData.delete(ts);
    if (dependent.waitingForData.size === 0 && dependent.state === "waiting") s.recommendations.set(dependent, READY);
  }
  s.log.push([ts.key, "put-in-memory", s.stimulusId, float(s.now)]);

  if (message === "add-keys") s.sendAddKeys(ts);
  else if (message === "task-finished") s.sendTaskFinished(ts, to.runId);
}

/** Recommends fetch for what is not in memory, or ready where everything is. Mirrors `_transition_released_waiting`. */
export function releasedWaiting(s: WorkerState, ts: TaskState): void {
  ts.waitingForData.clear();
  for (const dependency of ts.dependencies) {
    if (dependency.state === "memory") continue;
    ts.waitingForData = withItem(ts.waitingForData, dependency);
    dependency.waiters = withItem(dependency.waiters, ts);
    s.recommendations.set(dependency, FETCH);
  }
  if (ts.waitingForData.size === 0) s.recommendations.set(ts, READY);
  s.setState(ts, "waiting");
  s.waiting.add(ts);
}
