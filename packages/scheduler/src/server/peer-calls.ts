/** Calls to workers and nannies that several handlers make. */
import {
  asNumber,
  CommClosedError,
  isMessage,
  type Key,
  keyId,
  type Message,
  TimeoutError,
  type Value,
} from "@dask-ts/protocol";
import { State } from "../core/task-status.ts";
import { formatKeys } from "../core/format.ts";
import type { SchedulerContext } from "./context.ts";

/** Python's OSError: the peer is gone, or cannot be reached. A peer that answers with an error is none of these. */
export function isConnectionError(error: unknown): boolean {
  if (error instanceof CommClosedError || error instanceof TimeoutError) return true;
  return typeof (error as NodeJS.ErrnoException | null)?.errno === "number";
}

/** A reply that is a map, as plain fields. */
function replyFields(reply: Value, op: string, address: string): Message {
  if (isMessage(reply)) return reply;
  throw new Error(`${address} answered ${op} with something that is no map`);
}

/**
 * Scheduler.gather_on_worker: the worker copies keys from other workers; the core learns of the new replicas.
 *
 * @returns ids of the keys that were not copied. Does not throw for a worker that is gone.
 */
export async function gatherOnWorker(
  ctx: SchedulerContext,
  worker: string,
  whoHas: ReadonlyMap<Key, readonly string[]>,
): Promise<Set<string>> {
  const all = (): Set<string> => new Set([...whoHas.keys()].map((key) => keyId(key as Value)));
  let reply: Message;
  try {
    const raw = await ctx.pool.call(worker, "gather", { who_has: whoHas as ReadonlyMap<Value, Value> });
    reply = replyFields(raw, "gather", worker);
  } catch (error) {
    if (!isConnectionError(error)) throw error;
    ctx.log.warning(`Communication with worker ${worker} failed during replication: ${(error as Error).message}`);
    return all();
  }
  if (!ctx.core.state.workers.has(worker)) {
    ctx.log.warning(`Worker ${worker} lost during replication`);
    return all();
  }
  const failed = new Set<string>();
  if (reply["status"] === "partial-fail") {
    for (const key of (reply["keys"] ?? []) as readonly Value[]) failed.add(keyId(key));
    ctx.log.warning(`Worker ${worker} failed to acquire keys: ${formatKeys((reply["keys"] ?? []) as readonly Key[])}`);
  } else if (reply["status"] !== "OK") {
    throw new Error(`Unexpected message from ${worker}: ${String(reply["status"])}`);
  }
  const copied: Key[] = [];
  for (const key of whoHas.keys()) {
    if (failed.has(keyId(key))) continue;
    if (ctx.core.state.taskOf(key)?.code === State.memory) copied.push(key);
    else ctx.log.warning(`Key lost during replication: ${formatKeys([key])}`);
  }
  ctx.apply((core, now) => core.addKeys(worker, copied, null, now));
  return failed;
}

/** Scheduler.delete_worker_data: the worker drops keys, then the core knows it. Does not throw. */
export async function deleteWorkerData(
  ctx: SchedulerContext,
  worker: string,
  keys: readonly Key[],
  stimulusId: string,
): Promise<void> {
  try {
    await ctx.pool.call(worker, "free_keys", {
      keys: keys as readonly Value[],
      stimulus_id: `delete-data-${ctx.now()}`,
    });
  } catch (error) {
    ctx.log.warning(`Communication with worker ${worker} failed during replication: ${(error as Error).message}`);
    return;
  }
  if (!ctx.core.state.workers.has(worker)) return;
  ctx.apply((core, now) => {
    for (const key of keys) {
      core.workerMessage(worker, { op: "release-worker-data", key: key, stimulus_id: stimulusId }, now);
    }
  });
  ctx.logEvent(
    worker,
    new Map<Value, Value>([
      ["action", "remove-worker-data"],
      ["keys", keys],
    ]),
  );
}

/** `update_data` on a worker: key → bytes. */
export async function updateDataOnWorker(
  ctx: SchedulerContext,
  worker: string,
  data: ReadonlyMap<Value, Value>,
): Promise<[Key, number][]> {
  const reply = replyFields(await ctx.pool.call(worker, "update_data", { data }), "update_data", worker);
  const nbytes = reply["nbytes"];
  if (!(nbytes instanceof Map)) throw new Error(`${worker} gave no sizes for update_data`);
  return [...(nbytes as ReadonlyMap<Value, Value>)].map(([key, size]) => [key as Key, asNumber(size, 0)]);
}
