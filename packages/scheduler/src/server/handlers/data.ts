/** RPC ops that move data (wire-protocol.md §14.2). */
import { asNumber, type Key, keyId, parseTimedelta, type RpcHandlers, type Value } from "@dask-ts/protocol";
import { nbytes, whoHas, hasWhat } from "../../core/queries.ts";
import type { SchedulerContext } from "../context.ts";
import { pythonError } from "../exceptions.ts";
import { ReplicaLock } from "../exclusive.ts";
import {
  flagField,
  isTrue,
  keysField,
  mapField,
  optionalKeys,
  optionalList,
  optionalNumber,
  optionalString,
  stringField,
} from "../fields.ts";
import { gather } from "../gather.ts";
import { updateDataOnWorker } from "../peer-calls.ts";
import { rebalance } from "../rebalance.ts";
import { replicate } from "../replicate.ts";

export function dataHandlers(ctx: SchedulerContext, lock: ReplicaLock): RpcHandlers {
  const { state } = ctx.core;
  return {
    gather: (fields, { serializers }) => gather(ctx, keysField(fields, "keys"), serializers),

    scatter: (fields) =>
      scatter(ctx, lock, {
        data: mapField(fields, "data"),
        workers: optionalList(fields, "workers"),
        client: stringField(fields, "client"),
        broadcast: fields["broadcast"] ?? false,
        timeout: duration(fields["timeout"] ?? null, 2),
      }),

    update_data: async (fields) => {
      const holders = new Map<Key, readonly string[]>();
      for (const [key, addresses] of mapField(fields, "who_has")) {
        const list = addresses as readonly Value[];
        holders.set(key as Key, await Promise.all(list.map((address) => ctx.coerceAddress(address))));
      }
      const sizes = new Map<Key, number>();
      for (const [key, size] of mapField(fields, "nbytes")) sizes.set(key as Key, asNumber(size, -1));
      const client = optionalString(fields, "client");
      ctx.apply((core, now) => core.updateData(holders, sizes, client, now));
    },

    who_has: (fields) => whoHas(state, optionalKeys(fields, "keys")),
    has_what: async (fields) => hasWhat(state, await coerced(ctx, fields["workers"])),
    nbytes: (fields) => {
      const result = nbytes(state, optionalKeys(fields, "keys"), flagField(fields, "summary", true));
      return result;
    },

    add_keys: (fields) => {
      const worker = stringField(fields, "worker");
      const keys = optionalKeys(fields, "keys") ?? [];
      const stimulusId = optionalString(fields, "stimulus_id");
      return ctx.apply((core, now) => core.addKeys(worker, keys, stimulusId, now));
    },

    replicate: (fields) =>
      lock.run(true, () =>
        replicate(ctx, {
          keys: keysField(fields, "keys"),
          n: optionalNumber(fields, "n"),
          workers: workersList(ctx, optionalList(fields, "workers")),
          branchingFactor: optionalNumber(fields, "branching_factor") ?? 2,
          delete: flagField(fields, "delete", true),
          stimulusId: optionalString(fields, "stimulus_id") ?? `replicate-${ctx.now()}`,
        }),
      ),

    rebalance: async (fields) => {
      const workers = optionalList(fields, "workers");
      return await rebalance(ctx, lock, {
        keys: optionalKeys(fields, "keys"),
        workers: workers === null ? null : workers.map((worker) => ctx.coerceKnown(worker)),
        stimulusId: optionalString(fields, "stimulus_id") ?? `rebalance-${ctx.now()}`,
      });
    },

    retry: (fields) => {
      const keys = keysField(fields, "keys");
      return ctx.apply((core, now) => core.retry(keys, optionalString(fields, "client"), now)) as Value[];
    },
  };
}

interface ScatterRequest {
  readonly data: ReadonlyMap<Value, Value>;
  readonly workers: readonly Value[] | null;
  readonly client: string;
  /** True for a copy on each worker, or how many copies. */
  readonly broadcast: Value;
  /** Seconds to wait for a running worker. */
  readonly timeout: number;
}

/** How often a worker to take the data is looked for. */
const POLL_MS = 100;
/** Where the next scatter begins its round. */
const rounds: WeakMap<SchedulerContext, number> = new WeakMap();

