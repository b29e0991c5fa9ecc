import { type Message, RemoteError, type RpcHandlers, type Value } from "@dask-ts/protocol";
import { beforeEach, describe, expect, it } from "vitest";
import type { SchedulerContext } from "../../src/server/context.ts";
import { SchedulerView } from "../../src/server/scheduler-view.ts";
import { TestCore } from "../core/builders.ts";

type Facts = ReadonlyMap<Value, Value>;

let test: TestCore;
let handled: Message[];
let view: SchedulerView;

beforeEach(() => {
  test = new TestCore();
  handled = [];
  const { core } = test;
  const context: Partial<SchedulerContext> = {
    core,
    status: "running",
    address: "tcp://10.0.0.9:8786",
    apply: (work) => work(core, test.now),
    coerceKnown: (worker) => String(worker),
  };
  const handlers: RpcHandlers = {
    ncores: (fields) => {
      handled.push(fields);
      return new Map([["a", 2]]);
    },
    feed: () => null,
    "needs-comm": (_fields, { comm }) => comm.peerAddress,
  };
  view = new SchedulerView(context as SchedulerContext, () => handlers);
});

async function fails(op: string, fields: Message): Promise<string> {
  const reply = await view.answer(op, fields);
  expect(reply["status"]).toBe("uncaught-error");
  return new RemoteError(reply).exceptionText;
}

describe("facts", () => {
  it("are told of what there is, null of what there is not", async () => {
    test.addClient();
    const ws = test.addWorker("a");
    test.submit({ x: [], y: ["x"] }, ["y"]);
    test.finish("a", "x");
    const { facts } = await view.answer("view-facts", { kind: "task", keys: ["x", "z"] });
    const [x, z] = facts as [Facts, null];
    expect(z).toBeNull();
    expect(Object.fromEntries(x)).toMatchObject({
      state: "memory",
      dependents: ["y"],
      who_has: [ws.address],
      prefix: "x",
    });
    const [worker] = (await view.answer("view-facts", { kind: "worker", keys: [ws.address] }))["facts"] as [Facts];
    expect(worker.get("status")).toBe("running");
    expect((worker.get("_memory") as Facts).has("managed")).toBe(true);
    for (const [kind, key] of Object.entries({ group: "x", prefix: "x", client: "c" })) {
      const [found] = (await view.answer("view-facts", { kind, keys: [key] }))["facts"] as Value[];
      expect(found, kind).toBeInstanceOf(Map);
    }
    expect(await fails("view-facts", { kind: "color", keys: ["x"] })).toContain("no facts about 'color'");
  });

  it("leave out what is long; that is walked through", async () => {
    test.addClient();
    test.addWorker("a");
    const names = Array.from({ length: 100 }, (_, i) => `d-${i}`);
    test.submit({ x: [], ...Object.fromEntries(names.map((name) => [name, ["x"]])) }, names);
    const [facts] = (await view.answer("view-facts", { kind: "task", keys: ["x"] }))["facts"] as [Facts];
    expect(facts.get("dependents")).toBeNull();
    const page = await view.answer("view-scan", { what: "task.dependents", key: "x", cursor: null });
    expect(page["keys"]).toHaveLength(100);
    expect(page["cursor"]).toBeNull();
  });
});

describe("walks", () => {
  it("go by pages, and on while tasks come and go", async () => {
    test.addClient();
    const names = Array.from({ length: 12_000 }, (_, i) => `x-${i}`);
    test.submit(Object.fromEntries(names.map((name) => [name, []])), names);
    expect((await view.answer("view-count", { what: "tasks" }))["count"]).toBe(12_000);
    const found: Value[] = [];
    let cursor: Value = null;
    do {
      const page: Message = await view.answer("view-scan", { what: "tasks", key: null, cursor });
      found.push(...(page["keys"] as Value[]));
      cursor = page["cursor"] ?? null;
      test.release(`x-${11_999 - found.length / 5_000}`);
    } while (cursor !== null);
    expect(found.length).toBeGreaterThanOrEqual(11_990);
    expect(await fails("view-scan", { what: "tasks", key: null, cursor: 1 })).toContain("given up");
    expect(await fails("view-scan", { what: "nothing", key: null, cursor: null })).toContain("no collection 'nothing'");
  });
});

