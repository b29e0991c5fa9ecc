/** What workers say about data they hold: add-keys, release-worker-data, request-refresh-who-has. */
import { type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import { type Context, freeOnWorker, sendToWorker } from "../context.ts";
import { beginEvent } from "../event.ts";
import { keyField, keysField, textField } from "../fields.ts";
import { freeKeys } from "../messages.ts";
import { addReplica, removeReplica } from "../occupancy.ts";
import { queueSlotsMaybeOpened } from "../queue-slots.ts";
import { State } from "../task-status.ts";
import { transitions } from "../transitions/engine.ts";

/** Stream op `add-keys`. */
export function onAddKeys(ctx: Context, worker: string, message: Message, now: number): void {
  const keys = keysField(message, "keys");
  const stimulusId = textField(message, "stimulus_id", `redundant-replicas-${now}`);
  beginEvent(ctx, stimulusId, now);
  addKeys(ctx, worker, keys, stimulusId);
}

/** Scheduler.add_keys: the worker got replicas; those that nobody keeps any more are sent back. */
export function addKeys(ctx: Context, worker: string, keys: readonly Key[], stimulusId: string): "OK" | "not found" {
  const ws = ctx.state.workers.get(worker);
  if (ws === undefined) return "not found";
  const redundant: Key[] = [];
  for (const key of keys) {
    const ts = ctx.state.tasks.get(keyId(key));
    if (ts !== undefined && ts.code === State.memory) addReplica(ctx.state, ts, ws);
    else redundant.push(key);
  }
  if (redundant.length > 0) {
    sendToWorker(ctx, worker, { op: "remove-replicas", keys: redundant, stimulus_id: stimulusId });
  }
  return "OK";
}

/** Scheduler.release_worker_data. */
export function onReleaseWorkerData(ctx: Context, worker: string, message: Message, now: number): void {
  const key = keyField(message, "key");
  const stimulusId = textField(message, "stimulus_id");
  beginEvent(ctx, stimulusId, now);
  const ts = ctx.state.tasks.get(keyId(key));
  const ws = ctx.state.workers.get(worker);
  if (ts === undefined || ws === undefined || !ts.whoHas.has(ws)) return;
  removeReplica(ctx.state, ts, ws);
  // It may be about an older value of that key, freed on our order just before this one was scattered to the worker. Both
  // sides must mean the same, or the worker keeps this one for ever (as with Dask).
  freeOnWorker(ctx, worker, ts);
  if (ts.whoHas.size > 0) return;
  transitions(ctx, ts, State.released, stimulusId);
  // Tasks that needed it have left their workers.
  queueSlotsMaybeOpened(ctx);
}

/** Scheduler.handle_request_refresh_who_has. */
export function onRequestRefreshWhoHas(ctx: Context, worker: string, message: Message, now: number): void {
  const keys = keysField(message, "keys");
  const stimulusId = textField(message, "stimulus_id");
  beginEvent(ctx, stimulusId, now);
  const whoHas = new Map<Value, Value>();
  const unknown: Key[] = [];
  for (const key of keys) {
    const ts = ctx.state.tasks.get(keyId(key));
    // Nobody has it: then no task that needs it is with any worker. A worker that looks for it was fetching it for a task
    // that was taken back, and may still think that one it has run waits for it (Dask lets it ask for ever).
    if (ts === undefined || (ts.whoHas.size === 0 && ts.processingOn?.address !== worker)) unknown.push(key);
    else
      whoHas.set(
        key,
        ts.whoHas.items.map((ws) => ws.address),
      );
  }
  if (whoHas.size > 0) {
    sendToWorker(ctx, worker, { op: "refresh-who-has", who_has: whoHas, stimulus_id: stimulusId });
  }
  if (unknown.length > 0) sendToWorker(ctx, worker, freeKeys(unknown, stimulusId));
}
