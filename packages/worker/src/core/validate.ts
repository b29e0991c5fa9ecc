/** Invariants of tasks and of the whole state. Mirrors `WorkerState.validate_task` and `validate_state`. */
import { InvalidTaskState } from "./errors.ts";
import { STATES, type TaskState, type TaskStateName } from "./task-state.ts";
import type { WorkerState } from "./worker-state.ts";

function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what);
}

/** @throws {InvalidTaskState} with the task's story. */
export function validateTask(s: WorkerState, ts: TaskState): void {
  try {
    const known = s.tasks.get(ts.id);
    check(known === undefined || known === ts, "another task has this key");
    VALIDATORS[ts.state](s, ts);
  } catch (error) {
    throw new InvalidTaskState(ts.key, ts.state, s.story([ts.key]), error);
  }
}

type Validator = (s: WorkerState, ts: TaskState) => void;

const VALIDATORS: Readonly<Record<TaskStateName, Validator>> = {
  released: validateReleased,
  waiting: validateWaiting,
  ready: validateReady,
  constrained: validateReady,
  executing: validateExecuting,
  "long-running": validateExecuting,
  memory: validateMemory,
  error: validateError,
  fetch: validateFetch,
  flight: validateFlight,
  missing: validateMissing,
  cancelled: validateCancelled,
  resumed: validateResumed,
  rescheduled: () => check(false, "rescheduled is passed through only"),
  forgotten: (s, ts) => check(!s.tasks.has(ts.id) && !ts.stored, "still known"),
};

function validateMemory(_: WorkerState, ts: TaskState): void {
  check(ts.stored, "no value is stored");
  check(ts.nbytes !== null && Number.isFinite(ts.nbytes), "no size");
  check(ts.waitingForData.size === 0, "waits for data");
}

function validateError(s: WorkerState, ts: TaskState): void {
  check(!ts.stored, "a value is stored");
  check(!s.executing.has(ts) && !s.longRunning.has(ts) && !s.inFlightTasks.has(ts), "still runs");
}

function validateExecuting(s: WorkerState, ts: TaskState): void {
  const seceded = ts.state === "long-running" || (ts.state !== "executing" && ts.previous === "long-running");
  check(s.executing.has(ts) !== seceded, "executing is wrong");
  check(s.longRunning.has(ts) === seceded, "longRunning is wrong");
  check(ts.runSpec !== null, "no run_spec");
  check(!ts.stored, "a value is stored");
  check(ts.waitingForData.size === 0, "waits for data");
  noDependentReady(s, ts);
}

function validateReady(s: WorkerState, ts: TaskState): void {
  const constrained = ts.state === "constrained";
  check((ts.resourceRestrictions !== null) === constrained, "restrictions do not fit the state");
  check(s.ready.has(ts) !== constrained && s.constrained.has(ts) === constrained, "in the wrong heap");
  check(!ts.stored && !ts.done, "has ended already");
  check(ts.waitingForData.size === 0, "waits for data");
  for (const dependency of ts.dependencies) check(dependency.stored, "a dependency is not stored");
}

function validateWaiting(s: WorkerState, ts: TaskState): void {
  check(!ts.stored && !ts.done, "has ended already");
  check(s.waiting.has(ts), "not among the waiting");
  check(ts.waitingForData.size > 0, "waits for nothing");
  for (const dependency of ts.dependencies) {
    check(ts.waitingForData.has(dependency) === !dependency.stored, "waitingForData is wrong");
  }
  noDependentReady(s, ts);
}

function validateFlight(s: WorkerState, ts: TaskState): void {
  check(!ts.stored, "a value is stored");
  check(s.inFlightTasks.has(ts), "not among the tasks in flight");
  noDependentReady(s, ts);
  check(ts.comingFrom?.inFlight?.includes(ts) === true, "not in the transfer that it comes with");
}

function validateFetch(s: WorkerState, ts: TaskState): void {
  check(!ts.stored && !ts.done, "has ended already");
  check(ts.whoHas.size > 0, "nobody has it");
  for (const peer of ts.whoHas) {
    check(peer.address !== s.address, "would be fetched from here");
    check(peer.hasWhat.has(ts) && peer.needed.has(ts), "not needed from a holder");
  }
  noDependentReady(s, ts);
}

function validateMissing(s: WorkerState, ts: TaskState): void {
  check(!ts.stored && !ts.done, "has ended already");
  check(ts.whoHas.size === 0, "somebody has it");
  check(s.missingDepFlight.has(ts), "not among the missing");
  noDependentReady(s, ts);
}

function validateCancelled(s: WorkerState, ts: TaskState): void {
  check(ts.next === null, "next is set");
  if (ts.previous === "flight") validateFlight(s, ts);
  else check(ts.previous !== null, "previous is not set");
  if (ts.previous !== "flight") validateExecuting(s, ts);
}

function validateResumed(s: WorkerState, ts: TaskState): void {
  if (ts.previous === "flight") {
    check(ts.next === "waiting", "next is wrong");
    validateFlight(s, ts);
  } else {
    check(ts.next === "fetch", "next is wrong");
    validateExecuting(s, ts);
  }
}

function validateReleased(s: WorkerState, ts: TaskState): void {
  check(!ts.stored, "a value is stored");
  check(ts.next === null && ts.previous === null && !ts.done, "an operation is not forgotten");
  for (const peer of ts.whoHas) check(!peer.needed.has(ts), "needed from a holder");
  check(!s.executing.has(ts) && !s.inFlightTasks.has(ts) && !s.missingDepFlight.has(ts), "in a collection");
  check(ts.waitingForData.size === 0, "waits for data");
  check(ts.exception === null && ts.traceback === null, "an error is not forgotten");
}

