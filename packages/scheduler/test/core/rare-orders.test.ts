/** What seldom happens, in orders that nobody would think of: found by tests/simulation. */
import type { Message, Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import { ActiveMemoryManager, RetireWorker, type WorkerState } from "../../src/core/index.ts";
import { addressOf, graphOf, type GraphSpec, TestCore } from "./builders.ts";

function cluster(workers: readonly string[] = ["a"], config = {}): TestCore {
  const test = new TestCore(config);
  test.addClient();
  for (const name of workers) test.addWorker(name);
  for (const name of workers) test.takeWorker(name);
  return test;
}

function only(worker: string): ReadonlyMap<Value, Value> {
  return new Map<Value, Value>([["workers", [addressOf(worker)]]]);
}

interface Where {
  readonly external?: readonly string[];
  readonly annotations?: Record<string, ReadonlyMap<Value, Value>>;
  readonly actors?: readonly string[];
}

/** With annotations of single tasks. */
function submit(test: TestCore, spec: GraphSpec, keys: readonly string[], where: Where): void {
  test.submitGraph(graphOf(spec, where), keys, { actors: where.actors ?? null });
}

const MANY = ["q-1", "q-2", "q-3", "q-4", "q-5", "q-6", "q-7", "q-8"];

/** A group that is large enough to be queued. */
function queueUp(test: TestCore): void {
  test.submit(Object.fromEntries(MANY.map((key) => [key, []])), MANY);
}

describe("a task that was to err and is not needed any more", () => {
  it("blames nobody when it is needed again", () => {
    const test = cluster();
    const spec = { t: [], l: ["t"], m: ["l"], s: ["m", "l"] };
    test.submit(spec, ["s"]);
    test.err("a", "t");
    expect(test.states()).toEqual({ t: "erred", l: "erred", m: "released", s: "erred" });
    test.core.retry(["s"], "c", test.now);
    test.collect();
    test.toClient();
    // Another graph that knows the task: it must not err over what is being tried again.
    expect(test.submit(spec, ["s"])).toMatchObject({ status: "OK" });
    expect(test.states()).toEqual({ t: "processing", l: "waiting", m: "waiting", s: "waiting" });
    expect(test.toClient()).toEqual([]);
  });
});

describe("a result that goes with its worker", () => {
  it.each([
    ["s", "m"],
    ["m", "s"],
  ])("errs as what it was made of has erred (%s is looked at before %s)", (...order) => {
    const test = cluster(["a", "b"]);
    submit(test, { e: [], s: ["e"], m: ["s"], n: ["m"] }, ["e", "s", "m", "n"], {
      annotations: { e: only("b"), s: only("a"), m: only("a"), n: only("b") },
    });
    test.finish("b", "e");
    test.finish("a", "s");
    test.finish("a", "m");
    test.removeWorker("b");
    test.addWorker("b");
    test.takeWorker("b");
    test.err("b", "e");
    expect(test.states()).toEqual({ e: "erred", s: "memory", m: "memory", n: "processing" });
    const { hasWhat } = test.task("s").whoHas.items[0] as WorkerState;
    for (const key of order) {
      hasWhat.delete(test.task(key));
      hasWhat.add(test.task(key));
    }
    test.removeWorker("a");
    expect(test.states()).toEqual({ e: "erred", s: "erred", m: "erred", n: "erred" });
    // Not that an actor was lost: there was none.
    for (const key of ["s", "m", "n"]) expect(test.task(key).exceptionBlame).toBe(test.task("e"));
  });
});

describe("an actor", () => {
  it("is never queued", () => {
    const test = cluster(["a"], { workerSaturation: 1 });
    test.submit(Object.fromEntries(MANY.map((key) => [key, []])), MANY, { actors: true });
    expect(new Set(Object.values(test.states()))).toEqual(new Set(["processing"]));
  });

  it("that was retried and lives again is left alone by a second retry", () => {
    const test = cluster(["a", "b"]);
    submit(test, { x: [] }, ["x"], { actors: ["x"], annotations: { x: only("a") } });
    test.finish("a", "x");
    test.removeWorker("a");
    test.addWorker("a");
    test.takeWorker("a");
    expect(test.core.retry(["x"], "c", test.now)).toEqual(["x"]);
    test.collect();
    test.finish("a", "x");
    test.toClient();
    expect(test.core.retry(["x"], "c", test.now)).toEqual([]);
    test.collect();
    expect(test.states()).toEqual({ x: "memory" });
    expect(test.toClient()).toEqual([]);
  });

  it("that is lost has what needs it taken back from other workers", () => {
    const test = cluster(["a", "b"]);
    submit(test, { x: [], y: ["x"] }, ["x", "y"], { actors: ["x"], annotations: { x: only("a"), y: only("b") } });
    test.finish("a", "x");
    expect(test.toWorker("b")).toEqual(["compute-task y"]);
    test.removeWorker("a");
    expect(test.states()).toEqual({ x: "erred", y: "erred" });
    expect(test.toWorker("b")).toEqual(["free-keys y", "remove-worker"]);
  });
});

describe("a queued task is sent when a slot opens because", () => {
  const config = { workerSaturation: 1 };

  function sentTo(test: TestCore, worker: string): string[] {
    return test.toWorker(worker).filter((message) => message.startsWith("compute-task q"));
  }

  it("a task is rescheduled to another worker", () => {
    const test = cluster(["a", "b"], config);
    submit(test, { z: [] }, ["z"], { annotations: { z: only("a") } });
    queueUp(test);
    expect([sentTo(test, "a"), sentTo(test, "b")]).toEqual([[], ["compute-task q-1"]]);
    test.core.setRestrictions(new Map([["z", [addressOf("b")]]]));
    test.fromWorker("a", { op: "reschedule", key: "z" });
    expect(test.task("z").processingOn?.name).toBe("b");
    expect(sentTo(test, "a")).toEqual(["compute-task q-2"]);
  });

  it("a worker has lost data that a task of another needs", () => {
    const test = cluster(["a", "b"], config);
    submit(test, { x: [], y: ["x"] }, ["x", "y"], { annotations: { x: only("a"), y: only("b") } });
    test.finish("a", "x");
    queueUp(test);
    expect([sentTo(test, "a"), sentTo(test, "b")]).toEqual([["compute-task q-1"], []]);
    test.fromWorker("a", { op: "release-worker-data", key: "x" });
    expect(test.states()).toMatchObject({ x: "processing", y: "waiting" });
    expect(sentTo(test, "b")).toEqual(["compute-task q-2"]);
  });

  it("a worker is lost that had data for a task of another", () => {
    const test = cluster(["a", "b"], config);
    submit(test, { x: [], y: ["x"] }, ["x", "y"], { annotations: { x: only("a"), y: only("b") } });
    test.finish("a", "x");
    test.fromWorker("a", { op: "worker-status-change", status: "paused" });
    queueUp(test);
    expect(sentTo(test, "b")).toEqual([]);
    test.removeWorker("a");
    expect(test.states()).toMatchObject({ x: "no-worker", y: "waiting" });
    expect(sentTo(test, "b")).toEqual(["compute-task q-1"]);
  });

  it("a value comes from outside for a task that runs", () => {
    const test = cluster(["a"], config);
    test.submit({ z: [] }, ["z"]);
    queueUp(test);
    expect(sentTo(test, "a")).toEqual([]);
    test.core.updateData(new Map([["z", [addressOf("a")]]]), new Map([["z", 1]]), "c", test.now);
    test.collect();
    expect(sentTo(test, "a")).toEqual(["compute-task q-1"]);
  });

  it("a graph is given up that alone kept a task", () => {
    const test = cluster(["a"], { ...config, tasksPerYield: 1 });
    test.submit({ z: [] }, ["z"]);
    queueUp(test);
    test.toWorker("a");
    test.addClient("d");
    const more = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`more-${i}`, []]));
    const graph = graphOf({ z: [], ...more });
    const steps = test.core.updateGraph(
      {
        client: "d",
        graph,
        keys: graph.keys,
        internalPriority: null,
        submittingTask: null,
        fifoTimeout: 0.1,
        actors: null,
        userPriority: 0,
      },
      test.now,
    );
    // All tasks are created and linked, not all are wanted yet.
    for (let i = 0; i < 24; i++) expect(steps.next(test.now).done).toBe(false);
    test.release("z");
    expect(test.task("z").state).toBe("processing");
    test.core.removeClient("d", test.now);
    while (!steps.next(test.now).done);
    test.collect();
    expect(test.has("z")).toBe(false);
    expect(sentTo(test, "a")).toEqual(["compute-task q-1"]);
  });
});