describe("calls", () => {
  it("go to the op, or to the method of its name", async () => {
    expect(await view.answer("scheduler-call", { name: "ncores", fields: new Map([["workers", null]]) })).toEqual({
      value: new Map([["a", 2]]),
    });
    expect(handled).toEqual([{ workers: null }]);
    test.addClient();
    test.submit({ x: [] }, ["x"]);
    const fields = new Map<Value, Value>([
      ["keys", ["x"]],
      ["client", "mine"],
    ]);
    expect(await view.answer("scheduler-call", { name: "client-desires-keys", fields })).toEqual({ value: null });
    expect(test.task("x").whoWants.items.map((cs) => cs.client)).toContain("mine");
  });

  it("that need a connection, or do not exist, are errors", async () => {
    const fields = new Map<Value, Value>();
    expect(await fails("scheduler-call", { name: "feed", fields })).toContain("no method for 'feed'");
    expect(await fails("scheduler-call", { name: "needs-comm", fields })).toContain("no connection");
    expect(await fails("view-value", { name: "color" })).toContain("no value 'color'");
    expect(await fails("nonsense", {})).toContain("no answer to nonsense");
  });
});

describe("methods of the state", () => {
  const call = (name: string, fields: Record<string, Value>): Promise<Message> =>
    view.answer("scheduler-call", { name, fields: new Map<Value, Value>(Object.entries(fields)) });

  it("say and do what stock's do", async () => {
    test.addClient();
    const a = test.addWorker("a", { resources: new Map([["GPU", 2]]) });
    test.submit({ x: [] }, ["x"]);
    expect(await call("is-rootish", { ts: "x" })).toEqual({ value: false });
    expect(await call("decide-worker-non-rootish", { ts: "x" })).toEqual({ value: a.address });
    expect(await call("validate-state", {})).toEqual({ value: null });
    const before = test.task("x").runId;
    expect(await call("reschedule", { key: "x", worker: null, stimulus_id: "test" })).toEqual({ value: null });
    expect(test.task("x").runId).toBe(before + 1);
    expect(await call("send-task-to-worker", { worker: a.address, ts: "x" })).toEqual({ value: null });
    expect(test.task("x").runId).toBe(before + 2);
    expect(test.core.state.resources.get("GPU")?.size).toBe(1);
    expect(await call("remove-resources", { worker: a.address })).toEqual({ value: null });
    expect(test.core.state.resources.size).toBe(0);
    const finished = { key: "x", run_id: before + 2, nbytes: 5, typename: "int", startstops: [], type: null };
    await call("task-finished", { ...finished, worker: a.address, stimulus_id: "test" });
    expect(test.task("x").state).toBe("memory");
    const { keys } = await view.answer("view-scan", { what: "transition_log" });
    expect((keys as Value[][]).at(-1)?.slice(0, 3)).toEqual(["x", "processing", "memory"]);
  });

  it("name what they do not know", async () => {
    for (const [name, fields] of [
      ["is-rootish", { ts: "y" }],
      ["remove-resources", { worker: "tcp://10.0.0.1:1" }],
      ["client-heartbeat", { client: "nobody" }],
    ] as const) {
      const text = await fails("scheduler-call", { name, fields: new Map<Value, Value>(Object.entries(fields)) });
      expect(text, name).toContain(Object.values(fields)[0]);
    }
  });

  it("tell of a broken state what is wrong", async () => {
    test.addClient();
    test.submit({ x: [] }, ["x"]);
    test.core.state.tasks.set("other", test.task("x"));
    expect(await fails("scheduler-call", { name: "validate-state", fields: new Map() })).toContain("wrong id");
  });
});

it("tells values of the scheduler", async () => {
  test.addWorker("a", { nthreads: 3 });
  expect(await view.answer("view-value", { name: "total_nthreads" })).toEqual({ value: 3 });
  expect(await view.answer("view-value", { name: "status" })).toEqual({ value: "running" });
  expect(await view.answer("view-value", { name: "computations" })).toEqual({ value: [] });
});
