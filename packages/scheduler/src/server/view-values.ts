/** Values of the scheduler itself, by the attribute names of stock's Scheduler, and large fields of single objects. */
import { EventLoopMeter, float, type Value } from "@dask-ts/protocol";
import { totalOccupancy } from "../core/queries.ts";
import type { TaskState } from "../core/task-state.ts";
import { spansOf } from "../extensions/spans.ts";
import { monitorOf } from "../extensions/system-monitor.ts";
import type { SchedulerContext } from "./context.ts";
import { stateCounts } from "./view-facts.ts";

/** Entries of the histories that are told. */
const MAX_HISTORY = 10_000;

/** @throws {RangeError} where there is none of that name. */
export function valueOf(ctx: SchedulerContext, name: string): Value {
  const { state, config } = ctx.core;
  switch (name) {
    case "address":
    case "contact_address":
      return ctx.address;
    case "listen_address":
      return ctx.connections().listeners[0]?.address ?? ctx.address;
    case "listeners":
      return ctx.connections().listeners.map((listener) => [listener.address, listener.contactAddress]);
    case "incoming_comms_open":
      return ctx.connections().incoming;
    case "incoming_comms_active":
      return ctx.connections().streams;
    case "outgoing_comms_open":
      return ctx.pool.open;
    case "outgoing_comms_active":
      return ctx.pool.active;
    case "service_ports":
      return ctx.identity(0).get("services") ?? new Map<Value, Value>();
    case "blocked_handlers":
      return [...ctx.settings.blockedHandlers];
    case "op_counts":
      return new Map([...ctx.measures.calls].map(([op, histogram]) => [op, histogram.count] as [Value, Value]));
    case "tick-duration": {
      const loop = EventLoopMeter.get();
      return [float(loop.maxTickS), float(loop.tickCount * loop.intervalS), loop.tickCount];
    }
    case "generation":
      return state.generation;
    case "rootish_tg_threshold":
      return config.rootishTaskgroup;
    case "rootish_tg_dependencies_threshold":
      return config.rootishTaskgroupDependencies;
    case "MEMORY_RECENT_TO_OLD_TIME":
      return float(config.memoryRecentToOldTime);
    case "MEMORY_REBALANCE_MEASURE":
      return ctx.settings.rebalance.measure;
    case "MEMORY_REBALANCE_SENDER_MIN":
      return float(ctx.settings.rebalance.senderMin);
    case "MEMORY_REBALANCE_RECIPIENT_MAX":
      return float(ctx.settings.rebalance.recipientMax);
    case "MEMORY_REBALANCE_HALF_GAP":
      return float(ctx.settings.rebalance.gap / 2);
    case "_workers_added_total":
      return state.workersAdded;
    case "_workers_removed_total":
      return state.workersRemoved;
    case "_client_connections_added_total":
      return state.clientsAdded;
    case "_client_connections_removed_total":
      return state.clientsRemoved;
    case "_active_graph_updates":
      return state.activeGraphUpdates;
    case "_idle_transition_counter":
      return state.idleTransitionCounter;
    case "_no_workers_since":
      return state.noWorkersSince === null ? null : float(state.noWorkersSince);
    case "addresses":
    case "services":
    case "id":
      return ctx.identity(0).get(name) ?? (name === "addresses" ? [ctx.address] : null);
    case "name":
      return ctx.identity(0).get("id") ?? null;
    case "started":
    case "time_started":
      return ctx.identity(0).get("started") ?? null;
    case "status":
      return ctx.status === "init" ? "init" : ctx.status;
    case "aliases":
      return new Map(state.workerOrder.list.map((ws) => [ws.name, ws.address]));
    case "allowed_failures":
      return config.allowedFailures;
    case "bandwidth":
      return float(state.bandwidth);
    case "bandwidth_types":
      return new Map([...state.bandwidthTypes].map(([type, value]) => [type, float(value)] as [Value, Value]));
    case "bandwidth_workers":
      return new Map(
        [...state.bandwidthWorkers].flatMap(([from, others]) =>
          [...others].map(([to, value]) => [[from, to], float(value)] as [Value, Value]),
        ),
      );
    case "computations":
      return state.computations.map(
        (computation) =>
          new Map<Value, Value>([
            ["id", computation.id],
            ["start", float(computation.start)],
            ["stop", float(computation.stop)],
            ["code", computation.code],
            ["annotations", computation.annotations],
            ["groups", Array.from(computation.groups, (group) => group.name as Value)],
            ["states", stateCounts(computation.states)],
          ]),
      );
    case "cumulative_worker_metrics":
      return new Map(
        Array.from(state.cumulativeWorkerMetrics.values(), ({ key, sum, isFloat }) => [
          key,
          isFloat ? float(sum) : sum,
        ]),
      );
    case "erred_tasks":
      return state.erredTasks.map((erred) => [
        erred.key as Value,
        float(erred.timestamp),
        erred.erredOn,
        erred.exceptionText,
        erred.tracebackText,
      ]);
    case "host_info":
      return new Map(
        [...state.hostInfo].map(([host, info]) => [
          host,
          new Map<Value, Value>([
            ["addresses", new Set<Value>(info.addresses)],
            ["nthreads", info.nthreads],
            ["last-seen", float(info.lastSeen)],
            ...info.info,
          ]),
        ]),
      );
    case "idle_since":
      return state.idleSince === null ? null : float(state.idleSince);
    case "idle_timeout":
      return config.idleTimeout === null ? null : float(config.idleTimeout);
    case "is_idle":
      return state.queued.size === 0 && state.unrunnable.size === 0 && state.processingTasks === 0;
    case "monitor":
      return monitorOf(ctx)?.facts ?? new Map<Value, Value>([["count", 0]]);
    case "n_tasks":
      return state.assignments;
    case "nanny_plugins":
      return new Map(ctx.plugins.nanny);
    case "worker_plugins":
      return new Map(ctx.plugins.worker);
    case "no_workers_timeout":
      return config.noWorkersTimeout === null ? null : float(config.noWorkersTimeout);
    case "resources":
      return new Map(
        [...state.resources].map(([resource, amounts]) => [
          resource,
          new Map([...amounts].map(([address, amount]) => [address, float(amount)] as [Value, Value])),
        ]),
      );
    case "scheduler_file":
      return ctx.settings.schedulerFile;
    case "spans":
      return spansOf(ctx)?.facts() ?? null;
    case "task_metadata":
      return state.taskMetadata.get([]) ?? new Map<Value, Value>();
    case "total_memory":
      return state.totalMemory;
    case "total_nthreads":
      return state.totalNthreads;
    case "total_nthreads_history":
      return state.totalNthreadsHistory.slice(-MAX_HISTORY).map(([time, n]) => [float(time), n]);
    case "total_occupancy":
      return float(totalOccupancy(state));
    case "transition_counter":
      return state.transitionCounter;
    case "unrunnable":
      return Array.from(state.unrunnable, ([ts, since]) => [ts.key as Value, float(since)]);
    case "validate":
      return config.validate;
    case "worker_ttl":
      return config.workerTtl === null ? null : float(config.workerTtl);
    case "DEFAULT_TASK_DURATION":
    case "UNKNOWN_TASK_DURATION":
      return float(config.unknownTaskDuration);
    case "WORKER_SATURATION":
      return float(config.workerSaturation);
    default:
      throw new RangeError(`the scheduler has no value '${name}' to show`);
  }
}

