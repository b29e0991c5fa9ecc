/**
 * Durations and occupancy. Every sum is updated where one of its parts changes; the only sum computed on demand is
 * that of one worker, over the prefixes it is processing.
 */
import { emptySet } from "./few-set.ts";
import type { SchedulerState } from "./state.ts";
import type { TaskGroup } from "./task-group.ts";
import type { TaskPrefix } from "./task-prefix.ts";
import type { TaskState } from "./task-state.ts";
import type { WorkerState } from "./worker-state.ts";

/** WorkerState.occupancy, seconds. */
export function occupancyOf(state: SchedulerState, ws: WorkerState): number {
  let sum = 0;
  for (const [prefix, count] of ws.prefixCounts) sum += prefix.estimate * count;
  return sum + ws.networkOcc / state.bandwidth;
}

/** SchedulerState.total_occupancy, seconds. */
export function totalOccupancy(state: SchedulerState): number {
  return Math.max(0, state.computeOccupancy + state.networkOcc / state.bandwidth);
}

/** After duration_average or max_exec_time changed (SchedulerState._get_prefix_duration). */
function updateEstimate(state: SchedulerState, prefix: TaskPrefix): void {
  let estimate = prefix.durationAverage;
  if (estimate < 0) estimate = prefix.maxExecTime > 0 ? 2 * prefix.maxExecTime : state.config.unknownTaskDuration;
  state.computeOccupancy += (estimate - prefix.estimate) * prefix.processing;
  prefix.estimate = estimate;
}

/** First value as it is, later the mean of old and new. */
export function addDurationSample(state: SchedulerState, prefix: TaskPrefix, seconds: number): void {
  const old = prefix.durationAverage;
  prefix.durationAverage = old < 0 ? seconds : 0.5 * seconds + 0.5 * old;
  updateEstimate(state, prefix);
}

/** TaskPrefix.add_exec_time: a running task that takes twice the average makes the average unknown. */
export function addExecTime(state: SchedulerState, prefix: TaskPrefix, seconds: number): void {
  if (seconds > prefix.maxExecTime) prefix.maxExecTime = seconds;
  if (seconds > 2 * prefix.durationAverage) prefix.durationAverage = -1;
  updateEstimate(state, prefix);
}

/** TaskGroup.add_duration and TaskPrefix.add_duration. */
export function addDuration(
  state: SchedulerState,
  group: TaskGroup,
  action: string,
  start: number,
  stop: number,
): void {
  const us = Math.max(Math.round((stop - start) * 1e6), 0);
  const prefix = group.prefix;
  group.durationUs += us;
  group.allDurationsUs.set(action, (group.allDurationsUs.get(action) ?? 0) + us);
  prefix.durationUs += us;
  prefix.allDurationsUs.set(action, (prefix.allDurationsUs.get(action) ?? 0) + us);
  if (action === "compute") {
    if (group.stop < stop) group.stop = stop;
    if (group.start === 0 || group.start > start) group.start = start;
    addDurationSample(state, prefix, us / 1e6);
  }
}

/** WorkerState.add_to_processing. */
export function addToProcessing(state: SchedulerState, ws: WorkerState, ts: TaskState): void {
  const prefix = ts.group.prefix;
  ws.prefixCounts.set(prefix, (ws.prefixCounts.get(prefix) ?? 0) + 1);
  prefix.processing++;
  state.processingTasks++;
  state.computeOccupancy += prefix.estimate;
  ws.processing.add(ts);
  const dependencies = ts.dependencies.items;
  for (let i = 0; i < dependencies.length; i++) {
    const dts = dependencies[i] as TaskState;
    if (!dts.whoHas.has(ws)) incNeedsReplica(state, ws, dts);
  }
}

/** WorkerState.add_to_long_running: no occupancy, no slot, but still processing. */
export function addToLongRunning(state: SchedulerState, ws: WorkerState, ts: TaskState): void {
  removeFromPrefixCount(state, ws, ts);
  ws.longRunning.add(ts);
}