describe("what a client wants", () => {
  it("is computed also where it was kept for its dependents only", () => {
    const test = cluster();
    test.submit({ x: [], y: ["x"] }, ["y"]);
    test.finish("a", "x");
    test.finish("a", "y");
    expect(test.states()).toEqual({ x: "released", y: "memory" });
    test.toWorker("a");
    test.fromClient({ op: "client-desires-keys", keys: ["x"] });
    expect(test.toWorker("a")).toEqual(["compute-task x"]);
  });

  it("and fires and forgets is not kept where it has ended, or ends by what it depends on", () => {
    const test = cluster();
    const fire = (...keys: string[]): Message => ({ op: "client-desires-keys", keys, client: "fire-and-forget" });
    test.submit({ x: [], bad: [], y: ["bad"] }, ["x", "y"]);
    test.finish("a", "x");
    test.fromClient(fire("x", "y"));
    test.err("a", "bad");
    test.release("x", "y");
    expect(test.states()).toEqual({});
    test.submit({ bad: [], y: ["bad"] }, ["y"]);
    test.err("a", "bad");
    test.fromClient(fire("y"));
    test.release("y");
    expect(test.states()).toEqual({});
    test.expectEmpty();
  });

  it("and scatters is let go of where the client has left meanwhile", () => {
    const test = cluster();
    test.core.updateData(new Map([["data", [addressOf("a")]]]), new Map([["data", 8]]), "gone", test.now);
    test.collect();
    expect(test.toWorker("a")).toEqual(["free-keys data"]);
    expect(test.core.state.clients.has("gone")).toBe(false);
    test.expectEmpty();
  });
});

