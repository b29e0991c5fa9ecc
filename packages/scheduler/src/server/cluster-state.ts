/** Scheduler.get_cluster_state: what Client.dump_cluster_state writes. For people, without promises about its shape. */
import { asNumber, float, type Value } from "@dask-ts/protocol";
import type { ClientState } from "../core/client-state.ts";
import { occupancyOf, totalOccupancy } from "../core/occupancy.ts";
import { workerMemory } from "../core/queries.ts";
import type { TaskGroup } from "../core/task-group.ts";
import type { TaskState } from "../core/task-state.ts";
import { TASK_STATES } from "../core/task-status.ts";
import type { MemoryState, WorkerState } from "../core/worker-state.ts";
import { broadcast } from "./broadcast.ts";
import type { SchedulerContext } from "./context.ts";
import { eventsOnWire } from "./events.ts";
import { groupRepr, plainKey, plainValue, taskRepr, workerRepr } from "./state-reprs.ts";
import { taskDetails } from "./task-details.ts";
import { transitionRow } from "./transition-row.ts";

/** Tasks and workers described between two turns of the event loop. */
const PER_TURN = 2000;
/** A dump is wanted most when some worker hangs: it is left out then. */
const WORKER_MS = 60_000;

/** @param exclude fields to leave out, at any level. */
export async function clusterState(ctx: SchedulerContext, exclude: readonly string[]): Promise<Map<Value, Value>> {
  const [workers, versions, scheduler] = await Promise.all([
    workerStates(ctx, exclude),
    broadcast(ctx, { msg: { op: "versions" }, onError: "ignore" }),
    schedulerState(ctx, new Set(exclude)),
  ]);
  return new Map<Value, Value>([
    ["scheduler", scheduler],
    ["workers", workers],
    [
      "versions",
      new Map<Value, Value>([
        ["scheduler", ctx.versionsNow()],
        ["workers", versions],
      ]),
    ],
  ]);
}

/** A worker that cannot tell is shown with the error's text (DumpArtefact.missing_workers looks for these). */
async function workerStates(ctx: SchedulerContext, exclude: readonly string[]): Promise<Value> {
  const states = new Map<Value, Value>();
  await Promise.all(
    [...ctx.core.state.workers.keys()].map(async (address) => {
      try {
        states.set(address, await ctx.pool.call(address, "dump_state", { exclude }, { timeoutMs: WORKER_MS }));
      } catch (error) {
        states.set(address, error instanceof Error ? `${error.name}: ${error.message}` : String(error));
      }
    }),
  );
  return plainValue(states);
}

type Members = readonly (readonly [name: string, value: Value])[];

/** Scheduler._to_dict. */
async function schedulerState(ctx: SchedulerContext, exclude: ReadonlySet<string>): Promise<Map<Value, Value>> {
  const { core } = ctx;
  const { state } = core;
  const { extensions } = ctx;
  const dump = without(exclude, [...ctx.identity(0)] as [string, Value][]);
  const add = (name: string, value: () => Value): void => {
    if (!exclude.has(name)) dump.set(name, plainValue(value()));
  };
  dump.delete("workers");
  add("status", () => ctx.status);
  add("thread_id", () => 0);
  add("transition_counter", () => state.transitionCounter);
  add("transition_log", () => core.log.entries().map(transitionRow));
  add("memory", () => memoryMembers(clusterMemory(state.workers.values())));
  add("occupancy", () => float(totalOccupancy(state)));
  add("events", () => new Map([...ctx.broker.allEvents()].map(([name, events]) => [name, eventsOnWire(events)])));
  add("extensions", () => new Map(extensions.map(({ name }) => [name as Value, `<extension ${name}>`])));
  if (!exclude.has("task_groups")) {
    dump.set("task_groups", await described(state.taskGroups.values(), (group) => group.name, groupMembers, exclude));
  }
  if (!exclude.has("workers")) {
    const members = (ws: WorkerState): Members => workerMembers(state, ws);
    dump.set("workers", await described(state.workers.values(), (ws) => ws.address, members, exclude));
  }
  if (!exclude.has("clients")) {
    dump.set("clients", await described(state.clients.values(), (cs) => cs.client, clientMembers, exclude));
  }
  if (!exclude.has("tasks")) {
    const members = (ts: TaskState): Members => [...taskDetails(ts)] as [string, Value][];
    dump.set("tasks", await described(state.tasks.values(), (ts) => ts.key, members, exclude));
  }
  return dump;
}

function without(exclude: ReadonlySet<string>, members: Members): Map<Value, Value> {
  const map = new Map<Value, Value>();
  for (const [name, value] of members) if (!exclude.has(name)) map.set(name, plainValue(value));
  return map;
}

