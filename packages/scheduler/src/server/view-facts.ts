/** Facts about one worker, task, client, group or prefix, by the attribute names of stock's classes. */
import { float, keyId, type Value } from "@dask-ts/protocol";
import type { ClientState } from "../core/client-state.ts";
import { occupancyOf, workerMemory } from "../core/queries.ts";
import type { SchedulerState } from "../core/state.ts";
import type { TaskGroup } from "../core/task-group.ts";
import type { TaskPrefix } from "../core/task-prefix.ts";
import type { TaskState } from "../core/task-state.ts";
import { TASK_STATES } from "../core/task-status.ts";
import type { WorkerState } from "../core/worker-state.ts";
import { workerIdentity } from "./identity.ts";

type Facts = Map<Value, Value>;

/** Longer collections of a task are scanned, not told with its facts. */
const SHORT = 64;
/** A duration that nobody knows yet. */
const UNKNOWN = -1;

/** Null where there is none of that key. @throws {RangeError} for an unknown kind. */
export function factsOf(state: SchedulerState, kind: string, key: Value): Facts | null {
  switch (kind) {
    case "worker":
      return maybe(state.workers.get(String(key)), (ws) => workerFacts(state, ws));
    case "task":
      return maybe(state.taskOf(key), taskFacts);
    case "client":
      return maybe(state.clients.get(String(key)), clientFacts);
    case "group":
      return maybe(state.taskGroups.get(keyId(key)), groupFacts);
    case "prefix":
      return maybe(state.taskPrefixes.get(String(key)), prefixFacts);
    default:
      throw new RangeError(`the scheduler has no facts about '${kind}'`);
  }
}

function workerFacts(state: SchedulerState, ws: WorkerState): Facts {
  const identity = workerIdentity(ws);
  const memory = workerMemory(ws);
  return new Map<Value, Value>([
    ["pid", ws.pid],
    ["name", ws.name],
    ["host", ws.host],
    ["nthreads", ws.nthreads],
    ["memory_limit", ws.memoryLimit],
    ["local_directory", ws.localDirectory],
    ["services", ws.services],
    ["nanny", ws.nanny],
    ["status", ws.status],
    ["server_id", ws.serverId],
    ["nbytes", ws.nbytes],
    ["metrics", ws.metrics],
    ["last_seen", float(ws.lastSeen)],
    ["time_delay", float(ws.timeDelay)],
    ["bandwidth", float(state.bandwidth)],
    ["occupancy", float(occupancyOf(state, ws))],
    ["resources", floats(ws.resources)],
    ["used_resources", floats(ws.usedResources)],
    ["extra", ws.extra],
    ["_identity", identity],
    [
      "_memory",
      new Map<Value, Value>([
        ["process", memory.process],
        ["unmanaged_old", memory.unmanagedOld],
        ["managed", memory.managed],
        ["spilled", memory.spilled],
      ]),
    ],
  ]);
}

export function taskFacts(ts: TaskState): Facts {
  const { restrictions } = ts;
  return new Map<Value, Value>([
    ["state", ts.state],
    ["priority", ts.priority],
    ["nbytes", ts.nbytes],
    ["type", ts.typename],
    ["group", ts.group.name],
    ["prefix", ts.prefix.name],
    ["dependencies", keysOf(ts.dependencies.items)],
    ["dependents", keysOf(ts.dependents.items)],
    ["waiting_on", keysOf(ts.waitingOn.items)],
    ["waiters", keysOf(ts.waiters.items)],
    ["who_has", ts.whoHas.items.map((ws) => ws.address)],
    ["who_wants", ts.whoWants.items.map((cs) => cs.client)],
    ["processing_on", ts.processingOn?.address ?? null],
    ["retries", ts.retries],
    ["suspicious", ts.suspicious],
    ["run_id", ts.runId],
    ["actor", ts.actor],
    ["has_lost_dependencies", ts.hasLostDependencies],
    ["exception_text", ts.error?.exceptionText ?? ""],
    ["traceback_text", ts.error?.tracebackText ?? ""],
    // In an array, for None is no blame and a key may be anything else.
    ["exception_blame", ts.exceptionBlame === null ? null : [ts.exceptionBlame.key]],
    ["erred_on", new Set<Value>(ts.erredOn ?? [])],
    ["host_restrictions", setOf(restrictions?.hosts)],
    ["worker_restrictions", setOf(restrictions?.workers)],
    ["resource_restrictions", restrictions?.resources ? floats(restrictions.resources) : null],
    ["loose_restrictions", restrictions?.loose ?? false],
  ]);
}

function clientFacts(cs: ClientState): Facts {
  return new Map<Value, Value>([["last_seen", float(cs.lastSeen)]]);
}

function groupFacts(group: TaskGroup): Facts {
  return new Map<Value, Value>([
    ["prefix", group.prefix.name],
    ["states", stateCounts(group.states)],
    ["dependencies", Array.from(group.dependencies, (other) => other.name as Value)],
    ["duration", float(group.durationUs / 1e6)],
    ["all_durations", durations(group.allDurationsUs)],
    ["nbytes_total", group.nbytesTotal],
    ["types", new Map(group.types)],
    ["start", float(group.start)],
    ["stop", float(group.stop)],
    ["done", group.done],
    ["last_worker", group.lastWorker?.address ?? null],
    ["last_worker_tasks_left", group.lastWorkerTasksLeft],
    ["span_id", group.spanId],
    ["_size", group.size],
  ]);
}

function prefixFacts(prefix: TaskPrefix): Facts {
  return new Map<Value, Value>([
    ["states", stateCounts(prefix.states)],
    ["state_counts", stateCounts(prefix.stateCounts)],
    ["duration", float(prefix.durationUs / 1e6)],
    ["all_durations", durations(prefix.allDurationsUs)],
    ["duration_average", float(prefix.durationAverage < 0 ? UNKNOWN : prefix.durationAverage)],
    ["max_exec_time", float(prefix.maxExecTime < 0 ? UNKNOWN : prefix.maxExecTime)],
    ["suspicious", prefix.suspicious],
    ["nbytes_total", prefix.nbytesTotal],
    ["types", new Map(prefix.types)],
    ["_size", prefix.size],
  ]);
}

/** `{state: count}` for a list by code. */
export function stateCounts(counts: readonly number[]): Facts {
  return new Map<Value, Value>(TASK_STATES.map((name, code) => [name, counts[code] ?? 0]));
}

function keysOf(tasks: readonly TaskState[]): Value {
  return tasks.length > SHORT ? null : tasks.map((ts) => ts.key as Value);
}

function floats(amounts: ReadonlyMap<string, number>): Facts {
  return new Map<Value, Value>([...amounts].map(([name, amount]) => [name, float(amount)]));
}

function durations(us: ReadonlyMap<string, number>): Facts {
  return new Map<Value, Value>([...us].map(([action, value]) => [action, float(value / 1e6)]));
}

function setOf(texts: ReadonlySet<string> | null | undefined): Value {
  return texts ? new Set<Value>(texts) : null;
}

function maybe<T>(item: T | undefined, facts: (item: T) => Facts): Facts | null {
  return item === undefined ? null : facts(item);
}
