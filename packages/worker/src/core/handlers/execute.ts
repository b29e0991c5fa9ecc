/** The end of executions, and seceding. */
import { float, type Key, type Value } from "@dask-ts/protocol";
import { ensureComputing } from "../computing.ts";
import type { ExecuteFailureEvent, ExecuteSuccessEvent, RecalledEvent, SecedeEvent } from "../events.ts";
import { READY, RESCHEDULED } from "../recommendations.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";

/**
 * The task has left its thread, which goes to the next one. It is executing, long-running, cancelled or resumed; after
 * `update_data` also in memory. Mirrors `_execute_done_common`.
 */
function executeDone(s: WorkerState, key: Key): TaskState {
  const ts = s.task(key);
  if (ts === undefined || s.executing.has(ts) === s.longRunning.has(ts)) {
    throw new Error(`a task that is not running has ended: ${JSON.stringify(s.story([key]))}`);
  }
  ts.done = true;
  s.executedCount++;
  s.releaseResources(ts);
  s.executing.delete(ts);
  s.longRunning.delete(ts);
  s.aheadSuspended = false;
  ensureComputing(s);
  return ts;
}

/** Mirrors `_handle_execute_success`. */
export function handleExecuteSuccess(s: WorkerState, event: ExecuteSuccessEvent): void {
  const ran = s.task(event.key);
  // Before its thread goes to the next one: whether more of its kind go ahead depends on it.
  ran?.prefix.ran(event.thread === null || ran.state === "long-running" ? null : event.stop - event.start);
  const ts = executeDone(s, event.key);
  recordRun(ts, event.startstops, event.start, event.stop);
  ts.thread = event.thread;
  ts.metadata = event.metadata;
  const { nbytes, type, typename, runId } = event;
  if (ts.state !== "memory") ts.nbytes = nbytes;
  s.recommendations.set(ts, { finish: "memory", nbytes, type, typename, runId });
}

/** Mirrors `_handle_execute_failure`. */
export function handleExecuteFailure(s: WorkerState, event: ExecuteFailureEvent): void {
  const ts = executeDone(s, event.key);
  recordRun(ts, event.startstops, event.start, event.stop);
  ts.thread = event.thread;
  s.recommendations.set(ts, { finish: "error", error: event.error, runId: event.runId });
}

/** Mirrors `_handle_reschedule`. */
export function handleReschedule(s: WorkerState, key: Key): void {
  s.recommendations.set(executeDone(s, key), RESCHEDULED);
}

/** The executor gave back tasks that no thread had begun: each is ready again, or not wanted any more. */
export function handleRecalled(s: WorkerState, event: RecalledEvent): void {
  s.aheadSuspended = true;
  // The last recommendation is worked off first, and the first of these tasks is the next to run.
  for (const key of event.keys.toReversed()) {
    const ts = s.task(key);
    if (ts === undefined || !s.executing.delete(ts)) continue;
    s.releaseResources(ts);
    // Cancelled or resumed, it has to be seen as ended.
    if (ts.state !== "executing") ts.done = true;
    s.recommendations.set(ts, ts.state === "executing" ? READY : RESCHEDULED);
  }
  ensureComputing(s);
}

/** Mirrors `_handle_secede`. */
export function handleSecede(s: WorkerState, event: SecedeEvent): void {
  const ts = s.task(event.key);
  // Where it has ended meanwhile, or has its value from update_data, there is nothing to secede from.
  if (ts === undefined || ts.state === "memory" || !(s.executing.has(ts) || s.longRunning.has(ts))) return;
  s.recommendations.set(ts, { finish: "long-running", computeDuration: event.computeDuration });
}

/** The scheduler's estimates rest on `compute`: it holds the run alone, without waiting for a thread. */
function recordRun(ts: TaskState, startstops: readonly Value[], start: number | null, stop: number | null): void {
  for (const startstop of startstops) ts.startstops.push(startstop);
  if (start !== null && stop !== null)
    ts.startstops.push({ action: "compute", start: float(start), stop: float(stop) });
}
