import { keyId, type Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import { graphOf, TestCore } from "./builders.ts";

function cluster(workers: readonly string[] = ["a"], config = {}): TestCore {
  const test = new TestCore(config);
  test.addClient();
  for (const name of workers) test.addWorker(name);
  for (const name of workers) test.takeWorker(name);
  return test;
}

describe("update-graph", () => {
  it("cancels the request where a dependency is neither in the graph nor known", () => {
    const test = cluster();
    const result = test.submit({ y: ["lost"] }, ["y"]);
    expect(result).toEqual({ status: "cancelled", lost: ["lost"] });
    expect(test.takeClient()).toEqual([{ op: "cancelled-keys", keys: new Set(["y"]), reason: "lost dependencies" }]);
    test.expectQuiet();
    test.expectEmpty();
  });

  it("does not mind a missing dependency of a task that no wanted key needs", () => {
    const test = cluster();
    expect(test.submit({ x: [], y: ["lost"] }, ["x"])).toMatchObject({ status: "OK" });
    expect(test.states()).toEqual({ x: "processing" });
  });

  it("cancels where a wanted key is nowhere, and leaves nothing behind", () => {
    const test = cluster();
    expect(test.submit({ x: [] }, ["x", "y"])).toEqual({ status: "cancelled", lost: ["y"] });
    test.toClient();
    test.expectQuiet();
    test.expectEmpty();
  });

  it("keeps the old task where a key comes again with other dependencies", () => {
    const test = cluster();
    test.submit({ a: [], x: ["a"] }, ["x"]);
    const result = test.submit({ b: [], x: ["b"] }, ["x"]);
    expect(result).toMatchObject({ collisions: 1 });
    expect(test.task("x").dependencies.items.map((ts) => ts.id)).toEqual(["a"]);
    // Nobody needs what only the new version of x depends on.
    expect(test.has("b")).toBe(false);
  });

  it("reports again what is done already, to the asking client and the others that want it", () => {
    const test = cluster();
    test.addClient("d");
    test.submit({ x: [] }, ["x"]);
    test.finish("a", "x");
    test.toClient("c");
    test.submit({ x: [] }, ["x"], { client: "d" });
    expect(test.takeClient("d")[0]).toEqual({ op: "key-in-memory", key: "x" });
    expect(test.toClient("c").length).toBeGreaterThan(0);
    test.release("x");
    test.toWorker("a");
    test.toClient("d");
    test.expectQuiet();
    expect(test.states()).toEqual({ x: "memory" });
  });

  it("orders the generations, and puts what a task submits first", () => {
    const test = cluster([]);
    test.submit({ x: [] }, ["x"]);
    test.now += 10;
    test.submit({ y: [] }, ["y"]);
    test.now += 0.05;
    test.submit({ z: [] }, ["z"]);
    test.submit({ s: [] }, ["s"], { submittingTask: "y" });
    test.submit({ u: [] }, ["u"], { userPriority: 3 });
    const priorities = ["x", "y", "z", "s", "u"].map((key) => test.task(key).priority);
    expect(priorities).toEqual([
      [0, 1, 0],
      [0, 2, 0],
      [0, 2, 0],
      [0, -0.01, 0],
      [-3, 2, 0],
    ]);
  });

  it("ranks tuple keys, and orders the graph itself where the client has not", () => {
    const test = cluster([]);
    const keys = [
      ["x", 0],
      ["x", 1],
    ] as const;
    const graph = { ...graphOf({ p: [], q: [] }), keys, ids: keys.map((key) => keyId(key as Value)) };
    test.submitGraph(graph, [...keys], {
      internalPriority: new Map<Value, Value>([
        [["x", 0], 5],
        [["x", 1], 4],
      ]),
    });
    expect(test.task(["x", 0]).p2).toBe(5);
    expect(test.task(["x", 1]).p2).toBe(4);
    expect(test.task(["x", 0]).group.name).toBe("x");
    test.submit({ b: ["a"], a: [] }, ["b"], { internalPriority: null });
    expect(test.task("a").p2).toBeLessThan(test.task("b").p2);
  });

  it("lets other events in between its steps, and ends clean where the client goes away", () => {
    const test = cluster(["a"], { tasksPerYield: 1 });
    const spec = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`x-${i}`, i === 0 ? [] : [`x-${i - 1}`]]));
    const graph = graphOf(spec);
    const request = {
      client: "c",
      graph,
      keys: ["x-19"],
      internalPriority: null,
      submittingTask: null,
      fifoTimeout: 0.1,
      actors: null,
      userPriority: 0,
    };
    const steps = test.core.updateGraph(request, test.now);
    for (let i = 0; i < 15; i++) expect(steps.next(test.now).done).toBe(false);
    expect(() => test.core.updateGraph(request, test.now).next(test.now)).toThrow(/under way/);
    test.core.removeClient("c", test.now);
    let step = steps.next(test.now);
    while (!step.done) step = steps.next(test.now);
    expect(step.value).toEqual({ status: "abandoned" });
    test.collect();
    expect(test.states()).toEqual({});
    test.addClient();
    expect(test.submitGraph(graph, ["x-19"])).toMatchObject({ status: "OK" });
    expect(test.toWorker("a")).toEqual(["compute-task x-0"]);
    // Given up by the shell.
    const again = test.core.updateGraph({ ...request, graph: graphOf({ z: [] }), keys: ["z"] }, test.now);
    again.next(test.now);
    again.return({ status: "abandoned" });
    expect(test.has("z")).toBe(false);
  });

  it("that could not be opened fails all its keys", () => {
    const test = cluster();
    test.core.graphFailed("c", ["x"], { exception: "e", traceback: "t", message: "m" }, test.now);
    test.collect();
    expect(test.takeClient()).toEqual([{ op: "task-erred", key: "x", exception: "e", traceback: "t" }]);
  });
});