/** By key. Others have their turn between: a dump of a million tasks takes seconds. */
async function described<T>(
  items: Iterable<T>,
  keyOf: (item: T) => Value,
  members: (item: T) => Members,
  exclude: ReadonlySet<string>,
): Promise<Map<Value, Value>> {
  const map = new Map<Value, Value>();
  let n = 0;
  for (const item of items) {
    map.set(plainKey(keyOf(item)), without(exclude, members(item)));
    if (++n % PER_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return map;
}

function groupMembers(group: TaskGroup): Members {
  return [
    ["name", group.name],
    ["prefix", groupRepr(group.prefix)],
    ["states", new Map(TASK_STATES.map((name, code) => [name as Value, group.states[code] as number]))],
    ["dependencies", Array.from(group.dependencies, groupRepr)],
    ["nbytes_total", group.nbytesTotal],
    ["duration", float(group.durationUs / 1e6)],
    ["all_durations", new Map(Array.from(group.allDurationsUs, ([action, us]) => [action, float(us / 1e6)]))],
    ["types", [...group.types.keys()]],
    ["start", float(group.start)],
    ["stop", float(group.stop)],
    ["done", group.done],
    ["last_worker", group.lastWorker === null ? null : workerRepr(group.lastWorker)],
    ["last_worker_tasks_left", group.lastWorkerTasksLeft],
    ["span_id", group.spanId],
  ];
}

function workerMembers(state: SchedulerContext["core"]["state"], ws: WorkerState): Members {
  const amounts = (map: ReadonlyMap<string, number>): Value =>
    new Map(Array.from(map, ([name, amount]) => [name, float(amount)]));
  return [
    ["address", ws.address],
    ["host", ws.host],
    ["name", ws.name],
    ["pid", ws.pid],
    ["server_id", ws.serverId],
    ["nanny", ws.nanny],
    ["status", ws.status],
    ["nthreads", ws.nthreads],
    ["memory_limit", ws.memoryLimit],
    ["local_directory", ws.localDirectory],
    ["services", ws.services],
    ["extra", ws.extra],
    ["resources", amounts(ws.resources)],
    ["used_resources", amounts(ws.usedResources)],
    ["bandwidth", float(asNumber(bandwidthOf(ws), state.bandwidth))],
    ["nbytes", ws.nbytes],
    ["occupancy", float(occupancyOf(state, ws))],
    ["memory", memoryMembers(workerMemory(ws))],
    ["metrics", ws.metrics],
    ["last_seen", float(ws.lastSeen)],
    ["time_delay", float(ws.timeDelay)],
    ["processing", Array.from(ws.processing, taskRepr)],
    ["long_running", Array.from(ws.longRunning, taskRepr)],
    ["executing", new Map(Array.from(ws.executing, ([ts, seconds]) => [taskRepr(ts), float(seconds)]))],
    ["has_what", Array.from(ws.hasWhat, taskRepr)],
    ["needs_what", new Map(Array.from(ws.needsWhat, ([ts, n]) => [taskRepr(ts), n]))],
    ["actors", Array.from(ws.actors, taskRepr)],
    ["task_prefix_count", new Map(Array.from(ws.prefixCounts, ([prefix, n]) => [prefix.name, n]))],
  ];
}

function bandwidthOf(ws: WorkerState): Value | undefined {
  const bandwidth = ws.metrics.get("bandwidth");
  return bandwidth instanceof Map ? (bandwidth as ReadonlyMap<Value, Value>).get("total") : undefined;
}

function clientMembers(cs: ClientState): Members {
  return [
    ["client_key", cs.client],
    ["last_seen", float(cs.lastSeen)],
    ["wants_what", Array.from(cs.wantsWhat, taskRepr)],
  ];
}

/** SchedulerState.memory: the sum over all workers. */
function clusterMemory(workers: Iterable<WorkerState>): MemoryState {
  const sum = { process: 0, unmanagedOld: 0, managed: 0, spilled: 0 };
  for (const ws of workers) {
    const { process, unmanagedOld, managed, spilled } = workerMemory(ws);
    sum.process += process;
    sum.unmanagedOld += unmanagedOld;
    sum.managed += managed;
    sum.spilled += spilled;
  }
  return sum;
}

/** MemoryState._to_dict; bytes. */
function memoryMembers({ process, managed, spilled, unmanagedOld }: MemoryState): Map<Value, Value> {
  return new Map<Value, Value>([
    ["process", process],
    ["managed", managed],
    ["managed_total", managed + spilled],
    ["spilled", spilled],
    ["unmanaged", process - managed],
    ["unmanaged_old", unmanagedOld],
    ["unmanaged_recent", process - managed - unmanagedOld],
    ["optimistic", managed + unmanagedOld],
  ]);
}