/** A field that is too large, or too seldom wanted, to be among the facts. @throws {RangeError} for an unknown one. */
export function fieldOf(ctx: SchedulerContext, kind: string, key: Value, name: string): Value {
  const { state } = ctx.core;
  if (kind === "task") {
    const ts = state.taskOf(key);
    if (ts !== undefined) return taskField(ts, name);
  } else if (kind === "client" && name === "versions") {
    return state.clients.get(String(key))?.versions ?? null;
  } else if (kind === "worker") {
    const ws = state.workers.get(String(key));
    if (ws !== undefined) {
      if (name === "versions") return ws.versions;
      if (name === "executing") return Array.from(ws.executing, ([ts, s]) => [ts.key as Value, float(s)]);
      if (name === "needs_what") return Array.from(ws.needsWhat, ([ts, n]) => [ts.key as Value, n]);
      if (name === "task_prefix_count") return Array.from(ws.prefixCounts, ([prefix, n]) => [prefix.name, n]);
    }
  }
  throw new RangeError(`the scheduler has no field '${name}' of ${kind} ${String(key)}`);
}

function taskField(ts: TaskState, name: string): Value {
  switch (name) {
    case "run_spec":
      return ts.runSpec;
    case "exception":
      return ts.error?.exception ?? null;
    case "traceback":
      return ts.error?.traceback ?? null;
    case "metadata":
      return ts.metadata ?? new Map<Value, Value>();
    case "annotations":
      return ts.annotations ?? new Map<Value, Value>();
    default:
      throw new RangeError(`the scheduler has no field '${name}' of a task`);
  }
}