async function scatter(ctx: SchedulerContext, lock: ReplicaLock, request: ScatterRequest): Promise<Value> {
  const { data, client } = request;
  const addresses = (await runningWorkers(ctx, request)).sort();
  // Round robin over the sorted addresses, going on where the last scatter ended.
  const start = rounds.get(ctx) ?? 0;
  rounds.set(ctx, start + data.size);
  const shares = new Map<string, Map<Value, Value>>();
  const holders = new Map<Key, readonly string[]>();
  let i = start;
  for (const [key, value] of data) {
    const address = addresses[i++ % addresses.length] as string;
    const share = shares.get(address) ?? new Map<Value, Value>();
    shares.set(address, share.set(key, value));
    holders.set(key as Key, [address]);
  }
  const { workers } = ctx.core.state;
  const takers = Array.from(shares.keys(), (address) => [address, workers.get(address)] as const);
  const sizes = await Promise.all([...shares].map(([address, share]) => updateDataOnWorker(ctx, address, share)));
  for (const [address, ws] of takers) {
    if (ws !== undefined && workers.get(address) === ws) continue;
    // Another worker may have come to that address: nobody can tell which of the two got the data.
    freeUnknown(ctx, shares);
    throw pythonError("OSError", `${address} left during scatter`);
  }
  ctx.apply((core, now) => core.updateData(holders, new Map(sizes.flat()), client, now));
  const keys = [...data.keys()];
  if (isTrue(request.broadcast)) {
    const n = request.broadcast === true ? addresses.length : asNumber(request.broadcast, addresses.length);
    await lock.run(true, async () => {
      // Dask fails the whole scatter for one that has left meanwhile: the data is with another, and goes to the rest.
      const there = addresses.filter((address) => workers.get(address)?.status === "running");
      if (there.length === 0) return;
      await replicate(ctx, {
        keys: keys as Key[],
        n,
        workers: there,
        branchingFactor: 2,
        delete: true,
        stimulusId: `replicate-${ctx.now()}`,
      });
    });
  }
  const event = new Map<Value, Value>([
    ["action", "scatter"],
    ["client", client],
    ["count", data.size],
  ]);
  ctx.logEvent([client, "all"], event);
  return keys;
}

/** Of a scatter that failed: what lies with workers, and is not in who_has. */
function freeUnknown(ctx: SchedulerContext, shares: ReadonlyMap<string, ReadonlyMap<Value, Value>>): void {
  ctx.apply(({ state, outbox }, now) => {
    for (const [address, share] of shares) {
      const ws = state.workers.get(address);
      if (ws === undefined) continue;
      const keys = [...share.keys()].filter((key) => state.taskOf(key)?.whoHas.has(ws) !== true);
      if (keys.length > 0) outbox.worker(address, { op: "free-keys", keys, stimulus_id: `scatter-failed-${now}` });
    }
  });
}

async function runningWorkers(ctx: SchedulerContext, request: ScatterRequest): Promise<string[]> {
  const { state } = ctx.core;
  const deadline = ctx.now() + request.timeout;
  for (;;) {
    const candidates =
      request.workers === null
        ? [...state.running]
        : request.workers.map((worker) => {
            const ws = state.workers.get(ctx.coerceKnown(worker));
            if (ws === undefined) throw pythonError("KeyError", ctx.coerceKnown(worker));
            return ws;
          });
    const running = candidates.filter((ws) => ws.status === "running").map((ws) => ws.address);
    if (running.length > 0) return running;
    if (ctx.now() > deadline) throw pythonError("TimeoutError", "No valid workers found");
    await ctx.sleep(POLL_MS);
  }
}

/** Seconds of a field that is a number or a text such as `5s`. */
export function duration(value: Value, fallback: number): number {
  if (value === null) return fallback;
  return typeof value === "string" ? parseTimedelta(value) : asNumber(value, fallback);
}

/** Aliases and addresses as addresses; null stays null. */
export async function coerced(ctx: SchedulerContext, workers: Value | undefined): Promise<readonly Value[] | null> {
  const list = optionalList({ workers }, "workers");
  return list === null ? null : await Promise.all(list.map((worker) => ctx.coerceAddress(worker)));
}

/** Scheduler.workers_list: addresses, or host names that are part of addresses. */
function workersList(ctx: SchedulerContext, workers: readonly Value[] | null): readonly string[] | null {
  if (workers === null) return null;
  const found = new Set<string>();
  for (const worker of workers) {
    const alias = ctx.core.state.aliases.get(keyId(worker));
    if (alias !== undefined) found.add(alias);
    else if (typeof worker !== "string") throw pythonError("KeyError", String(worker));
    else if (worker.includes(":")) found.add(worker);
    else for (const address of ctx.core.state.workers.keys()) if (address.includes(worker)) found.add(address);
  }
  return [...found];
}
