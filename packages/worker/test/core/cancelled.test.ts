/** Tasks that are released, or wanted for another reason, while they run or are on their way. */
import { describe, expect, test } from "vitest";
import {
  compute,
  Driver,
  ERROR,
  failure,
  free,
  gatherFailure,
  gathered,
  LOCAL_PEER,
  LOCAL_PEER_2,
  networkFailure,
  removeReplicas,
  reschedule,
  secede,
  success,
  updateData,
} from "./support/events.ts";

describe("a running task that is released", () => {
  test.each([
    ["success", success],
    ["failure", failure],
    ["reschedule", reschedule],
  ] as const)("keeps its thread, and its %s is told to nobody", (_, done) => {
    const d = new Driver();
    expect(d.do(compute("x"))).toEqual([["execute", "x"]]);
    // which ends a coroutine
    expect(d.do(free("x"), compute("y", { priority: [1] }))).toEqual([["cancel", "x"]]);
    expect(d.states()).toEqual({ x: "cancelled(executing)", y: "ready" });
    const told = d.do(done("x")).filter(([name]) => name !== "drop");
    expect(told).toEqual([["execute", "y"]]);
    expect(d.states()).toEqual({ y: "executing" });
    expect(d.store.size).toBe(0);
  });

  test("goes on as if nothing had happened when it is wanted again, with the run_id of the run", () => {
    const d = new Driver();
    d.do(compute("x", { runId: 1 }), free("x"));
    expect(d.do(compute("x", { runId: 2 }))).toEqual([]);
    expect(d.state("x")).toBe("executing");
    expect(d.do(success("x", { runId: 1 }))).toEqual([["task-finished", "x", 1, 1, ["compute"]]]);
  });

  test("becomes a replica when another task needs it", () => {
    const d = new Driver();
    d.do(compute("x"), free("x"));
    expect(d.do(compute("y", { whoHas: { x: [LOCAL_PEER] } }))).toEqual([]);
    expect(d.states()).toEqual({ x: "resumed(executing->fetch)", y: "waiting" });
    expect(d.do(success("x"))).toEqual([
      ["add-keys", ["x"]],
      ["execute", "y"],
    ]);
  });

  test.each([
    ["failure", failure],
    ["reschedule", reschedule],
  ] as const)("is fetched after a %s when another task needs it", (_, done) => {
    const d = new Driver();
    d.do(compute("x"), free("x"), compute("y", { whoHas: { x: [LOCAL_PEER] } }));
    expect(d.do(done("x"))).toEqual([["gather", LOCAL_PEER, ["x"], 1]]);
    expect(d.states()).toEqual({ x: "flight", y: "waiting" });
  });

  test("can be cancelled again after it was resumed, and then be computed", () => {
    const d = new Driver();
    d.do(compute("x"), free("x"), compute("y", { whoHas: { x: [LOCAL_PEER] } }), free("y"));
    expect(d.states()).toEqual({ x: "cancelled(executing)" });
    d.do(compute("x", { runId: 5 }));
    expect(d.state("x")).toBe("executing");
  });

  test("keeps its resources, whatever a new request asks for", () => {
    const d = new Driver({ nthreads: 2, resources: new Map([["R", 1]]) });
    d.do(compute("x", { resources: { R: 1 } }), free("x"), compute("z", { resources: { R: 1 } }));
    expect(d.state("z")).toBe("constrained");
    d.do(compute("x", { runId: 2, resources: {} }));
    expect(d.machine.task("x")?.resourceRestrictions).toEqual(new Map([["R", 1]]));
    expect(d.do(success("x"))).toEqual([
      ["task-finished", "x", 1, 1, ["compute"]],
      ["execute", "z"],
    ]);
    expect(d.machine.availableResources.get("R")).toBe(0);
  });

  test("has its dependency released beside it", () => {
    const d = new Driver();
    d.do(compute("x"), success("x"), compute("y", { whoHas: { x: [LOCAL_PEER] } }), free("y"));
    expect(d.do(removeReplicas("x"))).toEqual([
      ["drop", ["x"]],
      ["release-worker-data", "x"],
    ]);
    d.do(success("y"));
    expect(d.states()).toEqual({});
  });
});

