/** Transitions out of executing and long-running. */
import { ensureComputing } from "../computing.ts";
import { NO_RUN_ID, type TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { assert, genericReleased, type Transition, toMemory } from "./generic.ts";

/** By its own end; or by `update_data` while it runs, of which the scheduler knows. */
export const executingMemory: Transition = (s, ts, to) =>
  toMemory(s, ts, to, to.finish === "memory" && to.runId === NO_RUN_ID ? null : "task-finished");

/** A running task keeps its thread and resources until it ends, which a coroutine does soon; its result is discarded. */
export function executingReleased(s: WorkerState, ts: TaskState): void {
  const running = ts.state;
  assert(running === "executing" || running === "long-running", s, ts, "released");
  if (s.validate) assert(ts.next === null && !ts.done, s, ts, "released");
  ts.previous = running;
  s.setState(ts, "cancelled");
  s.instructions.push({ kind: "cancel", key: ts.key });
}

/** The task seceded: it keeps its thread, and another task may run beside it. */
export const executingLongRunning: Transition = (s, ts, to) => {
  assert(to.finish === "long-running", s, ts, "long-running");
  s.setState(ts, "long-running");
  s.executing.delete(ts);
  s.longRunning.add(ts);
  s.sendLongRunning(ts, to.computeDuration);
  ensureComputing(s);
};

/** No thread had begun it: see `handleRecalled`. Not in the original. */
export const executingWaits: Transition = (s, ts, to) => {
  assert(!ts.done && !s.executing.has(ts), s, ts, to.finish);
  const { state, heap } =
    ts.resourceRestrictions === null
      ? ({ state: "ready", heap: s.ready } as const)
      : ({ state: "constrained", heap: s.constrained } as const);
  s.setState(ts, state);
  heap.add(ts);
  ensureComputing(s);
};

/** The task raised `Reschedule`; stealing has nothing to do with this. */
export function executingRescheduled(s: WorkerState, ts: TaskState): void {
  assert(ts.done, s, ts, "rescheduled");
  s.sendAboutKey("reschedule", ts);
  // Not by recommending released: that would be executing → released, for tasks that still run.
  genericReleased(s, ts);
}
