/** Transitions out of cancelled: released by the scheduler while an execution or a transfer goes on. */
import { ensureComputing } from "../computing.ts";
import { FETCH, RELEASED } from "../recommendations.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { assert, genericReleased, type Transition } from "./generic.ts";

/** Wanted as a dependency. */
export function cancelledFetch(s: WorkerState, ts: TaskState): void {
  if (ts.previous === "flight") {
    if (ts.done && isWaitedFor(ts)) {
      // The transfer ended without the value, and by the same end another task has begun to wait for it. Dask releases it
      // here, and the other waits for ever.
      s.setState(ts, "released");
      ts.previous = null;
      ts.done = false;
      s.recommendations.set(ts, FETCH);
    } else if (ts.done) {
      // … and nobody wants it.
      s.recommendations.set(ts, RELEASED);
    } else {
      s.setState(ts, "flight");
      ts.previous = null;
    }
    return;
  }
  assert(ts.previous !== null && !ts.done, s, ts, "fetch");
  s.setState(ts, "resumed");
  ts.next = "fetch";
}

function isWaitedFor(ts: TaskState): boolean {
  for (const dependent of ts.dependents) {
    if (dependent.state === "waiting" && dependent.waitingForData.has(ts)) return true;
  }
  return false;
}

/** To be computed. */
export function cancelledWaiting(s: WorkerState, ts: TaskState): void {
  assert(ts.previous !== null && !ts.done, s, ts, "waiting");
  if (ts.previous === "flight") {
    s.setState(ts, "resumed");
    ts.next = "waiting";
    return;
  }
  const running = ts.previous;
  s.setState(ts, running);
  ts.previous = null;
  // The scheduler does not know that this run has seceded. It may hear so twice.
  if (running === "long-running") s.sendLongRunning(ts, null);
}

/** The end of the operation: whatever came of it is discarded, and the scheduler hears nothing. Before: no-op. */
export const cancelledReleased: Transition = (s, ts, to) => {
  if (!ts.done) {
    // update_data meanwhile: the value is refused.
    if (to.finish === "memory") s.drop(ts.key);
    return;
  }
  ts.previous = null;
  ts.done = false;
  if (to.finish === "memory") ts.stored = true;
  genericReleased(s, ts);
};

/** Frees the thread. The scheduler is told if and when the task is wanted again; see `cancelledWaiting`. */
export function cancelledOrResumedLongRunning(s: WorkerState, ts: TaskState): void {
  assert(ts.previous === "executing" || ts.previous === "long-running", s, ts, "long-running");
  ts.previous = "long-running";
  s.executing.delete(ts);
  s.longRunning.add(ts);
  ensureComputing(s);
}
