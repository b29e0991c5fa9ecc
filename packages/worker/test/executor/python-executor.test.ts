import { readFileSync } from "node:fs";
import { asNumber, type Message, type Value } from "@dask-ts/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { header, makePickles, type Pickles, payload, type Started, startExecutor, task } from "./support.ts";

let pickles: Pickles;
let shared: Started;

beforeAll(async () => {
  pickles = await makePickles();
  shared = await startExecutor(pickles);
});

afterAll(async () => {
  await shared.executor.close(5000);
});

/** Runs one task under its own key in the shared executor. */
async function run(name: string, overrides = {}) {
  shared.executor.execute([task(pickles, name, overrides)]);
  const key = (overrides as { key?: string }).key ?? name;
  return shared.told.outcomeOf(key);
}

function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]) * 1024;
}

describe("execute", () => {
  it("reports size, type and times of a result, and holds it", async () => {
    const before = Date.now() / 1000;
    const outcome = await run("inc");
    if (outcome.kind !== "success") throw new Error(outcome.kind);
    expect(outcome.nbytes).toBe(28);
    expect(outcome.typename).toBe("int");
    expect(Buffer.from(outcome.type).toString("latin1")).toContain("builtins");
    expect(outcome.start).toBeGreaterThan(before - 1);
    expect(outcome.stop).toBeGreaterThanOrEqual(outcome.start);
    expect(outcome.runId).toBe(1);
    const [item] = await shared.executor.get(["inc", "unknown"], null);
    expect(item?.key).toBe("inc");
    // small and plain: it travels as it is, and comes with the outcome
    expect(typeof item?.data).toBe("number");
    expect(outcome.value).toBe(item?.data);
  });

  it("reports a failure in the shape of error_message, without frames of the executor", async () => {
    const outcome = await run("fail");
    if (outcome.kind !== "failure") throw new Error(outcome.kind);
    expect(outcome.error.exception_text).toBe("ValueError('broken')");
    expect(outcome.error.traceback_text).toContain("raise ValueError(text)");
    expect(outcome.error.traceback_text).not.toContain("dask_ts");
    expect(header(outcome.error.exception).get("type")).toBe("bytes");
    expect(payload(outcome.error.exception).toString()).toContain("broken");
  });

  it("reports a reschedule", async () => {
    expect(await run("reschedule")).toEqual({ kind: "reschedule", key: "reschedule", runId: 1 });
  });

  it("tells of a task that secedes", async () => {
    const outcome = await run("secede");
    expect(outcome.kind).toBe("success");
    await shared.told.until(() => shared.told.secededKeys.includes("secede"));
  });

  it("keeps tuple keys", async () => {
    const key = ["x", 1, ["y", 2]];
    shared.executor.execute([task(pickles, "inc", { key })]);
    expect((await shared.told.outcomeOf(key)).key).toEqual(key);
    expect(await shared.executor.get([key], null)).toHaveLength(1);
    shared.executor.drop([key]);
    expect(await shared.executor.get([key], null)).toHaveLength(0);
  });

  it("turns a run_spec that cannot be opened into an error of its task alone", async () => {
    shared.executor.execute([task(pickles, "refuses"), task(pickles, "inc", { key: "beside" })]);
    const outcome = await shared.told.outcomeOf("refuses");
    if (outcome.kind !== "failure") throw new Error(outcome.kind);
    expect(outcome.error.exception_text).toContain("no such module on this worker");
    expect((await shared.told.outcomeOf("beside")).kind).toBe("success");
  });

  it("reports a missing dependency as the task's error", async () => {
    const outcome = await run("inc", { key: "orphan", dependencies: ["nowhere"] });
    if (outcome.kind !== "failure") throw new Error(outcome.kind);
    expect(outcome.error.exception_text).toBe("KeyError('nowhere')");
  });

  it("sends text in place of an exception that cannot be pickled", async () => {
    const outcome = await run("secret");
    if (outcome.kind !== "failure") throw new Error(outcome.kind);
    expect(outcome.error.exception_text).toContain("the text is kept");
    expect(payload(outcome.error.exception).toString()).toContain("the text is kept");
  });

  it("holds a result that cannot be pickled, and says so to who asks for it", async () => {
    expect((await run("lock")).kind).toBe("success");
    const [item] = await shared.executor.get(["lock"], null);
    expect(header(item?.data).get("serializer")).toBe("error");
    expect(payload(item?.data).toString()).toContain("lock");
  });

  it("runs coroutines on the event loop with the worker's context", async () => {
    const outcome = await run("async");
    if (outcome.kind !== "success") throw new Error(outcome.kind);
    const [item] = await shared.executor.get(["async"], null);
    expect(JSON.stringify(item?.data)).toContain("under-test");
  });

  it("ends a coroutine that is cancelled", async () => {
    shared.executor.execute([task(pickles, "wait")]);
    shared.executor.cancel("wait");
    // the cancellation may come before its first step; either way it ends
    const stop = setInterval(() => shared.executor.cancel("wait"), 20);
    expect((await shared.told.outcomeOf("wait")).kind).toBe("reschedule");
    clearInterval(stop);
  });

  it("refuses an executor that nobody knows, and uses one that a function added", async () => {
    const annotations = new Map<Value, Value>([["executor", "mine"]]);
    const refused = await run("thread", { key: "refused", annotations });
    if (refused.kind !== "failure") throw new Error(refused.kind);
    expect(refused.error.exception_text).toContain("Invalid executor 'mine'; expected one of: ['actor', 'default'");
    await shared.executor.call("run", { function: pickles.get("function:use_executor") });
    await run("thread", { key: "used", annotations });
    const [item] = await shared.executor.get(["used"], null);
    expect(JSON.stringify(item?.data)).toContain("mine");
  });

  it("passes on events, prints and log records", async () => {
    await run("talk");
    await shared.told.until(() => shared.told.events.some(([topic]) => topic === "topic"));
    await shared.told.until(() => shared.told.lines.includes("said by a task"));
    await run("fail", { key: "logged" });
    await shared.told.until(() => shared.told.logs.some((text) => /Compute Failed\nKey: +logged/.test(text)));
  });
});

