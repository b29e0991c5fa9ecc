/** RPC ops that ask the workers and put their answers together (wire-protocol.md §14.3). */
import { asNumber, float, type Key, type RpcHandlers, type Value } from "@dask-ts/protocol";
import { UnknownKeyError } from "../../core/errors.ts";
import { State } from "../../core/task-status.ts";
import { broadcast } from "../broadcast.ts";
import { dumpClusterState } from "../cluster-dump.ts";
import { clusterState } from "../cluster-state.ts";
import type { SchedulerContext } from "../context.ts";
import { flagField, optionalKeys, optionalList, optionalNumber, optionalStrings } from "../fields.ts";
import { performanceReport } from "../performance-report.ts";
import { collectProfile, collectProfileMetadata, emptyProfile, workerProfiles } from "../profile.ts";
import { sample } from "../replicate.ts";

export function clusterHandlers(ctx: SchedulerContext): RpcHandlers {
  const { state } = ctx.core;
  const chosen = (names: readonly Value[] | null): string[] => {
    if (names === null) return [...state.workers.keys()];
    const wanted = new Set(names.map((name) => ctx.coerceKnown(name)));
    return [...state.workers.keys()].filter((address) => wanted.has(address));
  };
  return {
    call_stack: async (fields) => {
      const keys = optionalKeys(fields, "keys");
      const asked = keys === null ? new Map([...state.workers.keys()].map((w) => [w, null])) : runningOn(ctx, keys);
      const replies = await Promise.all(
        [...asked].map(async ([address, wanted]): Promise<[Value, Value]> => {
          const reply = await ctx.pool.call(address, "call_stack", { keys: wanted as readonly Value[] | null });
          return [address, reply];
        }),
      );
      return new Map(replies.filter(([, stacks]) => stacks instanceof Map || isNonEmpty(stacks)));
    },

    profile: async (fields) => {
      // This process has no Python frames to show.
      if (flagField(fields, "scheduler", false)) return emptyProfile();
      const request = {
        workers: chosen(optionalList(fields, "workers")),
        start: fields["start"] ?? null,
        stop: fields["stop"] ?? null,
        key: fields["key"] ?? null,
        server: flagField(fields, "server", false),
      };
      if (flagField(fields, "merge_workers", true)) return await collectProfile(ctx, request);
      return await workerProfiles(ctx, request);
    },
    profile_metadata: (fields) =>
      collectProfileMetadata(ctx, {
        workers: chosen(optionalList(fields, "workers")),
        start: fields["start"] ?? 0,
        stop: fields["stop"] ?? null,
      }),

    worker_logs: (fields) =>
      broadcast(ctx, {
        msg: { op: "get_logs", n: optionalNumber(fields, "n") },
        workers: optionalStrings(fields, "workers"),
        nanny: flagField(fields, "nanny", false),
      }),

    benchmark_hardware: () => benchmarkHardware(ctx),
    get_cluster_state: (fields) => clusterState(ctx, (optionalList(fields, "exclude") ?? []).map(String)),
    dump_cluster_state_to_url: (fields) => dumpClusterState(ctx, fields),
    performance_report: (fields) => performanceReport(ctx, fields),
    dump_state: (fields) => clusterState(ctx, (optionalList(fields, "exclude") ?? []).map(String)),
  };
}

/** Workers on which the keys, or what they wait for, are being processed. */
function runningOn(ctx: SchedulerContext, keys: readonly Key[]): Map<string, Key[]> {
  const stack = keys.map((key) => {
    const ts = ctx.core.state.taskOf(key);
    if (ts === undefined) throw new UnknownKeyError(key);
    return ts;
  });
  const seen = new Set(stack);
  const found = new Map<string, Key[]>();
  for (let ts = stack.pop(); ts !== undefined; ts = stack.pop()) {
    if (ts.code === State.waiting) {
      for (const dependency of ts.dependencies.items) {
        if (seen.has(dependency)) continue;
        seen.add(dependency);
        stack.push(dependency);
      }
    } else if (ts.code === State.processing && ts.processingOn !== null) {
      const { address } = ts.processingOn;
      found.set(address, [...(found.get(address) ?? []), ts.key]);
    }
  }
  return found;
}

/** Mean bandwidths by size, over all workers (bytes/s). */
async function benchmarkHardware(ctx: SchedulerContext): Promise<Value> {
  const workers = [...ctx.core.state.workers.keys()];
  const disk = await broadcast(ctx, { msg: { op: "benchmark_disk" } });
  const memory = await broadcast(ctx, { msg: { op: "benchmark_memory" } });
  // Neighbours in the list often share a machine: pairs at random measure the network.
  const shuffled = sample(workers, workers.length);
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < shuffled.length; i += 2) pairs.push([shuffled[i] as string, shuffled[i + 1] as string]);
  const network = await Promise.all(pairs.map(([a, b]) => ctx.pool.call(a, "benchmark_network", { address: b })));
  return { disk: means([...disk.values()]), memory: means([...memory.values()]), network: means(network) };
}

function means(results: readonly Value[]): Value {
  const bySize = new Map<Value, number[]>();
  for (const result of results) {
    if (!(result instanceof Map)) continue;
    for (const [size, value] of result as ReadonlyMap<Value, Value>) {
      bySize.set(size, [...(bySize.get(size) ?? []), asNumber(value, 0)]);
    }
  }
  return new Map([...bySize].map(([size, values]) => [size, float(values.reduce((a, b) => a + b, 0) / values.length)]));
}

function isNonEmpty(value: Value): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}
