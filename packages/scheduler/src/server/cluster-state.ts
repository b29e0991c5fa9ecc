/** Scheduler.get_cluster_state: what Client.dump_cluster_state writes. */
import { float, Pickled, Serialized, type Value } from "@dask-ts/protocol";
import { broadcast } from "./broadcast.ts";
import type { SchedulerContext } from "./context.ts";
import { workerIdentity } from "./identity.ts";
import { taskDetails } from "./task-details.ts";
import { transitionRow } from "./transition-row.ts";
import { eventsOnWire } from "./events.ts";

/** @param exclude names of parts to leave out. */
export async function clusterState(ctx: SchedulerContext, exclude: readonly string[]): Promise<Value> {
  const left = new Set(exclude);
  const [workers, versions] = await Promise.all([
    broadcast(ctx, { msg: { op: "dump_state", exclude }, onError: "ignore" }),
    broadcast(ctx, { msg: { op: "versions" }, onError: "ignore" }),
  ]);
  const scheduler = schedulerState(ctx);
  for (const name of left) scheduler.delete(name);
  return {
    scheduler: plain(scheduler),
    workers,
    versions: new Map<Value, Value>([
      ["scheduler", ctx.versionsNow()],
      ["workers", versions],
    ]),
  };
}

/** recursive_to_dict: clients write the dump with plain msgpack or YAML, which know neither sets nor pickles. */
function plain(value: Value): Value {
  if (value instanceof Set || Array.isArray(value)) return Array.from(value as Iterable<Value>, plain);
  if (value instanceof Map) {
    return new Map([...(value as ReadonlyMap<Value, Value>)].map(([key, item]) => [key, plain(item)]));
  }
  if (value instanceof Serialized || value instanceof Pickled) return `<${value.kind}, ${value.nbytes} bytes>`;
  return value;
}

function schedulerState(ctx: SchedulerContext): Map<Value, Value> {
  const { state } = ctx.core;
  return new Map<Value, Value>([
    ...ctx.identity(0),
    ["status", ctx.status],
    ["thread_id", 0],
    ["transition_counter", state.transitionCounter],
    ["transition_log", ctx.core.log.entries().map(transitionRow)],
    ["tasks", new Map([...state.tasks.values()].map((ts) => [ts.key as Value, taskDetails(ts)]))],
    [
      "task_groups",
      new Map(
        [...state.taskGroups.values()].map((group) => [
          group.name as Value,
          new Map<Value, Value>([
            ["name", group.name as Value],
            ["size", group.size],
            ["nbytes_total", group.nbytesTotal],
            ["duration", float(group.durationUs / 1e6)],
            ["start", float(group.start)],
            ["stop", float(group.stop)],
          ]),
        ]),
      ),
    ],
    ["workers", new Map([...state.workers.values()].map((ws) => [ws.address as Value, workerIdentity(ws)]))],
    [
      "clients",
      new Map(
        [...state.clients.values()].map((cs) => [
          cs.client as Value,
          new Map<Value, Value>([
            ["client_key", cs.client],
            ["wants_what", Array.from(cs.wantsWhat, (ts) => ts.key as Value)],
            ["last_seen", float(cs.lastSeen)],
          ]),
        ]),
      ),
    ],
    ["events", new Map([...ctx.broker.allEvents()].map(([name, events]) => [name, eventsOnWire(events)]))],
  ]);
}