function noDependentReady(s: WorkerState, ts: TaskState): void {
  for (const dependent of ts.dependents) {
    check(!s.ready.has(dependent) && !s.constrained.has(dependent), "a dependent is ready");
  }
}

/** Looks at everything; linear in all tasks. @throws {Error} where an invariant does not hold. */
export function validateState(s: WorkerState): void {
  const counts = new Map<string, number>();
  let nbytes = 0;
  for (const ts of s.tasks.values()) {
    const slot = `${ts.prefix.name}\0${ts.state}`;
    counts.set(slot, (counts.get(slot) ?? 0) + 1);
    if (ts.stored) nbytes += ts.nbytes ?? 0;
    for (const peer of ts.whoHas) {
      check(peer.hasWhat.has(ts) && s.peers.get(peer.address) === peer, `has_what misses ${ts.id}`);
    }
    for (const dependency of ts.dependencies) {
      check(s.tasks.get(dependency.id) === dependency, `a dependency of ${ts.id} is not known`);
      check(dependency.dependents.has(ts), `${ts.id} is no dependent of its dependency`);
    }
    for (const dependency of ts.waitingForData) {
      check(s.tasks.get(dependency.id) === dependency, `${ts.id} waits for what is not known`);
      check(WAITED_FOR.has(dependency.state), `${ts.id} waits for a task in state ${dependency.state}`);
    }
  }
  check(s.nbytes === nbytes, `nbytes is ${s.nbytes} instead of ${nbytes}`);
  for (const { prefix, state, count } of s.counter.byPrefixAndState()) {
    check(count === (counts.get(`${prefix.name}\0${state}`) ?? 0), `${prefix.name} has ${count} tasks in ${state}`);
  }
  validatePeers(s);
  validateCollections(s);
  validateResources(s);
  for (const ts of s.tasks.values()) validateTask(s, ts);
}

/** What a task in `waitingForData` may be: also erred, where its value could not be opened after a transfer. */
const WAITED_FOR: ReadonlySet<TaskStateName> = new Set(
  STATES.filter((state) => !["released", "memory", "cancelled", "rescheduled", "forgotten"].includes(state)),
);

function validatePeers(s: WorkerState): void {
  const fetching = new Set<TaskState>();
  let inFlight = 0;
  for (const [address, peer] of s.peers) {
    check(address !== s.address, "this worker is its own peer");
    check(!peer.idle, `peer ${address} is not forgotten`);
    if (peer.inFlight !== null) inFlight++;
    for (const ts of peer.hasWhat) check(s.tasks.get(ts.id) === ts && ts.whoHas.has(peer), `who_has misses ${address}`);
    for (const ts of peer.needed.items()) {
      fetching.add(ts);
      check(ts.state === "fetch" && ts.whoHas.has(peer), `${ts.id} is needed in state ${ts.state}`);
    }
    const gatherable = peer.needed.size > 0 && peer.inFlight === null && !peer.busy;
    check(s.gatherable.has(peer) === gatherable, `gatherable is wrong for ${address}`);
  }
  for (const peer of s.gatherable) check(s.peers.get(peer.address) === peer, "a forgotten peer is gatherable");
  check(fetching.size === s.fetchCount, `fetchCount is ${s.fetchCount} instead of ${fetching.size}`);
  check(inFlight === s.inFlightWorkersCount, "inFlightWorkersCount is wrong");
  check(inFlight > 0 || s.transferIncomingBytes === 0, "bytes are incoming from nobody");
}

function validateCollections(s: WorkerState): void {
  const each = (name: string, collection: Iterable<TaskState>, allowed: (ts: TaskState) => boolean): void => {
    for (const ts of collection) {
      check(s.tasks.get(ts.id) === ts, `${name} holds a forgotten ${ts.id}`);
      check(allowed(ts), `${name} holds ${ts.id} in state ${ts.state}`);
    }
  };
  const doing = (what: "executing" | "long-running" | "flight") => (ts: TaskState) =>
    ts.state === what || ((ts.state === "cancelled" || ts.state === "resumed") && ts.previous === what);
  // update_data may give a value to a task that runs.
  const orStored = (allowed: (ts: TaskState) => boolean) => (ts: TaskState) => allowed(ts) || ts.stored;
  each("missingDepFlight", s.missingDepFlight, (ts) => ts.state === "missing");
  each("ready", s.ready.items(), (ts) => ts.state === "ready");
  each("constrained", s.constrained.items(), (ts) => ts.state === "constrained");
  each("waiting", s.waiting, (ts) => ts.state === "waiting");
  each("executing", s.executing, orStored(doing("executing")));
  each("longRunning", s.longRunning, orStored(doing("long-running")));
  each("inFlightTasks", s.inFlightTasks, orStored(doing("flight")));
}

/** What is available and what running tasks hold make up the totals. */
function validateResources(s: WorkerState): void {
  const left = new Map(s.totalResources);
  const take = (resource: string, amount: number): void => void left.set(resource, (left.get(resource) ?? 0) - amount);
  for (const [resource, amount] of s.availableResources) {
    check(amount > -1e-9, `${amount} of ${resource} available`);
    take(resource, amount);
  }
  for (const running of [s.executing, s.longRunning]) {
    for (const ts of running) {
      for (const [resource, amount] of ts.resourceRestrictions ?? []) take(resource, amount);
    }
  }
  for (const [resource, amount] of left) check(Math.abs(amount) < 1e-9, `${amount} of ${resource} unaccounted for`);
}
