/** Scheduler.remove_worker. */
import { keyId, type Key, type Value } from "@dask-ts/protocol";
import type { RemoveWorkerOptions } from "../api.ts";
import type { Context } from "../context.ts";
import { formatKeys } from "../format.ts";
import { beginEvent } from "../event.ts";
import { removeReplica } from "../occupancy.ts";
import { leaveSlots } from "../placement.ts";
import { queueSlotsMaybeOpened } from "../queue-slots.ts";
import { State } from "../task-status.ts";
import type { TaskState } from "../task-state.ts";
import { drain, transition } from "../transitions/engine.ts";
import type { WorkerState } from "../worker-state.ts";
import { removeResources } from "./resources.ts";
import { refreshNoWorkersSince } from "./worker-status.ts";

export function removeWorker(
  ctx: Context,
  address: string,
  options: RemoveWorkerOptions,
  now: number,
): "OK" | "already-removed" {
  const { state, outbox } = ctx;
  const ws = state.workers.get(address);
  if (ws === undefined) return "already-removed";
  const { stimulusId, expected = false, close = true } = options;
  beginEvent(ctx, stimulusId, now);
  outbox.log("info", `Remove worker addr: ${address} name: ${String(ws.name)} (stimulus_id='${stimulusId}')`);
  if (close) outbox.worker(address, { op: "close", reason: "scheduler-remove-worker" });
  outbox.closeWorker(address);
  leaveCollections(ctx, ws, now);

  const processing: Value[] = [];
  // A copy: a task that is marked as failed leaves at once.
  for (const ts of Array.from(ws.processing)) {
    processing.push(ts.key);
    ctx.recs.set(ts, State.released);
    if (!expected) countDeath(ctx, ts, ws);
  }

  const recompute: Key[] = [];
  const lost: Key[] = [];
  for (const ts of Array.from(ws.hasWhat)) {
    removeReplica(state, ts, ws);
    if (ws.actors.has(ts)) {
      ctx.recs.set(ts, State.erred);
    } else if (ts.whoHas.size === 0) {
      if (ts.runSpec !== null) {
        recompute.push(ts.key);
        ctx.recs.set(ts, State.released);
      } else {
        lost.push(ts.key);
        ctx.recs.set(ts, State.forgotten);
      }
    }
  }
  if (recompute.length > 0) {
    outbox.log(
      "warn",
      `Removing worker '${address}' caused the cluster to lose already computed task(s), which will be ` +
        `recomputed elsewhere: ${formatKeys(recompute)} (stimulus_id='${stimulusId}')`,
    );
  }
  if (lost.length > 0) {
    outbox.log(
      "error",
      `Removing worker '${address}' caused the cluster to lose scattered data, which can't be recovered: ` +
        `${formatKeys(lost)} (stimulus_id='${stimulusId}')`,
    );
  }
  const event = new Map<Value, Value>([
    ["action", "remove-worker"],
    ["processing-tasks", new Set(processing)],
    ["lost-computed-tasks", new Set(recompute as Value[])],
    ["lost-scattered-tasks", new Set(lost as Value[])],
    ["stimulus_id", stimulusId],
    ["expected", expected],
  ]);
  outbox.event(address, event);
  outbox.event("all", new Map([...event, ["worker", address]]));

  drain(ctx);
  // Tasks that needed lost data have left other workers.
  queueSlotsMaybeOpened(ctx);
  refreshNoWorkersSince(ctx, now);
  for (const listener of ctx.listeners.removeWorker) listener(ws, stimulusId, now);
  if (state.workers.size === 0) outbox.log("info", "Lost all workers");

  const message = { op: "remove-worker", worker: address, stimulus_id: stimulusId };
  for (const other of state.workers.keys()) outbox.worker(other, message);
  return "OK";
}

function leaveCollections(ctx: Context, ws: WorkerState, now: number): void {
  const { state } = ctx;
  removeResources(ctx, ws);
  const host = state.hostInfo.get(ws.host);
  if (host !== undefined) {
    host.addresses.delete(ws.address);
    host.nthreads -= ws.nthreads;
    if (host.addresses.size === 0) state.hostInfo.delete(ws.host);
  }
  state.totalMemory -= ws.memoryLimit;
  state.totalNthreads -= ws.nthreads;
  state.totalNthreadsHistory.push([now, state.totalNthreads]);
  state.aliases.delete(keyId(ws.name));
  leaveSlots(state, ws);
  state.saturated.delete(ws);
  state.workers.delete(ws.address);
  // Leaves running and idle as well.
  state.workerOrder.remove(ws);
  state.workersRemoved++;
  state.validEpoch++;
  ws.status = "closed";
  state.bandwidthWorkers.delete(ws.address);
  for (const row of state.bandwidthWorkers.values()) row.delete(ws.address);
}

/** The worker died while it had the task; too many deaths and the task itself is taken to be the cause. */
function countDeath(ctx: Context, ts: TaskState, ws: WorkerState): void {
  const { allowedFailures } = ctx.config;
  ts.suspicious++;
  ts.prefix.suspicious++;
  if (ts.suspicious <= allowedFailures) return;
  ctx.recs.delete(ts);
  transition(ctx, ts, State.erred, {
    exception: ctx.config.makeException({ kind: "KilledWorker", task: ts.key, lastWorker: ws, allowedFailures }),
    cause: ts,
    worker: ws.address,
  });
  ctx.outbox.log(
    "error",
    `Task ${formatKeys([ts.key])} marked as failed because ${ts.suspicious} workers died while trying to run it`,
  );
}
