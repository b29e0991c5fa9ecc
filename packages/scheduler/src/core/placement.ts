/** Which worker gets a task: the deciders of SchedulerState and `decide_worker`. */
import { keyId } from "@dask-ts/protocol";
import { occupancyOf, totalOccupancy } from "./occupancy.ts";
import type { Restrictions } from "./restrictions.ts";
import type { SchedulerState } from "./state.ts";
import { State } from "./task-status.ts";
import type { TaskState } from "./task-state.ts";
import type { WorkerState } from "./worker-state.ts";

/** From this many workers on, tasks without relations go round robin instead of to the least occupied worker. */
const SMALL_POOL = 20;

/** SchedulerState.is_rootish: part of a group much larger than the cluster, with few or no dependencies. */
export function isRootish(state: SchedulerState, ts: TaskState): boolean {
  // Actors are spread over the workers by their number there, and never queued (Dask only asserts that they are not).
  if (ts.restrictions?.limits || ts.actor) return false;
  if (ts.dataProducer) return true;
  const group = ts.group;
  if (group.size <= state.totalNthreads * 2) return false;
  const { rootishTaskgroup, rootishTaskgroupDependencies } = state.config;
  if (group.dependencies.size >= rootishTaskgroup) return false;
  let sizes = 0;
  for (const dependency of group.dependencies) sizes += dependency.size;
  return sizes < rootishTaskgroupDependencies;
}

/** SchedulerState.decide_worker_rootish_queuing_enabled: the least busy worker with an open slot. */
export function decideWorkerRootishQueuingEnabled(state: SchedulerState): WorkerState | undefined {
  return state.slots.peek();
}

/** SchedulerState.decide_worker_rootish_queuing_disabled: siblings stay together. */
export function decideWorkerRootishQueuingDisabled(state: SchedulerState, ts: TaskState): WorkerState | undefined {
  const pool = state.idle.size > 0 ? state.idle : state.running;
  if (pool.size === 0) return undefined;
  const group = ts.group;
  const last = group.lastWorker;
  let chosen: WorkerState;
  if (
    last !== null &&
    group.lastWorkerTasksLeft > 0 &&
    last.status === "running" &&
    state.workers.get(last.address) === last
  ) {
    chosen = last;
  } else {
    chosen = minByObjective(state, ts, pool) as WorkerState;
    group.lastWorkerTasksLeft = Math.floor((group.size / state.totalNthreads) * chosen.nthreads);
  }
  // Cleared with the group's last task.
  const left = (group.states[State.released] as number) + (group.states[State.waiting] as number);
  group.lastWorker = left > 1 ? chosen : null;
  group.lastWorkerTasksLeft--;
  return chosen;
}

/** SchedulerState.decide_worker_non_rootish. */
export function decideWorkerNonRootish(state: SchedulerState, ts: TaskState): WorkerState | undefined {
  if (state.running.size === 0) return undefined;
  const valid = validWorkers(state, ts);
  const allRunning = state.running.size === state.workers.size;
  if (ts.dependencies.size > 0 || valid !== null || !allRunning) return decideWorker(state, ts, valid);

  const pool = state.idle.size > 0 ? state.idle : state.running;
  const n = pool.size;
  const start = state.assignments % n;
  if (n >= SMALL_POOL) return pool.at(start);
  let best: WorkerState | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (let k = 0; k < n; k++) {
    const ws = pool.at(k);
    const occupancy = occupancyOf(state, ws);
    if (occupancy < least) {
      least = occupancy;
      best = ws;
    }
  }
  if (least === 0) {
    // Round robin among the workers that have nothing to do.
    for (let k = 0; k < n; k++) {
      const ws = pool.at((start + k) % n);
      if (occupancyOf(state, ws) === 0) return ws;
    }
  }
  return best;
}

// Scratch of decideWorker, reused: candidates and the bytes of the task's dependencies that each holds.
const candidates: WorkerState[] = [];
let candidateToken = 0;

/**
 * `decide_worker`: the running holder of a dependency where the task should start soonest.
 *
 * @param valid null: every running worker.
 */
export function decideWorker(
  state: SchedulerState,
  ts: TaskState,
  valid: ReadonlySet<WorkerState> | null,
): WorkerState | undefined {
  const dependencies = ts.dependencies.items;
  let bytes = 0;
  candidates.length = 0;
  const token = ++candidateToken;
  if (!ts.actor) {
    for (let i = 0; i < dependencies.length; i++) {
      const dts = dependencies[i] as TaskState;
      const nbytes = state.nbytesOf(dts);
      bytes += nbytes;
      const holders = dts.whoHas.items;
      for (let j = 0; j < holders.length; j++) {
        const ws = holders[j] as WorkerState;
        if (ws.candidateToken === token) {
          ws.candidateBytes += nbytes;
        } else if (ws.status === "running" && (valid === null || valid.has(ws))) {
          ws.candidateToken = token;
          ws.candidateBytes = nbytes;
          candidates.push(ws);
        }
      }
    }
  }
  if (candidates.length === 1) return candidates[0];
  if (candidates.length > 1) {
    let best: WorkerState | undefined;
    let bestStart = 0;
    for (const ws of candidates) {
      const start = occupancyOf(state, ws) / Math.max(1, ws.nthreads) + (bytes - ws.candidateBytes) / state.bandwidth;
      if (best === undefined || start < bestStart || (start === bestStart && ws.nbytes < best.nbytes)) {
        best = ws;
        bestStart = start;
      }
    }
    return best;
  }
  // Nobody who may run it holds anything.
  if (valid === null) return minByObjective(state, ts, state.running);
  if (valid.size === 0) return ts.restrictions?.loose ? decideWorker(state, ts, null) : undefined;
  return minByObjective(state, ts, valid);
}

