/** RPC ops that tell what the scheduler is, and the worker's heartbeat (wire-protocol.md §14.1, §14.3). */
import { float, type Key, type Message, type RpcHandlers, type Value } from "@dask-ts/protocol";
import { UnknownKeyError } from "../../core/errors.ts";
import { heartbeatInterval } from "../../core/heartbeat-interval.ts";
import { errorCause, ncores, prefixStates, processing, taskStatus } from "../../core/queries.ts";
import type { SchedulerContext } from "../context.ts";
import { eventsOnWire } from "../events.ts";
import { pythonError } from "../exceptions.ts";
import {
  flagField,
  keysField,
  listField,
  mapField,
  optionalKeys,
  optionalList,
  optionalMap,
  optionalNumber,
  optionalString,
  stringField,
} from "../fields.ts";
import { transitionRow } from "../transition-row.ts";
import { readResources, removeWorker } from "../worker-stream.ts";
import { coerced } from "./data.ts";

export function factHandlers(ctx: SchedulerContext): RpcHandlers {
  const { core } = ctx;
  const { state } = core;
  const getLogs = (fields: Message): Value =>
    ctx.logs.get(
      optionalNumber(fields, "start") ?? 0,
      optionalNumber(fields, "n"),
      flagField(fields, "timestamps", false),
    );
  return {
    identity: (fields) => ctx.identity(optionalNumber(fields, "n_workers") ?? -1),
    echo: (fields) => fields["data"] ?? null,
    versions: async (fields) => {
      const packages = optionalList(fields, "packages");
      const host = await ctx.graphHost();
      if (packages === null || packages.length === 0) return host.versions;
      return (await host.call("versions", { packages }))["versions"] ?? null;
    },

    heartbeat_worker: async (fields) => heartbeatWorker(ctx, fields),
    unregister: async (fields) =>
      removeWorker(ctx, await ctx.coerceAddress(stringField(fields, "address")), {
        stimulusId: stringField(fields, "stimulus_id"),
        expected: flagField(fields, "expected", false),
        close: flagField(fields, "close", true),
      }),

    ncores: async (fields) => ncores(state, await coerced(ctx, fields["workers"])),
    ncores_running: async (fields) => ncores(state, await coerced(ctx, fields["workers"]), true),
    processing: async (fields) => processing(state, await coerced(ctx, fields["workers"])),
    get_task_status: (fields) => taskStatus(state, keysField(fields, "keys")),
    get_task_prefix_states: () => prefixStates(state),
    check_idle: () => {
      const { idleSince } = ctx.apply((api, now) => api.checkIdle(now));
      return idleSince === null ? null : float(idleSince);
    },

    get_logs: getLogs,
    logs: getLogs,
    events: (fields) => {
      const topic = optionalString(fields, "topic");
      if (topic !== null) return eventsOnWire(ctx.broker.events(topic));
      return new Map([...ctx.broker.allEvents()].map(([name, events]) => [name, eventsOnWire(events)]));
    },
    log_event: (fields) => {
      const topic = fields["topic"] ?? null;
      const names = typeof topic === "string" ? [topic] : listField(fields, "topic");
      ctx.logEvent(names.map(String), fields["msg"] ?? null);
    },

    get_story: (fields) => core.story(keysField(fields, "keys_or_stimuli")).map(transitionRow),
    get_error_cause: (fields) => errorCause(state, optionalKeys(fields, "keys") ?? []),
    get_runspec: (fields) => {
      const ts = state.taskOf(fields["key"] ?? null);
      if (ts === undefined) throw new UnknownKeyError(fields["key"] as Key);
      return ts.runSpec;
    },

    get_metadata: (fields) => {
      const value = state.taskMetadata.get(listField(fields, "keys") as readonly Key[]);
      if (value !== undefined) return value;
      const fallback = fields["default"];
      // `no_default` is an Enum member; any other default, None included, is the answer.
      if (fallback !== undefined && !isNoDefault(fallback)) return fallback;
      const keys = listField(fields, "keys") as readonly Key[];
      // The first key that leads nowhere, as Python's lookup names it.
      const missing = keys.find((_, i) => state.taskMetadata.get(keys.slice(0, i + 1)) === undefined);
      throw new UnknownKeyError(missing ?? "");
    },
    set_metadata: (fields) => {
      state.taskMetadata.set(listField(fields, "keys") as readonly Key[], fields["value"] ?? null);
    },
    start_task_metadata: (fields) => core.startTaskMetadata(stringField(fields, "name")),
    stop_task_metadata: (fields) => {
      const name = optionalString(fields, "name") ?? "";
      const collector = core.stopTaskMetadata(name);
      if (collector === undefined) {
        throw pythonError(
          "ValueError",
          `Expected to find exactly one CollectTaskMetaDataPlugin with name ${name} but found 0.`,
        );
      }
      return { metadata: collector.metadata as Map<Value, Value>, state: collector.state as Map<Value, Value> };
    },

    set_resources: (fields) => {
      const resources = readResources(fields["resources"] ?? null);
      const worker = ctx.coerceKnown(fields["worker"] ?? null);
      ctx.apply((api) => api.setResources(worker, resources));
      return "OK";
    },
    set_restrictions: (fields) => {
      const restrictions = new Map<Key, readonly string[] | null>();
      for (const [key, named] of mapField(fields, "worker")) {
        const list = typeof named === "string" ? [named] : optionalList({ named }, "named");
        restrictions.set(key as Key, list === null ? null : list.map(String));
      }
      ctx.apply((api) => api.setRestrictions(restrictions));
    },
  };
}

async function heartbeatWorker(ctx: SchedulerContext, fields: Message): Promise<Value> {
  const given = stringField(fields, "address");
  const address = ctx.core.state.workers.has(given) ? given : await ctx.coerceAddress(given);
  const resources = fields["resources"] ?? null;
  const known = ctx.apply((core, now) =>
    core.heartbeat(
      {
        address,
        workerNow: optionalNumber(fields, "now"),
        metrics: mapField(fields, "metrics"),
        executing: optionalMap(fields, "executing"),
        resources: resources === null ? null : readResources(resources),
        hostInfo: optionalMap(fields, "host_info"),
      },
      now,
    ),
  );
  if (!known) return { status: "missing" };
  const reports = optionalMap(fields, "extensions");
  if (reports !== null && reports.size > 0) {
    for (const extension of ctx.extensions) {
      const data = reports.get(extension.name);
      if (data !== undefined) extension.heartbeat?.(address, data);
    }
  }
  return {
    status: "OK",
    time: float(ctx.now()),
    "heartbeat-interval": float(heartbeatInterval(ctx.core.state.workers.size)),
  };
}

function isNoDefault(value: Value): boolean {
  return typeof value === "object" && value !== null && "className" in value && value.name === "no_default";
}
