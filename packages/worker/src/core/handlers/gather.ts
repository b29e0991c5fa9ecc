/** The end of transfers, and what is learnt about peers. */
import { float, type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { ErrorFields, GatherFailureEvent, GatherSuccessEvent, StoredValue } from "../events.ts";
import type { Peer } from "../peer.ts";
import { FETCH, MISSING } from "../recommendations.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { textField } from "./fields.ts";

/** The transfer from this worker is over. Its tasks are in flight, cancelled or resumed; after `update_data` also in memory. */
function gatherDone(s: WorkerState, worker: string, totalNbytes: number): { peer: Peer; tasks: readonly TaskState[] } {
  const peer = s.peers.get(worker);
  if (peer === undefined || peer.inFlight === null) throw new Error(`no transfer from ${worker} is under way`);
  const tasks = peer.inFlight;
  peer.inFlight = null;
  s.inFlightWorkersCount--;
  s.transferIncomingBytes -= totalNbytes;
  s.updateGatherable(peer);
  s.gatherDirty = true;
  for (const ts of tasks) {
    ts.done = true;
    ts.comingFrom = null;
    s.inFlightTasks.delete(ts);
  }
  return { peer, tasks };
}

/** Mirrors `_handle_gather_dep_success`. The reply may hold fewer keys than were asked for. */
export function handleGatherSuccess(s: WorkerState, event: GatherSuccessEvent): void {
  const { peer, tasks } = gatherDone(s, event.worker, event.totalNbytes);
  if (event.start !== undefined && event.stop !== undefined && tasks.length > 0) {
    transferCause(tasks).startstops.push({
      action: "transfer",
      start: float(event.start),
      stop: float(event.stop),
      source: event.worker,
    });
  }
  s.log.push([
    "receive-dep",
    event.worker,
    event.received.map((value) => value.key as Value),
    s.stimulusId,
    float(s.now),
  ]);
  const received = new Map<string, StoredValue>();
  for (const value of event.received) received.set(keyId(value.key), value);
  const failed = new Map<string, ErrorFields>();
  for (const { key, error } of event.failed ?? []) failed.set(keyId(key), error);

  for (const ts of tasks) {
    const value = received.get(ts.id);
    const error = failed.get(ts.id);
    if (value !== undefined) {
      received.delete(ts.id);
      const { nbytes, type, typename } = value;
      s.recommendations.set(ts, { finish: "memory", nbytes, type, typename, runId: ts.runId });
    } else if (ts.state === "memory") {
      // update_data was faster.
    } else if (error !== undefined) {
      s.recommendations.set(ts, { finish: "error", error, runId: ts.runId });
    } else {
      s.log.push([ts.key, "missing-dep", s.stimulusId, float(s.now)]);
      s.removeHolder(ts, peer);
      s.recommendations.set(ts, FETCH);
    }
  }
  // Values that nobody asked for.
  for (const value of received.values()) if (s.task(value.key)?.stored !== true) s.drop(value.key);
  s.forgetIdlePeer(peer);
}

/** A transfer is booked on one task: one that uses what was fetched, if there is any. Mirrors `Worker._get_cause`. */
function transferCause(tasks: readonly TaskState[]): TaskState {
  let cause = tasks[0] as TaskState;
  for (const ts of tasks) {
    for (const dependent of ts.dependents) return dependent;
    cause = ts;
  }
  return cause;
}

/** Leaves the peer alone for a while; another holder is asked at once. Mirrors `_handle_gather_dep_busy`. */
export function handleGatherBusy(s: WorkerState, worker: string, totalNbytes: number): void {
  const { peer, tasks } = gatherDone(s, worker, totalNbytes);
  peer.busy = true;
  s.updateGatherable(peer);
  const refresh: Key[] = [];
  for (const ts of tasks) {
    if (ts.state === "memory") continue;
    s.recommendations.set(ts, FETCH);
    if (allBusy(ts)) refresh.push(ts.key);
  }
  s.instructions.push({ kind: "retry-busy-worker-later", worker, stimulusId: s.stimulusId });
  if (refresh.length > 0) s.sendRequestRefreshWhoHas(refresh);
}

function allBusy(ts: TaskState): boolean {
  for (const peer of ts.whoHas) if (!peer.busy) return false;
  return true;
}

export function handleRetryBusyWorker(s: WorkerState, worker: string): void {
  const peer = s.peers.get(worker);
  if (peer === undefined) return;
  peer.busy = false;
  s.updateGatherable(peer);
  s.gatherDirty = true;
  s.forgetIdlePeer(peer);
}

/** The peer is taken for dead: it holds nothing any more. Mirrors `_handle_gather_dep_network_failure`. */
export function handleGatherNetworkFailure(s: WorkerState, worker: string, totalNbytes: number): void {
  const { peer, tasks } = gatherDone(s, worker, totalNbytes);
  for (const ts of tasks) {
    if (ts.state === "memory") continue;
    s.log.push([ts.key, "missing-dep", s.stimulusId, float(s.now)]);
    s.recommendations.set(ts, FETCH);
  }
  removePeer(s, peer);
}

/** Mirrors `_handle_gather_dep_failure`. */
export function handleGatherFailure(s: WorkerState, event: GatherFailureEvent): void {
  const { peer, tasks } = gatherDone(s, event.worker, event.totalNbytes);
  for (const ts of tasks) {
    if (ts.state === "memory") continue;
    s.recommendations.set(ts, { finish: "error", error: event.error, runId: ts.runId });
  }
  s.forgetIdlePeer(peer);
}

/** Mirrors `_handle_remove_worker`. A transfer from it that is under way ends by itself. */
export function handleRemoveWorker(s: WorkerState, message: Message): void {
  const peer = s.peers.get(textField(message, "worker"));
  if (peer !== undefined) removePeer(s, peer);
}

function removePeer(s: WorkerState, peer: Peer): void {
  for (const ts of peer.needed.items()) if (ts.whoHas.size === 1) s.recommendations.set(ts, MISSING);
  for (const ts of peer.hasWhat) {
    s.removeNeeded(peer, ts);
    ts.whoHas.delete(peer);
  }
  peer.hasWhat.clear();
  s.forgetIdlePeer(peer);
}
