/** The state dump: its shape, what is excluded, keys that are tuples, workers that do not answer. */
import { encode, type Value } from "@dask-ts/protocol";
import { expect, it } from "vitest";
import { clusterState } from "../../src/server/cluster-state.ts";
import type { SchedulerContext } from "../../src/server/context.ts";
import { EventBroker } from "../../src/server/events.ts";
import { addressOf, graphOf, TestCore } from "../core/builders.ts";

type Dict = ReadonlyMap<Value, Value>;

function cluster(): { test: TestCore; ctx: SchedulerContext } {
  const test = new TestCore();
  test.addClient();
  test.addWorker("a", { nthreads: 2 });
  test.addWorker("broken");
  const broker = new EventBroker(10, () => undefined);
  broker.publish("topic", new Map<Value, Value>([["n", new Set<Value>([1])]]), 5);
  const pool = {
    call: async (address: string, op: string): Promise<Value> => {
      if (address === addressOf("broken")) throw new Error("no answer");
      return new Map<Value, Value>([[op, new Map([[["t", 0] as Value, new Uint8Array([1])]])]]);
    },
  };
  const ctx = {
    core: test.core,
    pool,
    broker,
    extensions: [{ name: "spans" }],
    status: "running",
    settings: { reuseBroadcastComm: false },
    log: { error: () => undefined },
    coerceKnown: (worker: string) => worker,
    identity: () => new Map<Value, Value>([["id", "Scheduler-1"]]),
    versionsNow: () => null,
  };
  return { test, ctx: ctx as unknown as SchedulerContext };
}

function at(dump: Value, ...path: Value[]): Value {
  return path.reduce((value, name) => (value as Dict).get(name) ?? null, dump);
}

it("shows tasks, groups, workers and clients, each other by repr, and is plain msgpack", async () => {
  const { test, ctx } = cluster();
  const graph = graphOf({ x: [], y: ["x"] });
  test.submitGraph({ ...graph, keys: [["x", 1], "y"], ids: ["\0t1:x3:\0n1", "y"] }, ["y"]);
  const dump = await clusterState(ctx, []);
  expect(() => encode(dump)).not.toThrow();
  const task = at(dump, "scheduler", "tasks", "['x', 1]") as Dict;
  expect(task.get("dependents")).toEqual(["<TaskState 'y' waiting>"]);
  expect(task.get("processing_on")).toMatch(/^<WorkerState 'tcp:\/\/(a|broken):1', name: .*, processing: 1>$/);
  expect(task.has("run_spec")).toBe(false);
  expect(at(dump, "scheduler", "tasks", "y", "who_wants")).toEqual(["<Client 'c'>"]);
  expect(at(dump, "scheduler", "task_groups", "y", "prefix")).toBe("<y: waiting: 1>");
  expect(at(dump, "scheduler", "clients", "c", "wants_what")).toEqual(["<TaskState 'y' waiting>"]);
  expect(at(dump, "scheduler", "events", "topic")).toEqual([[expect.anything(), new Map([["n", [1]]])]]);
  expect((at(dump, "scheduler", "transition_log") as Value[]).length).toBe(3);
});

it("leaves out what is excluded, at every level", async () => {
  const { test, ctx } = cluster();
  test.submit({ x: [] }, ["x"]);
  const scheduler = at(await clusterState(ctx, ["state", "events", "nthreads"]), "scheduler") as Dict;
  expect(scheduler.has("events")).toBe(false);
  expect((at(scheduler, "tasks", "x") as Dict).has("state")).toBe(false);
  expect((at(scheduler, "workers", addressOf("a")) as Dict).has("nthreads")).toBe(false);
});

it("has a text in place of a worker that does not answer, and plain keys of those that do", async () => {
  const { ctx } = cluster();
  const workers = at(await clusterState(ctx, []), "workers");
  expect(at(workers, addressOf("broken"))).toBe("Error: no answer");
  expect(at(workers, addressOf("a"), "dump_state")).toEqual(new Map([["['t', 0]", "b'\\x01'"]]));
});