describe("scattered data that a worker drops", () => {
  it("takes with it what is running elsewhere and needs it", () => {
    const test = cluster(["a", "b"]);
    test.core.updateData(new Map([["data", [addressOf("a")]]]), new Map([["data", 8]]), "c", test.now);
    submit(test, { y: ["data"], z: ["y"] }, ["z"], { external: ["data"], annotations: { y: only("b") } });
    expect(test.states()).toEqual({ data: "memory", y: "processing", z: "waiting" });
    test.toWorker("b");
    test.toClient();
    test.fromWorker("a", { op: "release-worker-data", key: "data" });
    // It may have got another value of that key meanwhile.
    expect(test.toWorker("a")).toEqual(["free-keys data"]);
    expect(test.toWorker("b")).toEqual(["free-keys y"]);
    expect(test.toClient().sort()).toEqual(["cancelled-keys data", "cancelled-keys z", "lost-data data"]);
    expect(test.states()).toEqual({});
  });
});

describe("data that is lost for good", () => {
  it("is not counted as a transfer for ever by the worker that was to fetch it", () => {
    const test = cluster(["a", "b"]);
    test.core.updateData(new Map([["data", [addressOf("a")]]]), new Map([["data", 1000]]), "c", test.now);
    submit(test, { y: ["data"] }, ["y"], { external: ["data"], annotations: { y: only("b") } });
    const b = test.core.state.workers.get(addressOf("b"));
    expect(b?.networkOcc).toBe(1000);
    test.removeWorker("a");
    expect(test.states()).toEqual({});
    expect([b?.networkOcc, b?.needsWhat.size, test.core.state.networkOcc]).toEqual([0, 0, 0]);
  });
});

describe("a task that nobody needs after a worker is lost with an actor", () => {
  it("is forgotten, although it errs", () => {
    const test = cluster(["a"]);
    test.submit({ x: [] }, ["x"], { actors: true });
    test.finish("a", "x");
    test.core.updateData(new Map([["data", [addressOf("a")]]]), new Map([["data", 8]]), "c", test.now);
    test.submit({ y: ["x"], z: ["y", "data"] }, ["z"], { external: ["x", "data"] });
    expect(test.states()).toEqual({ x: "memory", data: "memory", y: "processing", z: "waiting" });
    test.removeWorker("a");
    expect(test.states()).toEqual({ x: "erred" });
  });

  it("is not computed again", () => {
    const test = cluster(["a", "b"]);
    const keys = ["x", "actor", "y"];
    const annotations = Object.fromEntries(keys.map((key) => [key, only("a")]));
    submit(test, { x: [], actor: [], y: ["x"], z: ["y", "actor"] }, ["actor", "z"], { actors: ["actor"], annotations });
    test.finish("a", "x");
    test.finish("a", "actor");
    expect(test.states()).toEqual({ x: "memory", actor: "memory", y: "processing", z: "waiting" });
    test.removeWorker("a");
    expect(test.states()).toEqual({ x: "released", actor: "erred", y: "released", z: "erred" });
  });
});

describe("a client that leaves while its graph is taken in", () => {
  it("wants nothing of it", () => {
    const test = cluster(["a"], { tasksPerYield: 12 });
    const graph = graphOf(Object.fromEntries(MANY.map((key) => [key, []])));
    const steps = test.core.updateGraph(
      {
        client: "c",
        graph,
        keys: graph.keys,
        internalPriority: null,
        submittingTask: null,
        fifoTimeout: 0.1,
        actors: null,
        userPriority: 0,
      },
      test.now,
    );
    // The tasks are linked now; the next pause comes when all have been wanted.
    expect(steps.next(test.now).done).toBe(false);
    test.core.removeClient("c", test.now);
    while (!steps.next(test.now).done);
    test.collect();
    expect(test.states()).toEqual({});
    test.expectEmpty();
  });
});

