/** RPC ops that act on workers, and the end of the scheduler itself (wire-protocol.md §14.4). */
import { isKey, keyId, type Message, pickled, pythonRepr, type RpcHandlers, type Value } from "@dask-ts/protocol";
import type { WorkerState } from "../../core/worker-state.ts";
import { broadcast, onErrorOf } from "../broadcast.ts";
import type { SchedulerContext } from "../context.ts";
import { adaptiveTarget, workersToClose } from "../downscaling.ts";
import { pythonError } from "../exceptions.ts";
import type { ReplicaLock } from "../exclusive.ts";
import {
  asMessage,
  flagField,
  optionalList,
  optionalNumber,
  optionalString,
  optionalStrings,
  stringField,
} from "../fields.ts";
import { workerIdentity } from "../identity.ts";
import { restartWorkers } from "../restart-workers.ts";
import { retireWorkers } from "../retire-workers.ts";
import { duration } from "./data.ts";

export function controlHandlers(ctx: SchedulerContext, lock: ReplicaLock): RpcHandlers {
  return {
    broadcast: async (fields, { serializers }) =>
      await broadcast(ctx, {
        msg: asMessage(fields["msg"], "msg"),
        workers: await addresses(ctx, optionalList(fields, "workers")),
        hosts: optionalStrings(fields, "hosts"),
        nanny: flagField(fields, "nanny", false),
        serializers,
        onError: onErrorOf(optionalString(fields, "on_error")),
      }),
    proxy: async (fields, { serializers }) => {
      const worker = ctx.coerceKnown(fields["worker"] ?? null);
      const replies = await broadcast(ctx, { msg: asMessage(fields["msg"], "msg"), workers: [worker], serializers });
      return replies.get(worker) ?? null;
    },

    terminate: (fields) => {
      ctx.requestClose(optionalString(fields, "reason") ?? "unknown");
    },

    restart: async (fields) => {
      const stimulusId = stringField(fields, "stimulus_id");
      ctx.apply((core, now) => core.restart(now, stimulusId));
      for (const extension of ctx.extensions) extension.onRestart?.();
      await restartWorkers(ctx, restartRequest(fields, null, stimulusId));
    },
    restart_workers: async (fields) => {
      const workers = await addresses(ctx, optionalList(fields, "workers"));
      return await restartWorkers(ctx, restartRequest(fields, workers, stringField(fields, "stimulus_id")));
    },

    retire_workers: async (fields) => {
      const names = optionalList(fields, "names");
      const workers = optionalList(fields, "workers");
      if (names !== null && workers !== null) {
        throw pythonError("TypeError", "names and workers are mutually exclusive");
      }
      const selection = CLOSE_FIELDS.filter((name) => fields[name] !== undefined);
      if ((names !== null || workers !== null) && selection.length > 0) {
        throw pythonError(
          "TypeError",
          `Parameters for workers_to_close() are mutually exclusive with names and workers: ${selection.join(", ")}`,
        );
      }
      const stimulusId = optionalString(fields, "stimulus_id") ?? `retire-workers-${ctx.now()}`;
      return await lock.run(false, async () =>
        retireWorkers(ctx, {
          workers: await chosen(ctx, fields, names, workers, stimulusId),
          closeWorkers: flagField(fields, "close_workers", false),
          remove: flagField(fields, "remove", true),
          stimulusId,
        }),
      );
    },

    workers_to_close: async (fields) => {
      const attribute = optionalString(fields, "attribute") ?? "address";
      return (await toClose(ctx, fields)).map((ws) => attributeOf(ws, attribute));
    },
    adaptive_target: async (fields) =>
      await adaptiveTarget(ctx, duration(fields["target_duration"] ?? null, ctx.settings.targetDuration)),
  };
}

const CLOSE_FIELDS = ["memory_ratio", "n", "key", "minimum", "target", "attribute"] as const;

async function addresses(ctx: SchedulerContext, workers: readonly Value[] | null): Promise<string[] | null> {
  return workers === null ? null : await Promise.all(workers.map((worker) => ctx.coerceAddress(worker)));
}

function restartRequest(
  fields: Message,
  workers: readonly string[] | null,
  stimulusId: string,
): Parameters<typeof restartWorkers>[1] {
  return {
    workers,
    client: optionalString(fields, "client"),
    timeout: duration(fields["timeout"] ?? null, 30),
    waitForWorkers: flagField(fields, "wait_for_workers", true),
    onError: optionalString(fields, "on_error") === "return" ? "return" : "raise",
    stimulusId,
  };
}

async function chosen(
  ctx: SchedulerContext,
  fields: Message,
  names: readonly Value[] | null,
  workers: readonly Value[] | null,
  stimulusId: string,
): Promise<WorkerState[]> {
  const all = [...ctx.core.state.workers.values()];
  if (names !== null) {
    ctx.log.info(`Retire worker names ${names.map(String).join(", ")}`);
    // Names that went through a command line have become texts.
    const wanted = new Set(names.map(String));
    return all.filter((ws) => wanted.has(String(ws.name)));
  }
  if (workers !== null) {
    ctx.log.info(`Retire worker addresses (stimulus_id='${stimulusId}') [${workers.map(pythonRepr).join(", ")}]`);
    // SpecCluster sends names here, also of workers that are gone by now: as in Dask, who is not here is left out.
    const { aliases } = ctx.core.state;
    const wanted = new Set(workers.map((worker) => (isKey(worker) && aliases.get(keyId(worker))) || worker));
    return all.filter((ws) => wanted.has(ws.address));
  }
  return await toClose(ctx, fields);
}

/** Scheduler.workers_to_close. A pickled `key` is called by the graph host. */
async function toClose(ctx: SchedulerContext, fields: Message): Promise<WorkerState[]> {
  const { state } = ctx.core;
  const key = fields["key"] ?? null;
  const options = {
    memoryRatio: optionalNumber(fields, "memory_ratio"),
    n: optionalNumber(fields, "n"),
    minimum: optionalNumber(fields, "minimum"),
    target: optionalNumber(fields, "target"),
  };
  if (key === null) return await workersToClose(ctx, options);
  const workers = [...state.workers.values()];
  const host = await ctx.graphHost();
  const reply = await host.call("evaluate-key", {
    function: key instanceof Uint8Array ? pickled(key) : key,
    workers: workers.map((ws) => new Map<Value, Value>([...workerIdentity(ws), ["address", ws.address]])),
  });
  const groups = reply["groups"];
  if (!Array.isArray(groups)) throw pythonError("RuntimeError", String(reply["exception_text"] ?? "key failed"));
  const byAddress = new Map(workers.map((ws, i) => [ws.address, (groups as readonly Value[])[i]]));
  return await workersToClose(ctx, { ...options, groupOf: (ws) => byAddress.get(ws.address) });
}

function attributeOf(ws: WorkerState, attribute: string): Value {
  if (attribute === "address") return ws.address;
  if (attribute === "name") return ws.name;
  const identity = workerIdentity(ws);
  const value = identity.get(attribute);
  if (value === undefined) throw pythonError("AttributeError", `'WorkerState' object has no attribute '${attribute}'`);
  return value;
}
