/** Fetching values from workers for clients (distributed.utils_comm.gather_from_workers); the values stay closed. */
import { CommClosedError, isMessage, type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { SchedulerContext } from "./context.ts";
import { isConnectionError } from "./peer-calls.ts";

/** A worker that is busy is asked again after this. */
const BUSY_DELAY_MS = 150;

interface Wanted {
  readonly key: Key;
  /** Workers that may still have it. */
  readonly holders: Set<string>;
}

interface Collected {
  readonly data: Map<Value, Value>;
  /** Keys that no holder had. */
  readonly missing: Wanted[];
  /** Keys whose holder answered with an error. */
  readonly failed: Wanted[];
}

/** Scheduler.gather: the reply. Holders are looked up anew while keys are missing, as they may have moved. */
export async function gather(ctx: SchedulerContext, keys: readonly Key[], serializers: Value): Promise<Message> {
  const data = new Map<Value, Value>();
  const failed: Wanted[] = [];
  const lostWorkers = new Set<string>();
  let missing: Wanted[] = unique(keys);
  while (missing.length > 0) {
    const wanted: Wanted[] = [];
    for (const { key } of missing) {
      const holders = ctx.core.state.taskOf(key)?.whoHas.items.map((ws) => ws.address) ?? [];
      const valid = new Set(holders.filter((address) => !lostWorkers.has(address)));
      if (valid.size > 0) wanted.push({ key, holders: valid });
      else failed.push({ key, holders: valid });
    }
    const collected = await gatherFromWorkers(ctx, wanted, serializers, lostWorkers);
    for (const [key, value] of collected.data) data.set(key, value);
    for (const item of collected.failed) failed.push(item);
    missing = collected.missing;
  }
  ctx.logEvent(
    "all",
    new Map<Value, Value>([
      ["action", "gather"],
      ["count", keys.length],
    ]),
  );
  if (failed.length === 0) return { status: "OK", data };
  const states = failed.map(
    ({ key }) => `${JSON.stringify(key)}: ${ctx.core.state.taskOf(key as Value)?.state ?? "forgotten"}`,
  );
  ctx.log.error(`Couldn't gather keys: {${states.join(", ")}}`);
  return { status: "error", keys: failed.map(({ key }) => key as Value) };
}

function unique(keys: readonly Key[]): Wanted[] {
  const byId = new Map<string, Wanted>();
  for (const key of keys) byId.set(keyId(key), { key, holders: new Set() });
  return [...byId.values()];
}

async function gatherFromWorkers(
  ctx: SchedulerContext,
  wanted: readonly Wanted[],
  serializers: Value,
  lostWorkers: Set<string>,
): Promise<Collected> {
  const data = new Map<Value, Value>();
  const missing: Wanted[] = [];
  const failed: Wanted[] = [];
  const busy = new Set<string>();
  let open = [...wanted];
  while (open.length > 0) {
    const byWorker = new Map<string, Wanted[]>();
    const waiting: Wanted[] = [];
    for (const item of open) {
      if (lostWorkers.size > 0) {
        for (const address of item.holders) if (lostWorkers.has(address)) item.holders.delete(address);
      }
      const ready = [...item.holders].filter((address) => !busy.has(address));
      const chosen = ready[Math.floor(Math.random() * ready.length)];
      if (chosen !== undefined) {
        const chosenItems = byWorker.get(chosen);
        if (chosenItems === undefined) byWorker.set(chosen, [item]);
        else chosenItems.push(item);
      } else if (item.holders.size > 0) waiting.push(item);
      else missing.push(item);
    }
    if (byWorker.size === 0) {
      if (waiting.length === 0) break;
      await ctx.sleep(BUSY_DELAY_MS);
      busy.clear();
      open = waiting;
      continue;
    }
    open = waiting;
    const rounds = [...byWorker].map(async ([address, items]) => {
      let reply: Message;
      try {
        reply = await getDataFromWorker(
          ctx,
          address,
          items.map(({ key }) => key),
          serializers,
        );
      } catch (error) {
        if (isConnectionError(error)) {
          lostWorkers.add(address);
          for (const item of items) open.push(item);
        } else {
          ctx.log.error(`Unexpected error while collecting ${items.length} task(s) from ${address}`, error);
          for (const item of items) failed.push(item);
        }
        return;
      }
      if (reply["status"] === "busy") {
        busy.add(address);
        for (const item of items) open.push(item);
        return;
      }
      const found = byKey(reply["data"]);
      for (const item of items) {
        const value = found.get(keyId(item.key));
        if (value !== undefined) data.set(item.key, value);
        else {
          item.holders.delete(address);
          open.push(item);
        }
      }
    });
    await Promise.all(rounds);
  }
  return { data, missing, failed };
}

function byKey(data: Value | undefined): Map<string, Value> {
  const found = new Map<string, Value>();
  if (data instanceof Map) {
    for (const [key, value] of data as ReadonlyMap<Value, Value>) found.set(keyId(key), value);
  }
  return found;
}

/** `get_data` with its third message: the worker holds a transfer slot until it hears `"OK"` (§13.4). */
async function getDataFromWorker(
  ctx: SchedulerContext,
  address: string,
  keys: readonly Key[],
  serializers: Value,
): Promise<Message> {
  const comm = await ctx.pool.take(address);
  let reusable = false;
  try {
    comm.send({
      op: "get_data",
      reply: true,
      keys: keys as readonly Value[],
      who: null,
      ...(serializers === null ? {} : { serializers }),
    });
    const reply = await comm.receive();
    if (!isMessage(reply)) throw new CommClosedError(`${address} gave no map for get_data`);
    if (reply["status"] === "uncaught-error") throw new Error(String(reply["exception_text"] ?? "get_data failed"));
    if (reply["status"] === "OK") comm.send("OK");
    reusable = true;
    return reply;
  } finally {
    ctx.pool.release(address, comm, reusable);
  }
}