describe("a client whose graph could not be opened", () => {
  it("is not told of the data that its keys have in somebody else's graph", () => {
    const test = cluster();
    test.addClient("other");
    test.submit({ x: [] }, ["x"], { client: "other" });
    test.finish("a", "x");
    test.core.graphFailed("c", ["x"], { exception: "no module", traceback: null, message: "no module" }, test.now);
    test.collect();
    expect(test.toClient("c")).toEqual(["task-erred x"]);
    test.toClient("other");
    // Were it told, nobody would say when the data is lost: it does not count as wanting the key.
    test.submit({ x: [], y: ["x"] }, ["y"], {});
    expect(test.toClient("c")).toEqual([]);
    expect(test.toClient("other")).toEqual(["key-in-memory x"]);
  });
});

describe("a retry", () => {
  it("computes nothing that nobody wants", () => {
    const test = cluster();
    test.submit({ x: [], y: ["x"] }, ["y"]);
    test.finish("a", "x");
    test.finish("a", "y");
    expect(test.states()).toEqual({ x: "released", y: "memory" });
    // Its client's own graph with x could not be opened.
    expect(test.core.retry(["x"], "c", test.now)).toEqual([]);
    expect(test.states()).toEqual({ x: "released", y: "memory" });
  });
});

describe("a restart while a graph is taken in", () => {
  it("ends the graph, and the state is valid in between", () => {
    const test = cluster(["a"], { tasksPerYield: 1, workerSaturation: 1 });
    const graph = graphOf(Object.fromEntries(MANY.map((key) => [key, []])));
    const request = {
      client: "c",
      graph,
      keys: MANY,
      internalPriority: null,
      submittingTask: null,
      fifoTimeout: 0.1,
      actors: null,
      userPriority: 0,
    };
    for (let n = 1; n < 40; n++) {
      const steps = test.core.updateGraph(request, test.now);
      let step = steps.next(test.now);
      for (let i = 1; i < n && !step.done; i++) step = steps.next(test.now);
      test.now += 1;
      test.core.restart(test.now, "restart");
      while (!step.done) step = steps.next(test.now);
      test.collect();
      expect(test.states()).toEqual({});
      test.expectEmpty();
    }
  });
});

describe("a worker that was retired", () => {
  it("is left alone when it comes back under its address", () => {
    const test = cluster(["a", "b"]);
    submit(test, { x: [] }, ["x"], { annotations: { x: only("a") } });
    test.finish("a", "x");
    const manager = new ActiveMemoryManager(test.core, "optimistic");
    const policy = new RetireWorker(addressOf("a"));
    manager.policies.add(policy);
    manager.runOnce(test.now);
    test.collect();
    expect(test.toWorker("b")).toEqual(["acquire-replicas"]);
    test.fromWorker("b", { op: "add-keys", keys: ["x"] });
    expect(policy.done(test.core.state)).toBe(true);
    test.removeWorker("a", { expected: true });
    test.addWorker("a");
    submit(test, { y: [] }, ["y"], { annotations: { y: only("a") } });
    test.finish("a", "y");
    test.toWorker("b");
    manager.runOnce(test.now);
    test.collect();
    expect(test.toWorker("b")).toEqual([]);
    expect(policy.done(test.core.state)).toBe(true);
    expect(manager.policies.size).toBe(0);
  });
});

describe("a worker that looks for data which nobody has", () => {
  it("is told to forget it, unless it is to compute it", () => {
    const test = cluster(["a", "b"]);
    submit(test, { x: [], y: ["x"], z: [] }, ["y", "z"], { annotations: { x: only("a"), y: only("a"), z: only("b") } });
    test.finish("a", "x");
    test.finish("a", "y");
    test.toWorker("a");
    test.toWorker("b");
    expect(test.states()).toEqual({ x: "released", y: "memory", z: "processing" });
    test.fromWorker("b", { op: "request-refresh-who-has", keys: ["x", "z"] });
    expect(test.takeWorker("b")).toEqual([
      { op: "refresh-who-has", who_has: new Map([["z", []]]), stimulus_id: "test-1000" },
      { op: "free-keys", keys: ["x"], stimulus_id: "test-1000" },
    ]);
  });
});