function minByObjective(state: SchedulerState, ts: TaskState, pool: Iterable<WorkerState>): WorkerState | undefined {
  let best: WorkerState | undefined;
  let bestStart = 0;
  for (const ws of pool) {
    if (best === undefined) {
      best = ws;
      bestStart = startTime(state, ts, ws);
      continue;
    }
    if (ts.actor && ws.actors.size !== best.actors.size) {
      if (ws.actors.size < best.actors.size) {
        best = ws;
        bestStart = startTime(state, ts, ws);
      }
      continue;
    }
    const start = startTime(state, ts, ws);
    if (start < bestStart || (start === bestStart && ws.nbytes < best.nbytes)) {
      best = ws;
      bestStart = start;
    }
  }
  return best;
}

/** First part of SchedulerState.worker_objective: seconds until the task could start there. */
function startTime(state: SchedulerState, ts: TaskState, ws: WorkerState): number {
  return occupancyOf(state, ws) / Math.max(1, ws.nthreads) + commCost(state, ts, ws);
}

/** SchedulerState.get_comm_cost: seconds to bring the task's missing data to the worker. */
export function commCost(state: SchedulerState, ts: TaskState, ws: WorkerState): number {
  let nbytes = 0;
  for (const dts of ts.dependencies.items) if (!ws.hasWhat.has(dts)) nbytes += state.nbytesOf(dts);
  return nbytes / state.bandwidth;
}

/**
 * SchedulerState.valid_workers: null where the task has no restriction, else the running workers it may use.
 * The answer is kept on the restrictions until a worker comes, goes, or changes status or resources.
 */
export function validWorkers(state: SchedulerState, ts: TaskState): ReadonlySet<WorkerState> | null {
  const restrictions = ts.restrictions;
  if (restrictions === null || !restrictions.limits) return null;
  if (restrictions.validEpoch !== state.validEpoch || restrictions.valid === null) {
    restrictions.valid = computeValidWorkers(state, restrictions);
    restrictions.validEpoch = state.validEpoch;
  }
  return restrictions.valid;
}

function computeValidWorkers(state: SchedulerState, restrictions: Restrictions): Set<WorkerState> {
  let addresses: Set<string> | null = null;
  if (restrictions.workers !== null) {
    addresses = new Set();
    for (const address of restrictions.workers) if (state.workers.has(address)) addresses.add(address);
  }
  if (restrictions.hosts !== null) {
    addresses ??= new Set();
    for (const host of restrictions.hosts) {
      const info = state.hostInfo.get(coerceHostname(state, host));
      if (info !== undefined) for (const address of info.addresses) addresses.add(address);
    }
  }
  if (restrictions.resources !== null) {
    for (const [resource, required] of restrictions.resources) {
      const supplied = state.resources.get(resource);
      const enough = new Set<string>();
      if (supplied !== undefined) {
        for (const [address, amount] of supplied) {
          if (amount >= required && (addresses === null || addresses.has(address))) enough.add(address);
        }
      }
      addresses = enough;
    }
  }
  const valid = new Set<WorkerState>();
  for (const address of addresses ?? []) {
    const ws = state.workers.get(address);
    if (ws !== undefined && ws.status === "running") valid.add(ws);
  }
  return valid;
}

/** SchedulerState.coerce_hostname: a worker's alias stands for its host. */
export function coerceHostname(state: SchedulerState, host: string): string {
  const address = state.aliases.get(keyId(host));
  return (address === undefined ? undefined : state.workers.get(address)?.host) ?? host;
}

/** `_task_slots_available`. */
export function taskSlotsAvailable(state: SchedulerState, ws: WorkerState): number {
  const slots = Math.max(Math.ceil(state.config.workerSaturation * ws.nthreads), 1);
  return slots - (ws.processing.size - ws.longRunning.size);
}

/**
 * SchedulerState.check_idle_saturated: to be called after every change of a worker's processing tasks, occupancy or
 * status. Keeps idle, saturated, and the workers with open slots.
 *
 * @param combined the worker's occupancy, where it is not to be as it stands; seconds.
 */
export function checkIdleSaturated(state: SchedulerState, ws: WorkerState, combined?: number): void {
  if (state.totalNthreads === 0 || ws.status === "closed") return;
  const n = ws.nthreads;
  const p = ws.processing.size;
  if (state.saturated.size !== 0) state.saturated.delete(ws);
  if (ws.status !== "running") {
    state.idle.delete(ws);
    leaveSlots(state, ws);
    return;
  }
  if (p < n) {
    state.idle.add(ws);
  } else {
    const occupancy = combined !== undefined && combined >= 0 ? combined : occupancyOf(state, ws);
    const average = totalOccupancy(state) / state.totalNthreads;
    if (occupancy < (n * average) / 2) {
      state.idle.add(ws);
    } else {
      state.idle.delete(ws);
      if (p > n) {
        const pending = (occupancy * (p - n)) / (p * n);
        if (pending > 0.4 && pending > 1.9 * average) state.saturated.add(ws);
      }
    }
  }
  const infinite = state.config.workerSaturation === Number.POSITIVE_INFINITY;
  const open = infinite ? 0 : taskSlotsAvailable(state, ws);
  if (infinite || open > 0) {
    state.openSlots += open - ws.openSlots;
    ws.openSlots = open;
    state.slots.update(ws);
  } else {
    leaveSlots(state, ws);
  }
}

/** The worker takes no queued task any more: it is full, paused or gone. */
export function leaveSlots(state: SchedulerState, ws: WorkerState): void {
  state.openSlots -= ws.openSlots;
  ws.openSlots = 0;
  state.slots.delete(ws);
}
