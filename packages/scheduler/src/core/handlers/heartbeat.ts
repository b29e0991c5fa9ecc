/** Scheduler.heartbeat_worker, but for the extensions' parts, which the shell hands to them. */
import { asNumber, Float, keyId, type Value } from "@dask-ts/protocol";
import type { Heartbeat } from "../api.ts";
import type { Context } from "../context.ts";
import { addExecTime } from "../occupancy.ts";
import type { SchedulerState } from "../state.ts";
import type { WorkerState } from "../worker-state.ts";
import { setResources } from "./resources.ts";

/** @returns false where the worker is not registered. */
export function heartbeat(ctx: Context, fields: Heartbeat, now: number): boolean {
  const { state } = ctx;
  const ws = state.workers.get(fields.address);
  if (ws === undefined) {
    ctx.outbox.log("warn", `Received heartbeat from unregistered worker '${fields.address}'.`);
    return false;
  }
  const host = state.hostInfo.get(ws.host);
  if (host !== undefined) {
    host.lastSeen = now;
    for (const [name, value] of fields.hostInfo ?? []) host.info.set(name, value);
  }
  updateBandwidth(state, fields.address, mapOf(fields.metrics.get("bandwidth")));
  ws.lastSeen = now;
  if (fields.executing !== null) {
    ws.executing = new Map();
    for (const [key, duration] of fields.executing) {
      const ts = state.taskOf(key);
      if (ts === undefined) continue;
      const seconds = asNumber(duration, 0);
      ws.executing.set(ts, seconds);
      addExecTime(state, ts.prefix, seconds);
    }
  }
  for (const [key, value] of mapOf(fields.metrics.get("digests_total_since_heartbeat"))) {
    const id = keyId(key);
    const number = asNumber(value, 0);
    const isFloat = value instanceof Float || !Number.isInteger(number);
    const known = state.cumulativeWorkerMetrics.get(id);
    if (known === undefined) state.cumulativeWorkerMetrics.set(id, { key, sum: number, isFloat });
    else {
      known.sum += number;
      known.isFloat ||= isFloat;
    }
  }
  ws.metrics = fields.metrics;
  updateUnmanagedMemory(ws, state.config.memoryRecentToOldTime, now);
  if (fields.workerNow) ws.timeDelay = now - fields.workerNow;
  if (fields.resources !== null && fields.resources.size > 0) setResources(ctx, ws, fields.resources);
  return true;
}

/** The cluster's bandwidth is the running average over the last n reports, n being the number of workers. */
function updateBandwidth(state: SchedulerState, address: string, reported: ReadonlyMap<Value, Value>): void {
  const fraction = 1 / state.workers.size;
  state.bandwidth = state.bandwidth * (1 - fraction) + asNumber(reported.get("total"), state.bandwidth) * fraction;
  for (const [other, pair] of mapOf(reported.get("workers"))) {
    let row = state.bandwidthWorkers.get(address);
    if (row === undefined) {
      row = new Map();
      state.bandwidthWorkers.set(address, row);
    }
    average(row, String(other), pair, fraction);
  }
  for (const [type, pair] of mapOf(reported.get("types"))) average(state.bandwidthTypes, String(type), pair, fraction);
}

function average(into: Map<string, number>, name: string, pair: Value, fraction: number): void {
  if (!Array.isArray(pair)) return;
  const sum = asNumber(pair[0], 0);
  const count = asNumber(pair[1], 1);
  const old = into.get(name);
  if (old === undefined) {
    into.set(name, sum / Math.max(count, 1));
    return;
  }
  const alpha = (1 - fraction) ** count;
  into.set(name, old * alpha + sum * (1 - alpha));
}

/** Unmanaged memory that has been there for the whole of the last `window` seconds counts as old. */
function updateUnmanagedMemory(ws: WorkerState, window: number, now: number): void {
  let old = ws.memoryUnmanagedOld;
  const history = ws.memoryUnmanagedHistory;
  let expired = 0;
  while (expired < history.length) {
    const [time, size] = history[expired] as [number, number];
    if (time >= now - window) break;
    expired++;
    if (size === old) old = 0;
  }
  if (expired > 0) history.splice(0, expired);
  const spilled = asNumber(mapOf(ws.metrics.get("spilled_bytes")).get("memory"), 0);
  const size = Math.max(0, asNumber(ws.metrics.get("memory"), 0) - ws.nbytes + spilled);
  history.push([now, size]);
  if (old === 0) {
    let least = size;
    for (const [, past] of history) if (past < least) least = past;
    ws.memoryUnmanagedOld = least;
  } else if (size < old) {
    ws.memoryUnmanagedOld = size;
  }
}

const EMPTY: ReadonlyMap<Value, Value> = new Map();

function mapOf(value: Value | undefined): ReadonlyMap<Value, Value> {
  return value instanceof Map ? value : EMPTY;
}