describe("secede", () => {
  test("frees the thread, not the task, and tells the scheduler", () => {
    const d = new Driver();
    d.do(compute("x", { runId: 3 }), compute("y", { priority: [1] }));
    expect(d.do(secede("x", 2))).toEqual([
      ["long-running", "x", 3, expect.objectContaining({ value: 2 })],
      ["execute", "y"],
    ]);
    expect(d.machine.executingCount).toBe(1);
    expect(d.machine.longRunningCount).toBe(1);
    expect(d.do(success("x", { runId: 3 }))).toEqual([["task-finished", "x", 3, 1, ["compute"]]]);
  });

  test("of a cancelled task is told when the task is wanted again, without a duration", () => {
    const d = new Driver();
    d.do(compute("x"), free("x"));
    expect(d.do(secede("x"))).toEqual([]);
    expect(d.state("x")).toBe("cancelled(long-running)");
    expect(d.do(compute("x", { runId: 9 }))).toEqual([["long-running", "x", 9, null]]);
    expect(d.state("x")).toBe("long-running");
  });

  test("of a resumed task tells nothing", () => {
    const d = new Driver();
    d.do(compute("x"), free("x"), compute("y", { whoHas: { x: [LOCAL_PEER] } }));
    expect(d.do(secede("x"))).toEqual([]);
    expect(d.state("x")).toBe("resumed(long-running->fetch)");
    expect(d.do(success("x"))).toEqual([
      ["add-keys", ["x"]],
      ["execute", "y"],
    ]);
  });

  test("of a task that is gone is ignored", () => {
    const d = new Driver();
    d.do(compute("x"), success("x"));
    expect(d.do(secede("x"), secede("unknown"))).toEqual([]);
    expect(d.state("x")).toBe("memory");
  });
});

describe("a task in flight that is released", () => {
  const inFlight = (): Driver => {
    const d = new Driver();
    expect(d.do(compute("y", { whoHas: { x: [LOCAL_PEER] } }))).toEqual([["gather", LOCAL_PEER, ["x"], 1]]);
    d.do(free("y"));
    expect(d.states()).toEqual({ x: "cancelled(flight)" });
    return d;
  };

  test.each([
    ["the value", gathered(LOCAL_PEER, ["x"]), [["drop", ["x"]]]],
    ["nothing", gathered(LOCAL_PEER, [], 1), []],
    ["an error", gatherFailure(LOCAL_PEER), []],
    ["a network failure", networkFailure(LOCAL_PEER), []],
  ] as const)("is forgotten when %s comes", (_, done, told) => {
    const d = inFlight();
    expect(d.do(done)).toEqual(told);
    expect(d.states()).toEqual({});
    expect(d.store.size).toBe(0);
    expect(d.machine.transferIncomingBytes).toBe(0);
  });

  test("flies on when it is needed again", () => {
    const d = inFlight();
    expect(d.do(compute("y", { whoHas: { x: [LOCAL_PEER] } }))).toEqual([]);
    expect(d.state("x")).toBe("flight");
    expect(d.do(gathered(LOCAL_PEER, ["x"]))).toEqual([
      ["add-keys", ["x"]],
      ["execute", "y"],
    ]);
  });

  test("is finished by its transfer when it is to be computed, under the run_id of that request", () => {
    const d = inFlight();
    expect(d.do(compute("x", { runId: 8 }))).toEqual([]);
    expect(d.state("x")).toBe("resumed(flight->waiting)");
    expect(d.do(gathered(LOCAL_PEER, ["x"]))).toEqual([["task-finished", "x", 8, 1, []]]);
  });

  test.each([
    ["nothing", gathered(LOCAL_PEER, [], 1)],
    ["an error", gatherFailure(LOCAL_PEER)],
    ["a network failure", networkFailure(LOCAL_PEER)],
  ] as const)("is computed when it was to be and %s comes", (_, done) => {
    const d = inFlight();
    d.do(compute("x", { runId: 8 }));
    expect(d.do(done)).toEqual([["execute", "x"]]);
  });

  test("is cancelled and needed again while it was to be computed", () => {
    const d = inFlight();
    d.do(compute("x", { runId: 8 }), free("x"));
    expect(d.state("x")).toBe("cancelled(flight)");
    d.do(compute("y", { whoHas: { x: [LOCAL_PEER] } }));
    expect(d.state("x")).toBe("flight");
  });

  test("to be computed with dependencies of its own, fetches them when the transfer has failed", () => {
    const d = inFlight();
    expect(d.do(compute("x", { whoHas: { w: [LOCAL_PEER_2] } }))).toEqual([]);
    expect(d.states()).toEqual({ x: "resumed(flight->waiting)", w: "released" });
    expect(d.do(networkFailure(LOCAL_PEER))).toEqual([["gather", LOCAL_PEER_2, ["w"], 1]]);
    expect(d.states()).toEqual({ x: "waiting", w: "flight" });
  });
});

