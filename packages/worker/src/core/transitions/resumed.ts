/**
 * Transitions out of resumed: cancelled, then wanted for the other reason. Runs and is now wanted as a dependency
 * (`executing|long-running → fetch`), or is being transferred and is now to be computed (`flight → waiting`).
 */
import { FETCH, type Recommendation, WAITING } from "../recommendations.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { assert, type Transition, toMemory } from "./generic.ts";

function reset(s: WorkerState, ts: TaskState): void {
  s.setState(ts, "released");
  ts.done = false;
  ts.previous = null;
  ts.next = null;
}

/** The operation has failed: the scheduler hears nothing, what it wants now begins. */
export function resumedError(s: WorkerState, ts: TaskState): void {
  assert(ts.done, s, ts, "error");
  const next: Recommendation = ts.previous === "flight" ? WAITING : FETCH;
  assert(next.finish === ts.next, s, ts, "error");
  reset(s, ts);
  s.recommendations.set(ts, next);
}

export function resumedRescheduled(s: WorkerState, ts: TaskState): void {
  assert(ts.done && ts.previous !== "flight" && ts.next === "fetch", s, ts, "rescheduled");
  reset(s, ts);
  s.recommendations.set(ts, FETCH);
}

export function resumedFetch(s: WorkerState, ts: TaskState): void {
  if (ts.previous !== "flight") {
    // It runs, and fetch is what it was resumed for already.
    if (s.validate) assert(ts.next === "fetch" && !ts.done, s, ts, "fetch");
    return;
  }
  if (s.validate) assert(ts.next === "waiting", s, ts, "fetch");
  if (ts.done) {
    // The transfer brought nothing. No other holder is tried: the scheduler has asked to compute it.
    reset(s, ts);
    s.recommendations.set(ts, WAITING);
  } else {
    s.setState(ts, "flight");
    ts.previous = null;
    ts.next = null;
  }
}

/** The scheduler expects what `next` says: a replica from a run, a computed result from a transfer. */
export const resumedMemory: Transition = (s, ts, to) => {
  const message = ts.previous === "flight" ? "task-finished" : "add-keys";
  ts.previous = null;
  ts.next = null;
  toMemory(s, ts, to, message);
};

export function resumedReleased(s: WorkerState, ts: TaskState): void {
  assert(!ts.done, s, ts, "released");
  s.setState(ts, "cancelled");
  ts.next = null;
}