describe("clients", () => {
  it("that leave release everything they wanted and nobody else does", () => {
    const test = cluster();
    test.addClient("d");
    test.submit({ x: [], y: [] }, ["x", "y"]);
    test.submit({ x: [] }, ["x"], { client: "d" });
    test.core.removeClient("c", test.now);
    test.collect();
    expect(Object.keys(test.states())).toEqual(["x"]);
    test.core.removeClient("d", test.now);
    test.collect();
    test.expectEmpty();
  });

  it("may want keys in the name of a pseudo client, which gets no messages", () => {
    const test = cluster();
    test.submit({ x: [] }, ["x"]);
    test.fromClient({ op: "client-desires-keys", keys: ["x", "unknown"], client: "queue-q" });
    test.release("x");
    expect(test.states()).toEqual({ x: "processing" });
    test.finish("a", "x");
    expect(test.toClient("queue-q")).toEqual([]);
    test.fromClient({ op: "client-releases-keys", keys: ["x"], client: "queue-q" });
    expect(test.states()).toEqual({});
  });

  it("forget fire-and-forget tasks as soon as they are done", () => {
    const test = cluster();
    test.submit({ x: [], y: [] }, ["x", "y"]);
    test.fromClient({ op: "client-desires-keys", keys: ["x", "y"], client: "fire-and-forget" });
    test.release("x", "y");
    test.finish("a", "x");
    test.err("a", "y");
    expect(test.states()).toEqual({});
    test.expectEmpty();
  });

  it("cancel keys together with what depends on them; everybody is told", () => {
    const test = cluster();
    test.addClient("d");
    test.submit({ x: [], y: ["x"] }, ["x", "y"]);
    test.fromClient({ op: "cancel-keys", keys: ["x"], force: false, reason: "why", msg: "m" });
    const told = { op: "cancelled-keys", keys: ["y", "x"], reason: "why", msg: "m" };
    expect(test.takeClient("d")).toEqual([told]);
    expect(test.takeClient("c").at(-1)).toEqual(told);
    expect(test.states()).toEqual({});
    test.toWorker("a");
    test.expectEmpty();
  });

  it("cannot cancel what another client wants, unless by force", () => {
    const test = cluster();
    test.addClient("d");
    test.submit({ x: [] }, ["x"]);
    test.submit({ x: [] }, ["x"], { client: "d" });
    const message = { op: "cancel-keys", keys: ["x"], reason: null, msg: null };
    test.fromClient({ ...message, force: false });
    expect(test.states()).toEqual({ x: "processing" });
    test.fromClient({ ...message, force: true });
    expect(test.states()).toEqual({});
  });

  it("are told the state of a key on report-key", () => {
    const test = cluster();
    test.submit({ x: [] }, ["x"]);
    test.fromClient({ op: "report-key", key: "x" });
    expect(test.toClient()).toEqual([]);
    test.fromClient({ op: "report-key", key: "nothing" });
    expect(test.toClient()).toEqual(["cancelled-keys nothing"]);
    test.fromClient({ op: "heartbeat-client" });
    expect(test.toClient()).toEqual(["adjust-heartbeat-interval"]);
  });

  it("are all told of a restart, after which nothing is left", () => {
    const test = cluster();
    test.submit({ x: [], y: ["x"] }, ["y"]);
    test.core.updateData(new Map([["data", ["tcp://a:1"]]]), new Map(), null, test.now);
    test.core.restart(test.now, "restart-1");
    test.collect();
    expect(test.toClient()).toEqual(["restart"]);
    test.expectEmpty();
  });
});

describe("scattered data", () => {
  it("for a key that is being computed takes the place of the result", () => {
    const test = cluster(["a", "b"]);
    test.submit({ w: [], x: ["w"], y: ["x"] }, ["x", "y"]);
    test.core.updateData(new Map([["x", ["tcp://b:1"]]]), new Map([["x", 5]]), "c", test.now);
    test.collect();
    expect(test.states()).toMatchObject({ x: "memory", y: "processing" });
    expect(test.takeClient()[0]).toEqual({ op: "key-in-memory", key: "x", workers: ["tcp://b:1"] });
  });

  it("on a worker that is not there is refused whole", () => {
    const test = cluster();
    const whoHas = new Map([
      ["p", ["tcp://a:1"]],
      ["q", ["tcp://nowhere:1"]],
    ]);
    expect(() => test.core.updateData(whoHas, new Map(), "c", test.now)).toThrow(/nowhere/);
    test.expectEmpty();
  });
});

describe("a client of many keys that leaves", () => {
  it("lets go of some at a time, in a state that is valid in between", () => {
    const test = cluster();
    const names = Array.from({ length: 25 }, (_, i) => `x${i}`);
    test.submit(Object.fromEntries(names.map((name) => [name, []])), names);
    expect(test.core.releaseWanted("c", 10, 1)).toBe(true);
    expect(Object.keys(test.states())).toEqual(names.slice(10));
    expect(test.core.releaseWanted("c", 10, 2)).toBe(true);
    expect(test.core.releaseWanted("c", 10, 3)).toBe(false);
    expect(Object.keys(test.states())).toEqual(names.slice(20));
    test.core.removeClient("c", 4);
    expect(test.states()).toEqual({});
  });

  it("is nobody's business where the client is unknown", () => {
    expect(cluster().core.releaseWanted("nobody", 10, 1)).toBe(false);
  });
});
