/** Transitions out of waiting, ready and constrained towards execution. */
import { ensureComputing } from "../computing.ts";
import { CONSTRAINED } from "../recommendations.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { assert, genericError, type Transition } from "./generic.ts";

export function waitingReady(s: WorkerState, ts: TaskState): void {
  if (s.validate) assertDependenciesStored(s, ts, "ready");
  if (ts.resourceRestrictions !== null) {
    s.recommendations.set(ts, CONSTRAINED);
    return;
  }
  assert(ts.priority !== null, s, ts, "ready");
  s.setState(ts, "ready");
  s.waiting.delete(ts);
  s.ready.add(ts);
  ensureComputing(s);
}

export function waitingConstrained(s: WorkerState, ts: TaskState): void {
  if (s.validate) assertDependenciesStored(s, ts, "constrained");
  s.setState(ts, "constrained");
  s.waiting.delete(ts);
  s.constrained.add(ts);
  ensureComputing(s);
}

/** A dependency cannot be had. The others stay wanted until the scheduler says otherwise. */
export const waitingError: Transition = (s, ts, to) => {
  s.waiting.delete(ts);
  for (const dependency of ts.waitingForData) dependency.waiters.delete(ts);
  ts.waitingForData.clear();
  genericError(s, ts, to);
};

/** The task has left its heap and has its resources: see `ensureComputing`. */
export function readyExecuting(s: WorkerState, ts: TaskState): void {
  if (s.validate) {
    assertDependenciesStored(s, ts, "executing");
    assert(!ts.stored, s, ts, "executing");
  }
  s.setState(ts, "executing");
  ts.startTime = s.now;
  s.execute(ts);
}

function assertDependenciesStored(s: WorkerState, ts: TaskState, to: "ready" | "constrained" | "executing"): void {
  assert(ts.waitingForData.size === 0 && !s.ready.has(ts) && !s.constrained.has(ts), s, ts, to);
  for (const dependency of ts.dependencies) assert(dependency.stored, s, ts, to);
}
