import type { Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import { TestCore } from "./builders.ts";

function cluster(workers: readonly string[] = ["a"], config = {}): TestCore {
  const test = new TestCore(config);
  test.addClient();
  for (const name of workers) test.addWorker(name);
  for (const name of workers) test.takeWorker(name);
  return test;
}

describe("a task that runs", () => {
  it("is sent with exactly the fields of the worker's dataclass, reported, and freed when released", () => {
    const test = cluster();
    expect(test.submit({ x: [] }, ["x"])).toMatchObject({ status: "OK", newTasks: 1 });
    const [message] = test.takeWorker("a");
    expect(message).toEqual({
      op: "compute-task",
      key: "x",
      run_id: 1,
      priority: [0, 1, 0],
      stimulus_id: "compute-task-1000",
      who_has: new Map(),
      nbytes: new Map(),
      run_spec: test.task("x").runSpec,
      resource_restrictions: null,
      actor: false,
      annotations: new Map(),
      span_id: null,
    });
    expect(Object.is((message as { priority: number[] }).priority[0], 0)).toBe(true);
    test.finish("a", "x");
    expect(test.takeClient()).toEqual([{ op: "key-in-memory", key: "x", type: new Uint8Array([1]) }]);
    expect(test.task("x").typename).toBe("int");
    test.release("x");
    expect(test.toWorker("a")).toEqual(["free-keys x"]);
    test.expectQuiet();
    test.expectEmpty();
  });

  it("is computed before what depends on it, and let go as soon as nobody needs it", () => {
    const test = cluster();
    test.submit({ x: [], y: ["x"] }, ["y"]);
    expect(test.toWorker("a")).toEqual(["compute-task x"]);
    test.finish("a", "x", { nbytes: 7 });
    const [compute] = test.takeWorker("a");
    expect(compute?.who_has).toEqual(new Map([["x", ["tcp://a:1"]]]));
    expect(compute?.nbytes).toEqual(new Map([["x", 7]]));
    test.finish("a", "y");
    expect(test.toWorker("a")).toEqual(["free-keys x"]);
    expect(test.toClient()).toEqual(["key-in-memory y"]);
    expect(test.states()).toEqual({ x: "released", y: "memory" });
    test.release("y");
    test.toWorker("a");
    test.expectEmpty();
  });

  it("goes to the worker that holds its data", () => {
    const test = cluster(["a", "b"]);
    test.submit({ x: [], y: [] }, ["x", "y"]);
    expect([...test.toWorker("a"), ...test.toWorker("b")].sort()).toEqual(["compute-task x", "compute-task y"]);
    const holder = test.task("y").processingOn?.name as string;
    test.finish(test.task("x").processingOn?.name as string, "x");
    test.finish(holder, "y", { nbytes: 1000 });
    test.submit({ z: ["y"] }, ["z"], { external: ["y"] });
    expect(test.task("z").processingOn?.name).toBe(holder);
  });

  it("has the more urgent of two ready dependents sent first", () => {
    const test = cluster();
    test.submit({ x: [], z: ["x"], y: ["x"] }, ["z", "y"], {
      internalPriority: new Map([
        ["x", 0],
        ["z", 2],
        ["y", 1],
      ]),
    });
    test.toWorker("a");
    test.finish("a", "x");
    expect(test.toWorker("a")).toEqual(["compute-task y", "compute-task z"]);
  });
});

describe("task-finished that comes late", () => {
  it("is answered with free-keys where the task is unknown, released or erred", () => {
    const test = cluster();
    test.fromWorker("a", finished("gone", 1));
    expect(test.toWorker("a")).toEqual(["free-keys gone"]);
    test.submit({ x: [] }, ["x"]);
    test.err("a", "x");
    test.toWorker("a");
    test.toClient();
    test.fromWorker("a", finished("x", 1));
    expect(test.toWorker("a")).toEqual(["free-keys x"]);
    test.expectQuiet();
  });

  it("with an old run_id releases the task where the same worker runs a newer one", () => {
    const test = cluster(["a", "b"]);
    test.submit({ x: [] }, ["x"]);
    const on = test.task("x").processingOn?.name as string;
    const other = on === "a" ? "b" : "a";
    test.toWorker(on);
    test.fromWorker(other, finished("x", 77));
    expect(test.toWorker(other)).toEqual(["free-keys x"]);
    test.fromWorker(on, finished("x", 77));
    expect([...test.toWorker("a"), ...test.toWorker("b")].sort()).toEqual(["compute-task x", "free-keys x"]);
    expect(test.task("x").runId).toBe(2);
  });

  it("twice is a second replica", () => {
    const test = cluster(["a", "b"]);
    test.submit({ x: [] }, ["x"]);
    const on = test.task("x").processingOn?.name as string;
    test.finish(on, "x");
    test.finish(on === "a" ? "b" : "a", "x");
    expect(test.task("x").whoHas.size).toBe(2);
    expect(test.core.state.replicatedTasks.size).toBe(1);
  });
});

describe("a task that fails", () => {
  it("makes everything that depends on it fail with its exception", () => {
    const test = cluster();
    test.submit({ x: [], y: ["x"], z: ["y"] }, ["z"]);
    test.toWorker("a");
    test.err("a", "x");
    expect(test.takeClient()).toEqual([
      { op: "task-erred", key: "z", exception: "error of x", traceback: "traceback" },
    ]);
    expect(test.states()).toEqual({ x: "erred", y: "erred", z: "erred" });
    expect(test.task("z").exceptionBlame).toBe(test.task("x"));
    expect(test.task("z").error).toBeNull();
    expect(test.core.state.erredTasks.length).toBe(1);
    test.release("z");
    expect(test.toWorker("a")).toEqual(["free-keys x"]);
    test.expectQuiet();
    test.expectEmpty();
  });

  it("is tried again as often as `retries` says, over free-keys", () => {
    const test = cluster();
    test.submit({ x: [] }, ["x"], { annotations: { x: new Map<Value, Value>([["retries", 1]]) } as never });
    test.toWorker("a");
    test.err("a", "x");
    expect(test.toWorker("a")).toEqual(["free-keys x", "compute-task x"]);
    test.err("a", "x");
    expect(test.toClient()).toEqual(["task-erred x"]);
    test.expectQuiet();
  });

  it("starts again on retry, and what depends on it as well", () => {
    const test = cluster();
    test.submit({ x: [], y: ["x"] }, ["y"]);
    test.toWorker("a");
    test.err("a", "x");
    test.toClient();
    expect(test.core.retry(["y"], "c", test.now)).toEqual(["y", "x"]);
    test.collect();
    expect(test.toClient()).toEqual(["task-retried y"]);
    expect(test.toWorker("a")).toEqual(["free-keys x", "compute-task x"]);
    expect(test.states()).toEqual({ x: "processing", y: "waiting" });
    expect(() => test.core.retry(["nobody"], "c", test.now)).toThrow(/nobody/);
  });

  it("does not leave a dependent waiting for another erred task when only one is retried", () => {
    const test = cluster();
    test.submit({ p: [], q: [], c: ["p"], d: ["p", "q"] }, ["c", "d", "q"]);
    test.err("a", "p");
    test.err("a", "q");
    test.core.retry(["c"], "c", test.now);
    test.collect();
    expect(test.states()).toMatchObject({ p: "processing", q: "erred", c: "waiting", d: "erred" });
    expect(test.task("d").exceptionBlame).toBe(test.task("q"));
  });

  it("makes a new graph that depends on it fail at once", () => {
    const test = cluster();
    test.submit({ x: [] }, ["x"]);
    test.err("a", "x");
    test.toClient();
    test.toWorker("a");
    test.submit({ y: ["x"], z: ["y"] }, ["z"]);
    // Once from the transition, once more as every graph reports what is done already.
    expect(test.toClient()).toContain("task-erred z");
    expect(test.states()).toEqual({ x: "erred", y: "erred", z: "erred" });
  });

  it("whose input exceeds the worker's memory fails instead of being sent", () => {
    const test = new TestCore();
    test.addClient();
    test.addWorker("a", { memoryLimit: 100 });
    test.submit({ x: [], y: ["x"] }, ["y"]);
    test.finish("a", "x", { nbytes: 1000 });
    expect(test.takeClient()).toEqual([
      { op: "task-erred", key: "y", exception: "exception:MemoryError", traceback: null },
    ]);
    expect(test.task("y").state).toBe("erred");
  });
});

describe("workers that go", () => {
  it("have their tasks run elsewhere and their data computed again", () => {
    const test = cluster(["a", "b"]);
    test.submit({ x: [], y: ["x"] }, ["y"]);
    const first = test.task("x").processingOn?.name as string;
    const second = first === "a" ? "b" : "a";
    test.toWorker(first);
    test.finish(first, "x");
    expect(test.toWorker(first)).toEqual(["compute-task y"]);
    test.removeWorker(first);
    expect(test.closed).toEqual([`tcp://${first}:1`]);
    expect(test.toWorker(first)).toEqual(["close"]);
    expect(test.toWorker(second)).toEqual(["compute-task x", "remove-worker"]);
    expect(test.task("y").suspicious).toBe(1);
    expect(test.states()).toEqual({ x: "processing", y: "waiting" });
    test.finish(second, "x");
    test.finish(second, "y");
    expect(test.toClient()).toEqual(["key-in-memory y"]);
  });

  it("kill a task after too many deaths, but not when they were expected to go", () => {
    const test = cluster([], { allowedFailures: 1 });
    test.submit({ x: [] }, ["x"]);
    for (const [name, expected] of [
      ["a", true],
      ["b", false],
      ["d", false],
    ] as const) {
      test.addWorker(name);
      expect(test.toWorker(name)).toEqual(["compute-task x"]);
      test.removeWorker(name, { expected, close: false });
    }
    expect(test.task("x").suspicious).toBe(2);
    expect(test.takeClient()).toEqual([
      { op: "task-erred", key: "x", exception: "exception:KilledWorker", traceback: null },
    ]);
    test.expectQuiet();
  });

  it("take scattered data with them for good, and what needs it is cancelled", () => {
    const test = cluster(["a"]);
    test.core.updateData(new Map([["data", ["tcp://a:1"]]]), new Map([["data", 8]]), "c", test.now);
    test.collect();
    expect(test.toClient()).toEqual(["key-in-memory data"]);
    test.submit({ y: ["data"] }, ["y"]);
    test.toClient();
    test.removeWorker("a");
    expect(test.toClient()).toEqual(["cancelled-keys data", "cancelled-keys y"]);
    test.toWorker("a");
    test.expectQuiet();
    test.expectEmpty();
  });

  it("lose an actor, which is not computed again", () => {
    const test = cluster(["a", "b"]);
    test.submit({ x: [] }, ["x"], { actors: true });
    const on = test.task("x").processingOn?.name as string;
    expect(test.takeWorker(on)[0]?.actor).toBe(true);
    test.finish(on, "x");
    test.toClient();
    test.removeWorker(on);
    expect(test.takeClient()[0]).toMatchObject({ op: "task-erred", key: "x", exception: "exception:RuntimeError" });
    expect(test.task("x").state).toBe("erred");
  });

  it("leave replicas elsewhere in memory", () => {
    const test = cluster(["a", "b"]);
    test.submit({ x: [] }, ["x"]);
    const on = test.task("x").processingOn?.name as string;
    const other = on === "a" ? "b" : "a";
    test.finish(on, "x");
    test.fromWorker(other, { op: "add-keys", keys: ["x", "unknown"] });
    expect(test.toWorker(other)).toEqual(["remove-replicas unknown"]);
    test.removeWorker(on);
    expect(test.states()).toEqual({ x: "memory" });
    test.fromWorker(other, { op: "release-worker-data", key: "x" });
    expect(test.toClient()).toEqual(["key-in-memory x", "lost-data x"]);
    expect(test.states()).toEqual({ x: "processing" });
  });
});

describe("worker messages", () => {
  it("long-running frees the slot and stays processing", () => {
    const test = cluster(["a"], { workerSaturation: 1 });
    test.submit(Object.fromEntries(["x-1", "x-2", "x-3"].map((key) => [key, []])), ["x-1", "x-2", "x-3"]);
    expect(test.toWorker("a")).toEqual(["compute-task x-1"]);
    expect(test.states()).toEqual({ "x-1": "processing", "x-2": "queued", "x-3": "queued" });
    test.fromWorker("a", { op: "long-running", key: "x-1", run_id: 1, compute_duration: 2 });
    expect(test.toWorker("a")).toEqual(["compute-task x-2"]);
    expect(test.task("x-1").state).toBe("processing");
    expect(test.task("x-1").prefix.durationAverage).toBe(2);
    test.finish("a", "x-1", { duration: 4 });
    expect(test.task("x-1").prefix.durationAverage).toBe(3);
  });

  it("reschedule sends the task again", () => {
    const test = cluster();
    test.submit({ x: [] }, ["x"]);
    test.toWorker("a");
    test.fromWorker("a", { op: "reschedule", key: "x" });
    expect(test.toWorker("a")).toEqual(["free-keys x", "compute-task x"]);
  });

  it("request-refresh-who-has tells of known keys and frees unknown ones", () => {
    const test = cluster(["a", "b"]);
    test.submit({ x: [] }, ["x"]);
    const on = test.task("x").processingOn?.name as string;
    test.finish(on, "x");
    test.toWorker("a");
    test.fromWorker("a", { op: "request-refresh-who-has", keys: ["x", "nope"] });
    expect(test.takeWorker("a")).toEqual([
      { op: "refresh-who-has", who_has: new Map([["x", [`tcp://${on}:1`]]]), stimulus_id: "test-1000" },
      { op: "free-keys", keys: ["nope"], stimulus_id: "test-1000" },
    ]);
  });

  it("that are unknown or broken throw, and change nothing", () => {
    const test = cluster();
    expect(() => test.fromWorker("a", { op: "make-coffee" })).toThrow(/make-coffee/);
    expect(() => test.fromWorker("a", { op: "task-finished", key: new Map() })).toThrow(/key/);
    expect(() => test.fromClient({ op: "client-desires-keys", keys: "x" })).toThrow(/keys/);
    expect(() => test.fromClient({ op: "update-graph" })).toThrow(/update-graph/);
    test.expectQuiet();
  });

  it("a paused worker gets nothing until it runs again", () => {
    const test = cluster();
    test.fromWorker("a", { op: "worker-status-change", status: "paused" });
    test.submit({ x: [] }, ["x"]);
    expect(test.states()).toEqual({ x: "no-worker" });
    test.fromWorker("a", { op: "worker-status-change", status: "running" });
    expect(test.toWorker("a")).toEqual(["compute-task x"]);
  });
});

function finished(key: string, runId: number) {
  return {
    op: "task-finished",
    key,
    run_id: runId,
    nbytes: 1,
    type: new Uint8Array(),
    typename: "int",
    metadata: new Map<Value, Value>(),
    startstops: [],
  };
}
