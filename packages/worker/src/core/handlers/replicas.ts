/** What the worker should hold, drop or look for, and what it is given. */
import { float, type Key, keyId, type Message } from "@dask-ts/protocol";
import type { StoredValue } from "../events.ts";
import { FETCH, MISSING, RELEASED } from "../recommendations.ts";
import { NO_RUN_ID } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { holdersField, keysField, sizesField } from "./fields.ts";

/** Mirrors `_handle_free_keys`. */
export function handleFreeKeys(s: WorkerState, keys: readonly Key[]): void {
  s.log.push(["free-keys", keys, s.stimulusId, float(s.now)]);
  for (const key of keys) {
    const ts = s.task(key);
    if (ts !== undefined) s.recommendations.set(ts, RELEASED);
  }
}

/**
 * Mirrors `_handle_remove_replicas`. The original raises where a dependent is executing, since the data for it may not
 * have been collected yet; here it has been, when `execute` was sent.
 */
export function handleRemoveReplicas(s: WorkerState, message: Message): void {
  for (const key of keysField(message)) {
    const ts = s.task(key);
    if (ts === undefined || ts.state !== "memory") continue;
    s.log.push([ts.key, "remove-replica", s.stimulusId, float(s.now)]);
    s.recommendations.set(ts, RELEASED);
  }
}

/**
 * Behind the dependencies of computations with normal or raised user priority, before those with lowered priority (the
 * `priority=` of `compute()` arrives with its sign changed).
 */
const REPLICA_PRIORITY: readonly number[] = [1];

/** Mirrors `_handle_acquire_replicas`. */
export function handleAcquireReplicas(s: WorkerState, message: Message): void {
  const nbytes = sizesField(message, "nbytes");
  const whoHas = holdersField(message, "who_has");
  for (const entry of nbytes) {
    const ts = s.ensureTaskExists(entry.key, entry.id, REPLICA_PRIORITY);
    s.expectSize(ts, entry.nbytes);
    if (ts.state !== "memory") s.recommendations.set(ts, FETCH);
  }
  s.updateWhoHas(whoHas);
}

/** Mirrors `_handle_refresh_who_has`. */
export function handleRefreshWhoHas(s: WorkerState, message: Message): void {
  const whoHas = holdersField(message, "who_has");
  s.updateWhoHas(whoHas);
  for (const { id } of whoHas) {
    const ts = s.tasks.get(id);
    if (ts === undefined) continue;
    if (ts.whoHas.size > 0 && ts.state === "missing") s.recommendations.set(ts, FETCH);
    else if (ts.whoHas.size === 0 && ts.state === "fetch") s.recommendations.set(ts, MISSING);
  }
}

/** Mirrors `_handle_find_missing`. */
export function handleFindMissing(s: WorkerState): void {
  if (s.missingDepFlight.size === 0) return;
  s.sendRequestRefreshWhoHas(Array.from(s.missingDepFlight, (ts) => ts.key));
}

/** Values from `update_data` (scatter). Mirrors `_handle_update_data`. */
export function handleUpdateData(s: WorkerState, entries: readonly StoredValue[]): void {
  for (const { key, nbytes, type, typename } of entries) {
    const id = keyId(key);
    const ts = s.tasks.get(id) ?? s.newTask(key, id);
    s.recommendations.set(ts, { finish: "memory", nbytes, type, typename, runId: NO_RUN_ID });
    s.log.push([key, "receive-from-scatter", ts.state, s.stimulusId, float(s.now)]);
  }
}
