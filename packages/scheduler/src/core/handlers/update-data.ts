/** Scheduler.update_data: data that came from outside (scatter). */
import { asNumber, isKey, type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { Context } from "../context.ts";
import { BadMessageError } from "../errors.ts";
import { beginEvent } from "../event.ts";
import { addReplica, setNbytes } from "../occupancy.ts";
import { queueSlotsMaybeOpened } from "../queue-slots.ts";
import { reportToWanting } from "../report.ts";
import { setState, type TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";
import { dependentsReady, leaveWaiters, recommendUnwanted } from "../transitions/common.ts";
import { drain, transition } from "../transitions/engine.ts";
import type { WorkerState } from "../worker-state.ts";
import { clientDesiresKeys, clientOf } from "./client-keys.ts";

/** Stream op `update-data`. */
export function onUpdateData(ctx: Context, client: string, message: Message, now: number): void {
  beginEvent(ctx, `update-data-${now}`, now);
  const whoHas = message.who_has;
  const nbytes = message.nbytes;
  updateData(
    ctx,
    whoHas instanceof Map ? whoHas : new Map(),
    nbytes instanceof Map ? nbytes : new Map(),
    clientOf(client, message),
  );
}

/** @throws {BadMessageError} for an unknown worker or a bad key, before anything is changed. */
export function updateData(
  ctx: Context,
  whoHas: ReadonlyMap<Value, Value>,
  nbytes: ReadonlyMap<Value, Value>,
  client: string | null,
): void {
  const { state } = ctx;
  const sizes = new Map<string, number>();
  for (const [key, size] of nbytes) sizes.set(keyId(key), asNumber(size, -1));
  const entries: [Key, WorkerState[]][] = [];
  for (const [key, addresses] of whoHas) {
    if (!isKey(key) || !Array.isArray(addresses)) throw new BadMessageError("update-data: bad who_has");
    const holders = (addresses as readonly Value[]).map((address) => {
      const text = String(address);
      const ws = state.workers.get(state.aliases.get(keyId(address)) ?? text);
      if (ws === undefined) throw new BadMessageError(`update-data: unknown worker ${text}`);
      return ws;
    });
    entries.push([key, holders]);
  }
  for (const [key, holders] of entries) {
    const id = keyId(key);
    let ts = state.tasks.get(id);
    if (ts === undefined) ts = state.newTask(key, id, null, State.memory, null);
    else if (ts.code !== State.memory) leaveForData(ctx, ts);
    const size = sizes.get(id) ?? -1;
    if (size >= 0) setNbytes(state, ts, size);
    for (const ws of holders) addReplica(state, ts, ws);
    setState(ts, State.memory);
    dependentsReady(ctx, ts);
    const message = { op: "key-in-memory", key: key as Value, workers: holders.map((ws) => ws.address) };
    reportToWanting(ctx, ts, message, null);
    drain(ctx);
  }
  queueSlotsMaybeOpened(ctx);
  if (client === null) return;
  const keys = entries.map(([key]) => key);
  if (state.clients.has(client)) {
    clientDesiresKeys(ctx, keys, client);
    return;
  }
  // The client has left while its data was on the way. Dask keeps the data for ever, for a client that nobody is.
  for (const key of keys) {
    const ts = state.taskOf(key);
    if (ts !== undefined) recommendUnwanted(ctx, ts);
  }
  drain(ctx);
}

/**
 * A task that was on its way gets its value from outside. Dask overwrites the state and leaves the task in the
 * containers of the old one; here it leaves them first.
 */
function leaveForData(ctx: Context, ts: TaskState): void {
  if (ts.code !== State.released) {
    transition(ctx, ts, State.released);
    ctx.recs.delete(ts);
  }
  for (const dts of ts.dependencies.items) {
    if (dts.waiters.has(ts)) leaveWaiters(ctx, ts, dts);
  }
}
