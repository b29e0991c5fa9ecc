/** What runs when, the messages about it, and the figures. */
import { describe, expect, test } from "vitest";
import {
  acquire,
  cancelCompute,
  compute,
  Driver,
  failure,
  free,
  gathered,
  LOCAL_PEER,
  op,
  reschedule,
  steal,
  success,
  TYPE,
} from "./support/events.ts";

test("a task goes from compute-task to task-finished to forgotten", () => {
  const d = new Driver();
  const [execute] = d.raw(compute("x", { runId: 12, priority: [1, 2] }));
  expect(execute).toEqual({
    kind: "execute",
    key: "x",
    runId: 12,
    runSpec: "spec",
    dependencies: [],
    annotations: new Map(),
    actor: false,
    priority: [1, 2, 0],
    spanId: null,
    stimulusId: expect.any(String),
  });
  const [finished] = d.raw(success("x", { runId: 12, nbytes: 99 }));
  expect(finished).toEqual({
    kind: "send",
    message: {
      op: "task-finished",
      key: "x",
      run_id: 12,
      nbytes: 99,
      type: TYPE,
      typename: "builtins.int",
      metadata: new Map(),
      thread: 7,
      startstops: [{ action: "compute", start: expect.objectContaining({ value: 10 }), stop: 10.5 }],
      stimulus_id: expect.any(String),
      status: "OK",
    },
  });
  expect(d.machine.nbytes).toBe(99);
  expect(d.do(free("x"))).toEqual([
    ["drop", ["x"]],
    ["release-worker-data", "x"],
  ]);
  expect(d.states()).toEqual({});
  expect(d.machine.nbytes).toBe(0);
});

test("keys of every kind come back as they came", () => {
  const key = ["x", 1, ["y", "z"]] as const;
  const d = new Driver();
  const [execute] = d.raw(compute(key));
  expect(execute).toMatchObject({ key });
  d.do(compute("after", { priority: [9] }));
  expect(d.raw(success(["x", 1, ["y", "z"]]))[0]).toMatchObject({ message: { key } });
});

describe("compute-task for a known key", () => {
  test("in memory is answered with the new run_id", () => {
    const d = new Driver();
    d.do(compute("x", { runId: 1 }), success("x"));
    expect(d.do(compute("x", { runId: 2 }))).toEqual([["task-finished", "x", 2, 1, ["compute"]]]);
  });
  test("that waits or runs changes only its run_id", () => {
    const d = new Driver();
    d.do(compute("x", { runId: 1 }), compute("y", { runId: 2, priority: [1] }));
    expect(d.do(compute("x", { runId: 3 }), compute("y", { runId: 4, priority: [-1] }))).toEqual([]);
    expect(d.do(success("x"))).toEqual([
      ["task-finished", "x", 1, 1, ["compute"]],
      ["execute", "y"],
    ]);
    expect(d.machine.task("y")?.runId).toBe(4);
    expect(d.machine.task("y")?.priority?.[0]).toBe(1);
  });
  test("that has erred runs it again", () => {
    const d = new Driver();
    d.do(compute("x"), failure("x"));
    expect(d.do(compute("x", { runId: 2 }))).toEqual([["execute", "x"]]);
  });
});

describe("order", () => {
  test("by priority; later ones first among equals", () => {
    const d = new Driver();
    d.do(compute("busy"));
    d.do(compute("b", { priority: [2] }), compute("a", { priority: [1, 5] }), compute("c", { priority: [2] }));
    d.do(compute("short", { priority: [1] }));
    const order = [];
    let running: string | undefined = "busy";
    while (running !== undefined) {
      const told: unknown[][] = d.do(success(running));
      running = told.find(([name]) => name === "execute")?.[1] as string | undefined;
      order.push(running);
    }
    expect(order).toEqual(["short", "a", "c", "b", undefined]);
  });

  test("as many at once as there are threads, and more after nthreads was raised", () => {
    const d = new Driver({ nthreads: 2 });
    expect(d.do(...["a", "b", "c", "d"].map((key) => compute(key))).length).toBe(2);
    expect(d.machine.executingCount).toBe(2);
    d.machine.nthreads = 3;
    expect(d.do(reschedule("a")).filter(([name]) => name === "execute").length).toBe(2);
  });

  test("dependencies first: the last value to come makes the task ready", () => {
    const d = new Driver();
    expect(d.do(compute("x", { whoHas: { a: [LOCAL_PEER], b: [LOCAL_PEER] } }))).toEqual([
      ["gather", LOCAL_PEER, ["a", "b"], 2],
    ]);
    expect(d.do(gathered(LOCAL_PEER, ["a", "b"]))).toEqual([
      ["add-keys", ["a"]],
      ["add-keys", ["b"]],
      ["execute", "x"],
    ]);
    expect(d.raw(success("x"))).toHaveLength(1);
  });
});