describe("values", () => {
  it("takes 50 MB out and in again, holding no second copy", async () => {
    const { executor, told } = await startExecutor(pickles, { nthreads: 1 });
    try {
      const before = residentBytes(executor.pid);
      executor.execute([task(pickles, "array")]);
      await told.outcomeOf("array");
      const held = residentBytes(executor.pid) - before;
      expect(held).toBeLessThan(70e6);
      const [item] = await executor.get(["array"], null);
      expect(payload(item?.data).byteLength).toBe(50_000_000);
      // written from the array's own memory
      expect(residentBytes(executor.pid) - before).toBeLessThan(75e6);
      const [put] = await executor.put([{ key: "copy", data: item?.data ?? null }]);
      expect(put).toMatchObject({ ok: true, nbytes: 50_000_000, typename: "numpy.ndarray" });
      expect(residentBytes(executor.pid) - before).toBeLessThan(130e6);
      executor.execute([task(pickles, "sum", { dependencies: ["array", "copy"] })]);
      expect((await told.outcomeOf("sum")).kind).toBe("success");
      await new Promise<void>((resolve) => {
        const look = (): void => {
          if ((executor.metrics.get("managed_bytes") ?? 0) > 100e6) resolve();
          else setTimeout(look, 10);
        };
        look();
      });
      expect(executor.metrics.get("memory")).toBeGreaterThan(100e6);
    } finally {
      await executor.close(5000);
    }
  });

  it("says which value cannot be opened", async () => {
    const [item] = await shared.executor.get(["lock"], null);
    const results = await shared.executor.put([
      { key: "bad", data: item?.data ?? null },
      { key: "good", data: "plain text" },
    ]);
    expect(results.map((result) => result.ok)).toEqual([false, true]);
    expect(await shared.executor.get(["bad", "good"], null)).toHaveLength(1);
  });
});

