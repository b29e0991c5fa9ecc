/** Scheduler.replicate: copies of data on n workers, by rounds in which holders serve several others each. */
import { formatKey, type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { TaskState } from "../core/task-state.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "./context.ts";
import { pythonError } from "./exceptions.ts";
import { deleteWorkerData, gatherOnWorker } from "./peer-calls.ts";

export interface ReplicateRequest {
  readonly keys: readonly Key[];
  /** Replicas wanted; null for one on each worker. */
  readonly n: number | null;
  /** Addresses; null for all running ones. */
  readonly workers: readonly string[] | null;
  readonly branchingFactor: number;
  /** Remove replicas beyond n. */
  readonly delete: boolean;
  readonly stimulusId: string;
}

/**
 * @returns null, or `partial-fail` with the keys of which there is no data.
 * @throws {RangeError} where n is 0; {PythonError} KeyError for unknown keys and workers.
 */
export async function replicate(ctx: SchedulerContext, request: ReplicateRequest): Promise<Message | null> {
  const workers = targets(ctx, request.workers);
  const n = request.n === null ? workers.size : Math.min(request.n, workers.size);
  if (n === 0) throw new RangeError("Can not use replicate to delete data");
  const tasks = new Map<string, TaskState>();
  const missing: Value[] = [];
  for (const key of request.keys) {
    const ts = ctx.core.state.taskOf(key);
    if (ts === undefined) throw pythonError("KeyError", typeof key === "string" ? key : formatKey(key));
    if (ts.whoHas.size === 0) missing.push(key);
    else tasks.set(ts.id, ts);
  }
  if (missing.length > 0) return { status: "partial-fail", keys: missing };
  if (request.delete) await deleteSurplus(ctx, [...tasks.values()], workers, n, request.stimulusId);
  await copyMissing(ctx, tasks, workers, n, request.branchingFactor);
  ctx.logEvent(
    "all",
    new Map<Value, Value>([
      ["action", "replicate"],
      ["workers", [...workers].map((ws) => ws.address)],
      ["key-count", request.keys.length],
      ["branching-factor", request.branchingFactor],
    ]),
  );
  return null;
}

function targets(ctx: SchedulerContext, addresses: readonly string[] | null): Set<WorkerState> {
  const { state } = ctx.core;
  if (addresses === null) return new Set(state.running);
  const all = addresses.map((address) => {
    const ws = state.workers.get(address);
    if (ws === undefined) throw pythonError("KeyError", address);
    return ws;
  });
  return new Set(all.filter((ws) => ws.status === "running"));
}

async function deleteSurplus(
  ctx: SchedulerContext,
  tasks: readonly TaskState[],
  workers: ReadonlySet<WorkerState>,
  n: number,
  stimulusId: string,
): Promise<void> {
  const drops = new Map<string, Key[]>();
  for (const ts of tasks) {
    const holders = ts.whoHas.items.filter((ws) => workers.has(ws));
    for (const ws of sample(holders, holders.length - n)) {
      drops.set(ws.address, [...(drops.get(ws.address) ?? []), ts.key]);
    }
  }
  await Promise.all([...drops].map(([address, keys]) => deleteWorkerData(ctx, address, keys, stimulusId)));
}

async function copyMissing(
  ctx: SchedulerContext,
  tasks: Map<string, TaskState>,
  workers: ReadonlySet<WorkerState>,
  n: number,
  branchingFactor: number,
): Promise<void> {
  for (;;) {
    const gathers = new Map<string, Map<Key, string[]>>();
    for (const [id, ts] of tasks) {
      const have = ts.whoHas.items.filter((ws) => workers.has(ws)).length;
      // Nobody wants it any more, its data was lost meanwhile, or it is done.
      if (ts.state === "forgotten" || ts.whoHas.size === 0 || have >= n) {
        tasks.delete(id);
        continue;
      }
      const count = Math.min(n - have, branchingFactor * ts.whoHas.size);
      const holders = ts.whoHas.items.map((ws) => ws.address);
      const candidates = [...workers].filter(
        (ws) => !ts.whoHas.has(ws) && ctx.core.state.workers.get(ws.address) === ws,
      );
      if (candidates.length === 0) tasks.delete(id);
      for (const ws of sample(candidates, count)) {
        const wanted = gathers.get(ws.address) ?? new Map<Key, string[]>();
        gathers.set(ws.address, wanted.set(ts.key, holders));
      }
    }
    if (gathers.size === 0) return;
    const failures = await Promise.all([...gathers].map(([address, whoHas]) => gatherOnWorker(ctx, address, whoHas)));
    let i = 0;
    let progress = false;
    for (const [address, whoHas] of gathers) {
      const failed = failures[i++] as Set<string>;
      if ([...whoHas.keys()].some((key) => !failed.has(keyId(key)))) progress = true;
      ctx.logEvent(
        address,
        new Map<Value, Value>([
          ["action", "replicate-add"],
          ["who_has", whoHas],
        ]),
      );
    }
    // Where every copy of a round failed, a short pause keeps the next round from spinning.
    if (!progress) await ctx.sleep(100);
  }
}

/** k different items in random order; all where k is larger. */
export function sample<T>(items: readonly T[], k: number): T[] {
  const pool = [...items];
  const count = Math.max(0, Math.min(k, pool.length));
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(Math.random() * (pool.length - i));
    [pool[i], pool[j]] = [pool[j] as T, pool[i] as T];
  }
  return pool.slice(0, count);
}