/** WorkerState.remove_from_processing. */
export function removeFromProcessing(state: SchedulerState, ws: WorkerState, ts: TaskState): void {
  if (ws.longRunning.size === 0 || !ws.longRunning.delete(ts)) removeFromPrefixCount(state, ws, ts);
  ws.processing.delete(ts);
  if (ws.needsWhat.size === 0) return;
  const dependencies = ts.dependencies.items;
  for (let i = 0; i < dependencies.length; i++) {
    const dts = dependencies[i] as TaskState;
    const count = ws.needsWhat.get(dts);
    if (count === undefined) continue;
    if (count > 1) ws.needsWhat.set(dts, count - 1);
    else dropNeedsReplica(state, ws, dts);
  }
}

function removeFromPrefixCount(state: SchedulerState, ws: WorkerState, ts: TaskState): void {
  const prefix = ts.group.prefix;
  const count = (ws.prefixCounts.get(prefix) ?? 0) - 1;
  if (count > 0) ws.prefixCounts.set(prefix, count);
  else ws.prefixCounts.delete(prefix);
  prefix.processing--;
  state.processingTasks--;
  // Rounding of the many additions must not leave a rest when nothing is processing.
  state.computeOccupancy = state.processingTasks === 0 ? 0 : state.computeOccupancy - prefix.estimate;
}

function incNeedsReplica(state: SchedulerState, ws: WorkerState, ts: TaskState): void {
  const count = ws.needsWhat.get(ts);
  if (count !== undefined) {
    ws.needsWhat.set(ts, count + 1);
    return;
  }
  ws.needsWhat.set(ts, 1);
  const nbytes = state.nbytesOf(ts);
  ws.networkOcc += nbytes;
  state.networkOcc += nbytes;
}

function dropNeedsReplica(state: SchedulerState, ws: WorkerState, ts: TaskState): void {
  ws.needsWhat.delete(ts);
  // The size may have changed meanwhile (recomputed with another result), hence the floor at 0.
  const nbytes = state.nbytesOf(ts);
  ws.networkOcc -= Math.min(nbytes, ws.networkOcc);
  state.networkOcc -= Math.min(nbytes, state.networkOcc);
}

/** The data is gone for good, and with it the need of the worker's tasks for it. */
export function forgetNeed(state: SchedulerState, ws: WorkerState, ts: TaskState): void {
  if (ws.needsWhat.has(ts)) dropNeedsReplica(state, ws, ts);
}

/** SchedulerState.add_replica. */
export function addReplica(state: SchedulerState, ts: TaskState, ws: WorkerState): void {
  if (ts.whoHas.has(ws)) return;
  if (ws.needsWhat.size !== 0 && ws.needsWhat.has(ts)) dropNeedsReplica(state, ws, ts);
  ts.whoHas = ts.whoHas.plus(ws);
  ws.nbytes += state.nbytesOf(ts);
  ws.hasWhat.add(ts);
  if (ts.whoHas.size === 2) state.replicatedTasks.add(ts);
}

/** SchedulerState.remove_replica. */
export function removeReplica(state: SchedulerState, ts: TaskState, ws: WorkerState): void {
  if (!ts.whoHas.delete(ws)) return;
  ws.nbytes -= state.nbytesOf(ts);
  ws.hasWhat.delete(ts);
  if (ts.whoHas.size === 1) state.replicatedTasks.delete(ts);
}

/** SchedulerState.remove_all_replicas. */
export function removeAllReplicas(state: SchedulerState, ts: TaskState): void {
  const holders = ts.whoHas.items;
  if (holders.length === 0) return;
  const nbytes = state.nbytesOf(ts);
  for (const ws of holders) {
    ws.nbytes -= nbytes;
    ws.hasWhat.delete(ts);
  }
  if (holders.length > 1) state.replicatedTasks.delete(ts);
  ts.whoHas = emptySet();
}

/** TaskState.set_nbytes. */
export function setNbytes(state: SchedulerState, ts: TaskState, nbytes: number): void {
  const old = ts.nbytes;
  const diff = old >= 0 ? nbytes - old : nbytes;
  ts.group.nbytesTotal += diff;
  ts.group.prefix.nbytesTotal += diff;
  const heldDiff = old >= 0 ? diff : nbytes - state.config.defaultDataSize;
  for (const ws of ts.whoHas) ws.nbytes += heldDiff;
  ts.nbytes = nbytes;
}