describe("update_data", () => {
  test("puts values in memory without a message", () => {
    const d = new Driver();
    expect(d.do(updateData("a", "b"))).toEqual([]);
    expect(d.states()).toEqual({ a: "memory", b: "memory" });
    expect(d.machine.nbytes).toBe(2);
  });

  test("for a running task stands beside the run, whose end changes nothing", () => {
    const d = new Driver();
    d.do(compute("x"));
    expect(d.do(updateData("x"))).toEqual([]);
    expect(d.state("x")).toBe("memory");
    expect(d.machine.executingCount).toBe(1);
    expect(d.do(success("x"))).toEqual([]);
    expect(d.state("x")).toBe("memory");
    d.do(free("x"));
    expect(d.states()).toEqual({});
  });

  test("for a task that waits makes its dependents ready", () => {
    const d = new Driver();
    d.do(compute("y", { whoHas: { x: [LOCAL_PEER] } }));
    expect(d.do(networkFailure(LOCAL_PEER))).toEqual([]);
    expect(d.state("x")).toBe("missing");
    expect(d.do(updateData("x"))).toEqual([["execute", "y"]]);
  });

  test("while the value is in flight counts as its arrival", () => {
    const d = new Driver();
    d.do(compute("y", { whoHas: { x: [LOCAL_PEER] } }));
    expect(d.do(updateData("x"))).toEqual([
      ["add-keys", ["x"]],
      ["execute", "y"],
    ]);
    expect(d.do(gathered(LOCAL_PEER, [], 1))).toEqual([]);
    expect(d.state("x")).toBe("memory");
  });
});

test("an error goes out as it came, and is forgotten with the task", () => {
  const d = new Driver();
  d.do(compute("x", { runId: 4 }));
  const [instruction] = d.raw(failure("x", { runId: 4 }));
  expect(instruction).toMatchObject({
    kind: "send",
    message: {
      op: "task-erred",
      key: "x",
      run_id: 4,
      exception: ERROR.exception,
      traceback: ERROR.traceback,
      exception_text: ERROR.exceptionText,
      traceback_text: ERROR.tracebackText,
      thread: 7,
      status: "error",
    },
  });
  expect(d.do(compute("x", { runId: 5 }))).toEqual([["execute", "x"]]);
  expect(d.machine.task("x")?.exception).toBeNull();
});

test("a value that was not wanted any more is looked for when another task waits for it by the end of the same transfer", () => {
  const d = new Driver();
  d.do(compute("u", { whoHas: { t: [LOCAL_PEER], x: [LOCAL_PEER] } }), free("u"));
  expect(d.states()).toEqual({ x: "cancelled(flight)", t: "cancelled(flight)" });
  d.do(compute("t", { whoHas: { x: [LOCAL_PEER] } }));
  expect(d.states()).toEqual({ x: "cancelled(flight)", t: "resumed(flight->waiting)" });
  d.do(networkFailure(LOCAL_PEER, 2));
  expect(d.states()).toEqual({ x: "missing", t: "waiting" });
});