describe("calls", () => {
  it("runs functions with the worker", async () => {
    const reply = (await shared.executor.call("run", {
      function: pickles.get("function:on_worker"),
      args: new Uint8Array(0),
      kwargs: new Uint8Array(0),
    })) as Map<string, Value>;
    expect(reply.get("status")).toBe("OK");
    expect(payload(reply.get("result")).toString("latin1")).toContain("under-test");
    const coroutine = (await shared.executor.call("run_coroutine", {
      function: pickles.get("function:coroutine_on_worker"),
      wait: true,
    })) as Map<string, Value>;
    expect(payload(coroutine.get("result")).toString("latin1")).toContain("tcp://127.0.0.1:4567");
  });

  it("answers a function that fails with its error", async () => {
    const reply = (await shared.executor.call("run", {
      function: pickles.get("function:fail"),
      args: pickles.get("args:text"),
    })) as Map<string, Value>;
    expect(reply.get("status")).toBe("error");
    expect(reply.get("exception_text")).toBe("ValueError('in run')");
  });

  it("answers missing fields with an uncaught error, and an unknown op with null", async () => {
    const reply = (await shared.executor.call("run", {})) as Map<string, Value>;
    expect(reply.get("status")).toBe("uncaught-error");
    expect(await shared.executor.call("no_such_op", {})).toBe(null);
  });

  it("sets plugins up, tells them transitions, serves their handlers, tears them down", async () => {
    const added = await shared.executor.call("plugin-add", { plugin: pickles.get("plugin"), name: "counting" });
    expect(added).toEqual(new Map([["status", "OK"]]));
    await shared.executor.call("transition", { key: "x", start: "waiting", finish: "ready" });
    expect(await shared.executor.call("plugin_op", { x: 5 })).toEqual(
      new Map<string, Value>([
        ["x", 5],
        ["seen", [["x", "waiting", "ready"]]],
      ]),
    );
    expect(await shared.executor.call("plugin-remove", { name: "counting" })).toEqual(new Map([["status", "OK"]]));
  });

  it("runs actors", async () => {
    const outcome = await run("counter", { actor: true });
    expect(outcome.kind).toBe("success");
    const call = async (fields: Message): Promise<Map<string, Value>> =>
      (await shared.executor.call("actor_execute", { actor: "counter", ...fields })) as Map<string, Value>;
    await call({ function: "increment", args: [4], kwargs: {} });
    const second = await call({ function: "increment", args: [1], kwargs: new Map([["separate_thread", false]]) });
    expect(second.get("status")).toBe("OK");
    expect(payload(second.get("result")).toString("latin1")).toContain("K\x05.");
    const slow = await call({ function: "slow", args: [], kwargs: {} });
    expect(slow.get("status")).toBe("OK");
    const bad = await call({ function: "increment", args: ["x"], kwargs: {} });
    expect(bad.get("status")).toBe("error");
    const attribute = (await shared.executor.call("actor_attribute", { actor: "counter", attribute: "n" })) as Map<
      string,
      Value
    >;
    expect(attribute.get("status")).toBe("OK");
    // its proxy travels, the instance stays
    const [item] = await shared.executor.get(["counter"], null);
    expect(payload(item?.data).toString("latin1")).toContain("distributed.actor");
  });

  it("gives call stacks, profiles and versions", async () => {
    expect(await shared.executor.call("call_stack", { keys: ["nothing that runs"] })).toEqual(new Map());
    const profile = (await shared.executor.call("profile", {})) as Map<string, Value>;
    expect(profile.get("children")).toBeInstanceOf(Map);
    expect(await shared.executor.call("profile_metadata", {})).toBeInstanceOf(Map);
    const versions = (await shared.executor.call("versions", {})) as Map<string, Value>;
    expect([...versions.keys()]).toContain("packages");
    expect(shared.executor.versions).toBeInstanceOf(Map);
    expect(asNumber(shared.executor.metrics.get("num_fds"), 0)).toBeGreaterThan(3);
  });
});

describe("the end", () => {
  it("reports a segfault as one exit, and rejects what was asked", async () => {
    const { executor, told } = await startExecutor(pickles);
    executor.execute([task(pickles, "wait")]);
    const hour = { function: pickles.get("function:wait_long"), args: pickles.get("args:hour"), wait: true };
    const pending = expect(executor.call("run_coroutine", hour)).rejects.toThrow("ended by SIGSEGV");
    executor.execute([task(pickles, "segfault")]);
    await told.until(() => told.exits.length > 0);
    expect(told.exits).toEqual([[null, "SIGSEGV"]]);
    await pending;
    await expect(executor.call("versions", {})).rejects.toThrow("is gone");
    expect(told.lines.some((line) => line.includes("Segmentation fault"))).toBe(true);
    await executor.close(1000);
    expect(told.exits).toHaveLength(1);
  });

  it("ends with the code of a task's SystemExit", async () => {
    const { executor, told } = await startExecutor(pickles);
    executor.execute([task(pickles, "exit")]);
    await told.until(() => told.exits.length > 0);
    expect(told.exits).toEqual([[7, null]]);
  });

  it("says why a preload keeps it from starting", async () => {
    await expect(startExecutor(pickles, { preload: ["no_such_preload_module"] })).rejects.toThrow("no_such_preload");
  });
});