describe("resources", () => {
  const resources = new Map([
    ["R", 2],
    ["Q", 1],
  ]);
  test("are taken while a task runs and given back at each kind of end", () => {
    for (const done of [success, failure, reschedule]) {
      const d = new Driver({ nthreads: 4, resources });
      expect(d.do(compute("x", { resources: { R: 2 } }), compute("y", { resources: { R: 1 } }))).toEqual([
        ["execute", "x"],
      ]);
      expect(d.state("y")).toBe("constrained");
      expect(d.machine.availableResources.get("R")).toBe(0);
      expect(d.do(done("x")).filter(([name]) => name === "execute")).toEqual([["execute", "y"]]);
      expect(d.machine.availableResources.get("R")).toBe(1);
    }
  });
  test("the first constrained task is not overtaken by a later one that would fit", () => {
    const d = new Driver({ nthreads: 4, resources });
    d.do(compute("x", { resources: { R: 1 } }));
    d.do(
      compute("big", { priority: [1], resources: { R: 2 } }),
      compute("small", { priority: [2], resources: { R: 1 } }),
    );
    expect(d.states()).toEqual({ x: "executing", big: "constrained", small: "constrained" });
    expect(d.do(compute("free", { priority: [3] }))).toEqual([["execute", "free"]]);
  });
  test("an urgent constrained task goes before ready ones, if it can", () => {
    const d = new Driver({ resources });
    d.do(compute("busy"), compute("r", { priority: [1] }), compute("c", { priority: [0], resources: { Q: 1 } }));
    expect(d.do(success("busy"))[0]?.[0]).toBe("task-finished");
    expect(d.state("c")).toBe("executing");
  });
  test("can be changed", () => {
    const d = new Driver({ nthreads: 2, resources: new Map([["R", 1]]) });
    d.do(compute("x", { resources: { R: 1 } }));
    d.machine.setResources(
      new Map([
        ["R", 3],
        ["new", 1],
      ]),
    );
    expect([...d.machine.availableResources]).toEqual([
      ["R", 2],
      ["new", 1],
    ]);
    d.machine.validateState();
  });
  test("that this worker does not have keep a task waiting", () => {
    const d = new Driver();
    expect(d.do(compute("x", { resources: { GPU: 1 } }))).toEqual([]);
    expect(d.state("x")).toBe("constrained");
  });
});

describe("steal-request", () => {
  test("takes what has not begun", () => {
    const d = new Driver({ resources: new Map() });
    d.do(
      compute("x"),
      compute("y"),
      compute("z", { whoHas: { a: [LOCAL_PEER] } }),
      compute("c", { resources: { R: 1 } }),
    );
    expect(d.do(steal("y"))).toEqual([["steal-response", "y", "ready"]]);
    expect(d.do(steal("z"))).toEqual([["steal-response", "z", "waiting"]]);
    expect(d.do(steal("c"))).toEqual([["steal-response", "c", "constrained"]]);
    expect(d.states()).toEqual({ x: "executing", a: "cancelled(flight)" });
  });
  test("leaves what runs, is done, or is not known", () => {
    const d = new Driver();
    d.do(compute("x"));
    expect(d.do(steal("x"), steal("unknown"))).toEqual([
      ["steal-response", "x", "executing"],
      ["steal-response", "unknown", null],
    ]);
    d.do(success("x"));
    expect(d.do(steal("x"))).toEqual([["steal-response", "x", "memory"]]);
  });
});

test("cancel-compute forgets what has not begun, and nothing else", () => {
  const d = new Driver();
  d.do(compute("x"), compute("y"));
  expect(d.do(cancelCompute("x"), cancelCompute("y"), cancelCompute("z"))).toEqual([]);
  expect(d.states()).toEqual({ x: "executing" });
});

