/** Transitions out of fetch, flight and missing. */
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import {
  assert,
  genericError,
  genericFetch,
  genericMissing,
  genericReleased,
  releasedWaiting,
  type Transition,
  toMemory,
} from "./generic.ts";

/** The task has left the heaps of its holders: see `ensureCommunicating`. */
export const fetchFlight: Transition = (s, ts, to) => {
  assert(to.finish === "flight", s, ts, "flight");
  const peer = s.peer(to.worker);
  if (s.validate) {
    assert(ts.whoHas.has(peer), s, ts, "flight");
    for (const holder of ts.whoHas) assert(!holder.needed.has(ts), s, ts, "flight");
  }
  ts.done = false;
  s.setState(ts, "flight");
  ts.comingFrom = peer;
  s.inFlightTasks.add(ts);
  s.fetchCount--;
};

export function fetchMissing(s: WorkerState, ts: TaskState): void {
  s.fetchCount--;
  genericMissing(s, ts);
}

export function fetchReleased(s: WorkerState, ts: TaskState): void {
  s.fetchCount--;
  genericReleased(s, ts);
}

/** While the transfer runs this is no news; after it, another holder is tried. */
export function flightFetch(s: WorkerState, ts: TaskState): void {
  if (ts.done) genericFetch(s, ts);
}

export function flightMissing(s: WorkerState, ts: TaskState): void {
  assert(ts.done, s, ts, "missing");
  genericMissing(s, ts);
}

/** The value has come and cannot be opened, here or after another transfer: what waits for it errs with it. */
export const flightError: Transition = (s, ts, to) => {
  genericError(s, ts, to);
  if (!s.errWithDependencies || to.finish !== "error") return;
  for (const dependent of ts.dependents) {
    if (dependent.state === "waiting") s.recommendations.set(dependent, { ...to, runId: dependent.runId });
  }
};

export const flightMemory: Transition = (s, ts, to) => toMemory(s, ts, to, "add-keys");

/** A transfer is not stopped: the task is cancelled until it has ended. */
export function flightReleased(s: WorkerState, ts: TaskState): void {
  assert(!ts.done, s, ts, "released");
  ts.previous = "flight";
  ts.next = null;
  s.setState(ts, "cancelled");
}

export function missingFetch(s: WorkerState, ts: TaskState): void {
  if (ts.whoHas.size === 0) return;
  s.missingDepFlight.delete(ts);
  genericFetch(s, ts);
}

export function missingReleased(s: WorkerState, ts: TaskState): void {
  s.missingDepFlight.delete(ts);
  genericReleased(s, ts);
}

export function missingWaiting(s: WorkerState, ts: TaskState): void {
  s.purge(ts);
  releasedWaiting(s, ts);
}
