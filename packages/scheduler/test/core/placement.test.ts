import type { Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import { checkIdleSaturated, occupancyOf, type SchedulerState, totalOccupancy } from "../../src/core/index.ts";
import { registration, TestCore } from "./builders.ts";

function keys(prefix: string, n: number): string[] {
  return Array.from({ length: n }, (_, i) => `${prefix}-${i}`);
}

function independent(names: readonly string[]): Record<string, string[]> {
  return Object.fromEntries(names.map((name) => [name, []]));
}

function load(test: TestCore): Record<string, number> {
  return Object.fromEntries([...test.core.state.workers.values()].map((ws) => [String(ws.name), ws.processing.size]));
}

function workers(test: TestCore, nthreads: Record<string, number>): void {
  test.addClient();
  for (const [name, n] of Object.entries(nthreads)) test.addWorker(name, { nthreads: n });
}

describe("rootish tasks", () => {
  it("fill ceil(1.1 · nthreads) slots, the least busy worker first, and wait in the queue by priority", () => {
    const test = new TestCore();
    workers(test, { a: 1, b: 4 });
    const names = keys("x", 30);
    test.submit(independent(names), names);
    expect(load(test)).toEqual({ a: 2, b: 5 });
    expect(test.core.state.queued.size).toBe(23);
    test.toWorker("a");
    test.finish("a", test.core.state.workers.get("tcp://a:1")?.processing.values().next().value?.key ?? "");
    expect(test.toWorker("a")).toEqual(["compute-task x-7"]);
  });

  it("wait in the queue where there is no worker, and start by priority when one comes", () => {
    const test = new TestCore();
    test.addClient();
    test.submit(independent(["x-0", "x-1", "x-2"]), ["x-2", "x-1", "x-0"]);
    expect(test.states()).toEqual({ "x-0": "queued", "x-1": "queued", "x-2": "queued" });
    test.addWorker("a");
    expect(test.toWorker("a")).toEqual(["compute-task x-0", "compute-task x-1"]);
  });

  it("stay together where queuing is off", () => {
    const test = new TestCore({ workerSaturation: Number.POSITIVE_INFINITY });
    workers(test, { a: 1, b: 1 });
    const names = keys("x", 10);
    test.submit(independent(names), names);
    const placed = names.map((name) => test.task(name).processingOn?.name);
    expect(placed).toEqual(["a", "a", "a", "a", "a", "b", "b", "b", "b", "b"]);
    expect(test.task("x-0").group.lastWorker).toBeNull();
  });

  it("are those that produce data, even a single one", () => {
    const test = new TestCore({ workerSaturation: 1 });
    workers(test, { a: 1 });
    test.submit(independent(["p-0", "q-1"]), ["p-0", "q-1"], { dataProducers: ["q-1"] });
    expect(test.states()).toEqual({ "p-0": "processing", "q-1": "queued" });
  });
});

describe("tasks without relations", () => {
  it("go round robin among the workers that have nothing to do", () => {
    const test = new TestCore();
    workers(test, { a: 8, b: 8, d: 8 });
    const names = ["p", "q", "r", "s"];
    test.submit(independent(names), names);
    expect(load(test)).toEqual({ a: 2, b: 1, d: 1 });
  });

  it("go round robin in any case on a large cluster", () => {
    const test = new TestCore();
    workers(test, Object.fromEntries(keys("w", 25).map((name) => [name, 4])));
    const names = keys("x", 50);
    test.submit(independent(names), names);
    expect(new Set(Object.values(load(test)))).toEqual(new Set([2]));
  });
});

describe("restrictions", () => {
  const workersOnly = (names: string[], loose = false): ReadonlyMap<Value, Value> =>
    new Map<Value, Value>([
      ["workers", names],
      ...(loose ? ([["allow_other_workers", true]] as [Value, Value][]) : []),
    ]);

  it("by alias, by address and by host", () => {
    const test = new TestCore();
    workers(test, { a: 1, b: 1 });
    test.submit(independent(["x", "y", "z"]), ["x", "y", "z"], {
      annotations: {
        x: workersOnly(["b"]),
        y: workersOnly(["tcp://a:1"]),
        z: new Map<Value, Value>([["workers", "elsewhere"]]),
      } as never,
    });
    expect(test.task("x").processingOn?.name).toBe("b");
    expect(test.task("y").processingOn?.name).toBe("a");
    expect(test.task("z").state).toBe("no-worker");
    test.addWorker("e", { host: "elsewhere" });
    expect(test.task("z").processingOn?.name).toBe("e");
  });

  it("that cannot be met leave the task in no-worker, unless they are loose", () => {
    const test = new TestCore();
    workers(test, { a: 1 });
    test.submit(independent(["x", "y"]), ["x", "y"], {
      annotations: { x: workersOnly(["tcp://gone:1"]), y: workersOnly(["tcp://gone:1"], true) } as never,
    });
    expect(test.states()).toEqual({ x: "no-worker", y: "processing" });
    test.core.setRestrictions(new Map([["x", null]]));
    test.addWorker("b");
    expect(test.task("x").state).toBe("processing");
  });

  it("by resources look at what workers declare, not at what is used", () => {
    const test = new TestCore();
    workers(test, { a: 1 });
    test.addWorker("gpu", { resources: new Map([["GPU", 1]]) });
    const needs = new Map<Value, Value>([["resources", new Map([["GPU", 1]])]]);
    test.submit(independent(["x", "y"]), ["x", "y"], { annotations: { x: needs, y: needs } as never });
    expect(load(test)).toEqual({ a: 0, gpu: 2 });
    const ws = test.core.state.workers.get("tcp://gpu:1");
    expect(ws?.usedResources.get("GPU")).toBe(2);
    expect(test.takeWorker("gpu")[0]?.resource_restrictions).toEqual(new Map([["GPU", 1]]));
    test.finish("gpu", "x");
    expect(ws?.usedResources.get("GPU")).toBe(1);
  });

  it("fail the task after no-workers-timeout, with the error that fits", () => {
    const test = new TestCore({ noWorkersTimeout: 5 });
    test.addClient();
    test.submit(independent(["x", "y"]), ["x", "y"], { annotations: { x: workersOnly(["tcp://gone:1"]) } as never });
    test.core.checkNoWorkers(test.now);
    test.addWorker("a");
    test.toWorker("a");
    test.now += 6;
    test.core.checkNoWorkers(test.now);
    test.collect();
    expect(test.takeClient()[0]).toMatchObject({
      op: "task-erred",
      key: "x",
      exception: "exception:NoValidWorkerError",
    });
    expect(test.states()).toEqual({ x: "erred", y: "processing" });
  });

  it("fail queued tasks as well where no worker has run for so long", () => {
    const test = new TestCore({ noWorkersTimeout: 5 });
    test.addClient();
    test.submit(independent(["x"]), ["x"]);
    test.core.checkNoWorkers(test.now);
    test.now += 6;
    test.core.checkNoWorkers(test.now);
    test.collect();
    expect(test.takeClient()[0]).toMatchObject({ op: "task-erred", exception: "exception:NoWorkerError" });
  });
});

describe("durations and occupancy", () => {
  it("follow the compute times, and are made unknown by a task that takes twice as long", () => {
    const test = new TestCore();
    workers(test, { a: 4 });
    test.submit(independent(["x-0", "x-1", "x-2"]), ["x-0", "x-1", "x-2"]);
    const { state } = test.core;
    const ws = state.workers.get("tcp://a:1");
    if (ws === undefined) throw new Error("no worker");
    expect(occupancyOf(state, ws)).toBeCloseTo(1.5);
    test.finish("a", "x-0", { duration: 2 });
    expect(test.task("x-1").prefix.durationAverage).toBeCloseTo(2);
    expect(totalOccupancy(state)).toBeCloseTo(4);
    test.core.heartbeat(
      {
        address: "tcp://a:1",
        workerNow: null,
        metrics: new Map(),
        executing: new Map<Value, Value>([["x-1", 5]]),
        resources: null,
        hostInfo: null,
      },
      test.now,
    );
    expect(test.task("x-1").prefix.durationAverage).toBe(-1);
    expect(totalOccupancy(state)).toBeCloseTo(20);
    test.finish("a", "x-1", { duration: 1 });
    test.finish("a", "x-2", { duration: 1 });
    expect(totalOccupancy(state)).toBe(0);
  });

  it("count the bytes of what has to be fetched, once for each worker", () => {
    const test = new TestCore();
    workers(test, { a: 1, b: 1 });
    test.submit(independent(["p"]), ["p"]);
    const on = test.task("p").processingOn?.name as string;
    test.finish(on, "p", { nbytes: 100_000_000 });
    const other = on === "a" ? "b" : "a";
    const needs = new Map<Value, Value>([["workers", [other]]]);
    test.submit({ "y-0": ["p"], "y-1": ["p"] }, ["y-0", "y-1"], {
      annotations: { "y-0": needs, "y-1": needs } as never,
    });
    const { state } = test.core;
    const ws = state.workers.get(`tcp://${other}:1`);
    if (ws === undefined) throw new Error("no worker");
    expect(occupancyOf(state, ws)).toBeCloseTo(1 + 2 * 0.5);
    test.fromWorker(other, { op: "add-keys", keys: ["p"] });
    expect(state.networkOcc).toBe(0);
    test.finish(other, "y-0");
    test.finish(other, "y-1");
    checkIdleSaturated(state, ws);
    expect(state.idle.has(ws)).toBe(true);
  });
});

describe("ticks", () => {
  it("idle since the last transition, and no longer when the timeout has passed", () => {
    const test = new TestCore({ idleTimeout: 10 });
    workers(test, { a: 1 });
    test.submit(independent(["x"]), ["x"]);
    expect(test.core.checkIdle(test.now)).toEqual({ idleSince: null, close: false });
    test.finish("a", "x");
    expect(test.core.checkIdle(test.now)).toEqual({ idleSince: null, close: false });
    expect(test.core.checkIdle(test.now)).toEqual({ idleSince: test.now, close: false });
    expect(test.core.checkIdle(test.now + 11)).toEqual({ idleSince: test.now, close: true });
  });

  it("late workers", () => {
    const test = new TestCore({ workerTtl: 30 });
    workers(test, { a: 1, b: 1 });
    test.core.heartbeat(
      { address: "tcp://b:1", workerNow: null, metrics: new Map(), executing: null, resources: null, hostInfo: null },
      test.now + 20,
    );
    expect(test.core.checkWorkerTtl(test.now + 31)).toEqual(["tcp://a:1"]);
  });

  it("a worker is refused where its address or name is taken", () => {
    const test = new TestCore();
    workers(test, { a: 1 });
    const state: SchedulerState = test.core.state;
    expect(test.core.addWorker(registration("a"), test.now)).toMatchObject({ status: "error", reason: "exists" });
    expect(test.core.addWorker(registration("b", { name: "a" }), test.now)).toEqual({
      status: "error",
      reason: "name",
      message: "name taken, a",
    });
    expect(state.workers.size).toBe(1);
  });
});