test("reschedule is told, and the task is forgotten", () => {
  const d = new Driver();
  d.do(compute("x"));
  expect(d.do(reschedule("x"))).toEqual([["reschedule", "x"]]);
  expect(d.states()).toEqual({});
});

test("figures: counts, elapsed time, running tasks", () => {
  const d = new Driver();
  d.do(compute("inc-1"), compute("inc-2", { priority: [1] }), compute("sum-1", { priority: [2] }));
  expect(Object.fromEntries(d.machine.taskCounts())).toEqual({ executing: 1, ready: 2 });
  expect(d.machine.executing(d.now + 5)).toEqual([["inc-1", 7]]);
  const elapsed = d.machine.cumulativeElapsed(d.now + 5);
  expect(elapsed).toContainEqual({ prefix: "inc", state: "executing", seconds: 7 });
  expect(elapsed).toContainEqual({ prefix: "inc", state: "ready", seconds: 6 });
  expect(elapsed).toContainEqual({ prefix: "sum", state: "ready", seconds: 5 });
  d.do(success("inc-1"), acquire({ other: [LOCAL_PEER] }));
  expect(d.machine.executedCount).toBe(1);
  expect(d.machine.inFlightTasksCount).toBe(1);
  expect(d.machine.transferIncomingBytes).toBe(1);
});

test("the story of a key or stimulus, and the dump", () => {
  const d = new Driver();
  d.do(compute("x"), success("x"));
  const story = d.machine.story(["x"]) as unknown[][];
  expect(story.map((record) => record.slice(1, 4))).toEqual([
    ["compute-task", "released", expect.any(String)],
    ["released", "waiting", "waiting"],
    ["waiting", "ready", "ready"],
    ["ready", "executing", "executing"],
    ["put-in-memory", expect.any(String), expect.anything()],
    ["executing", "memory", "memory"],
  ]);
  expect(story[1]?.[4]).toEqual(new Map([["x", "ready"]]));
  expect(d.machine.story(["nothing"])).toEqual([]);
  expect(d.machine.story([story[0]?.[3] as string]).length).toBe(4);
  const dump = d.machine.toDict();
  expect((dump.get("tasks") as Map<string, Map<string, unknown>>).get("x")?.get("state")).toBe("memory");
  expect(dump.get("log")).toEqual(story);
});

test("the log keeps the last records only", () => {
  const d = new Driver({ logLength: 3 });
  d.do(compute("x"), success("x"), free("x"));
  expect(d.machine.story(["x"]).length).toBe(3);
});

test("plugins' transitions are reported where somebody wants them", () => {
  const d = new Driver({ reportTransitions: true });
  expect(d.do(compute("x"))).toEqual([
    ["transition", "x", "released", "waiting"],
    ["transition", "x", "waiting", "ready"],
    ["execute", "x"],
    ["transition", "x", "ready", "executing"],
  ]);
});

describe("what cannot be", () => {
  test("a malformed message changes nothing and fails the worker", () => {
    const d = new Driver();
    d.do(compute("x"));
    for (const fields of [{}, { key: "y", run_id: 1, priority: "high", who_has: new Map(), nbytes: new Map() }]) {
      const e = new Driver();
      expect(() => e.do(op("compute-task", fields))).toThrow(/malformed compute-task/);
      expect(e.states()).toEqual({});
      expect(e.machine.failed).toBe(true);
      expect(e.machine.handle(compute("x"), 0)).toEqual([]);
    }
    expect(d.machine.failed).toBe(false);
  });
  test("the end of a task that does not run fails, with its story", () => {
    const d = new Driver();
    d.do(compute("x"), success("x"));
    const [fail] = d.machine.handle(success("x"), 0);
    expect(fail).toMatchObject({ kind: "fail", topic: null, reason: expect.stringContaining("put-in-memory") });
  });
  test("too many transitions fail with their own topic", () => {
    const d = new Driver({ transitionCounterMax: 3 });
    const instructions = d.machine.handle(compute("x"), 0);
    expect(instructions.at(-1)).toMatchObject({ kind: "fail", topic: "transition-counter-max-exceeded" });
  });
});
