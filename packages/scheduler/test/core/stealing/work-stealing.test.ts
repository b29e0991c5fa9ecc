import { asNumber, type Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import { type CoreConfig, WorkStealing } from "../../../src/core/index.ts";
import { graphOf, type GraphSpec, TestCore } from "../builders.ts";

/** A core without queuing, so that all tasks go to the one worker there is. */
class StealingCore extends TestCore {
  readonly stealing: WorkStealing;

  constructor(config: Partial<CoreConfig> = {}) {
    super({ workerSaturation: Number.POSITIVE_INFINITY, ...config });
    this.stealing = new WorkStealing(this.core);
    this.core.stealing = this.stealing;
    this.addClient();
  }

  /** One round. @returns the requests as `key victim>thief` */
  balance(): string[] {
    this.core.outbox.events.length = 0;
    this.stealing.balance(this.now);
    const requests = this.events().flatMap((event) => (event[0] === "request" ? (event[1] as Value[][]) : []));
    this.collect();
    return requests.map(([, , key, , victim, , thief]) => `${key} ${nameOf(victim)}>${nameOf(thief)}`);
  }

  /** What was logged about stealing since the last message came in. */
  events(): Value[][] {
    return this.core.outbox.events.flatMap(([topic, event]) => (topic === "stealing" ? [event as Value[]] : []));
  }

  /** The victim answers the request for this task. @returns what was logged */
  answer(name: string, key: string, state: Value): Value[][] {
    const id = this.takeWorker(name).find((message) => message.op === "steal-request" && message.key === key);
    return this.confirm(name, key, state, id?.stimulus_id as Value);
  }

  confirm(name: string, key: string, state: Value, stimulusId: Value): Value[][] {
    const message = { op: "steal-response", key, state, stimulus_id: stimulusId };
    this.core.workerMessage(`tcp://${name}:1`, message, this.now);
    const events = this.events();
    this.collect();
    return events;
  }

  /** Tasks of prefix `x` on worker a, then other workers. */
  skewed(n: number, others: readonly string[] = ["b"]): string[] {
    this.addWorker("a");
    const keys = Array.from({ length: n }, (_, i) => `x-${i}`);
    this.submit(Object.fromEntries(keys.map((key) => [key, []])), keys);
    for (const name of others) this.addWorker(name);
    this.takeWorker("a");
    return keys;
  }
}

function nameOf(address: Value | undefined): string {
  return String(address).replace("tcp://", "").replace(":1", "");
}

describe("a round of stealing", () => {
  it("asks a saturated worker for tasks until the idle ones have as much to do", () => {
    const test = new StealingCore();
    test.skewed(20, ["b", "c"]);
    const requests = test.balance();
    expect(requests.length).toBeGreaterThan(4);
    expect(requests[0]).toBe("x-19 a>b");
    expect(requests[1]).toBe("x-18 a>c");
    const asked = test.takeWorker("a");
    expect(asked.map(({ op, key }) => `${op} ${key}`)).toEqual(
      requests.map((request) => `steal-request ${request.split(" ")[0]}`),
    );
    expect(new Set(asked.map((message) => message.stimulus_id)).size).toBe(asked.length);
    // What is in flight counts as moved.
    let total = requests.length;
    for (let more = test.balance(); more.length > 0; more = test.balance()) total += more.length;
    expect(total).toBeLessThan(14);
    expect(test.stealing.requestCount[0]).toBe(total);
  });

  it("leaves a cluster alone where nobody is idle or all are", () => {
    const test = new StealingCore();
    test.addWorker("a");
    expect(test.balance()).toEqual([]);
    test.submit({ "x-1": [], "x-2": [], "x-3": [] }, ["x-1", "x-2", "x-3"]);
    expect(test.balance()).toEqual([]);
  });

  it("does not give tasks to paused workers", () => {
    const test = new StealingCore();
    test.skewed(20);
    test.fromWorker("b", { op: "worker-status-change", status: "paused" });
    expect(test.balance()).toEqual([]);
  });

  it("does not move a task whose data costs more than the wait", () => {
    const large = new StealingCore();
    const small = new StealingCore();
    for (const [core, nbytes] of [
      [large, 1e10],
      [small, 10],
    ] as const) {
      core.addWorker("a");
      core.submit({ "data-0": [] }, ["data-0"]);
      core.finish("a", "data-0", { nbytes });
      const keys = Array.from({ length: 8 }, (_, i) => `f-${i}`);
      core.submit(Object.fromEntries(keys.map((key) => [key, ["data-0"]])), keys, { external: ["data-0"] });
      core.addWorker("b");
      core.takeWorker("a");
    }
    expect(large.balance()).toEqual([]);
    expect(small.balance().length).toBeGreaterThan(0);
  });

  it("does not move tasks of prefixes that are known to be fast, nor ones much shorter than the move", () => {
    const test = new StealingCore({ defaultTaskDurations: new Map([["x", 1e-4]]) });
    test.skewed(20);
    expect(test.core.state.workers.get("tcp://a:1")?.stealable.every(({ size }) => size === 0)).toBe(true);
    expect(test.balance()).toEqual([]);
  });

  it("looks at a task anew where the duration of its prefix has become known", () => {
    const test = new StealingCore({ unknownTaskDuration: 0.2 });
    test.addWorker("a");
    test.submit({ "data-0": [] }, ["data-0"]);
    test.finish("a", "data-0", { nbytes: 10 });
    const keys = Array.from({ length: 30 }, (_, i) => `f-${i}`);
    test.submit(Object.fromEntries(keys.map((key) => [key, ["data-0"]])), keys, { external: ["data-0"] });
    const levels = (): number[] =>
      test.core.state.workers.get("tcp://a:1")?.stealable.flatMap((tasks, level) => (tasks.size > 0 ? [level] : [])) ??
      [];
    expect(levels()).toEqual([5]);
    test.finish("a", "f-0", { duration: 0.0001 });
    test.addWorker("b");
    test.takeWorker("a");
    // A tenth of a millisecond is not worth a tenth of a second.
    expect(test.balance()).toEqual([]);
  });
});

describe("restrictions", () => {
  function skewedTo(annotations: ReadonlyMap<Value, Value>): StealingCore {
    const test = new StealingCore();
    test.addWorker("a", { resources: new Map([["GPU", 1]]) });
    const keys = Array.from({ length: 12 }, (_, i) => `x-${i}`);
    const spec: GraphSpec = Object.fromEntries(keys.map((key) => [key, []]));
    test.submitGraph(graphOf(spec, { annotations: Object.fromEntries(keys.map((key) => [key, annotations])) }), keys);
    test.addWorker("b");
    test.addWorker("g", { resources: new Map([["GPU", 1]]) });
    return test;
  }
  const thieves = (test: StealingCore): Set<string> => new Set(test.balance().map((request) => request.slice(-1)));

  it("keep a task where it is allowed", () => {
    expect(thieves(skewedTo(new Map<Value, Value>([["workers", ["tcp://a:1"]]])))).toEqual(new Set());
    expect(thieves(skewedTo(new Map<Value, Value>([["workers", ["tcp://a:1", "tcp://g:1"]]])))).toEqual(new Set(["g"]));
    expect(thieves(skewedTo(new Map<Value, Value>([["workers", ["a", "b"]]])))).toEqual(new Set(["b"]));
    expect(thieves(skewedTo(new Map<Value, Value>([["resources", new Map([["GPU", 1]])]])))).toEqual(new Set(["g"]));
  });

  it("that are loose do not", () => {
    const loose = new Map<Value, Value>([
      ["workers", ["tcp://a:1"]],
      ["allow_other_workers", true],
    ]);
    expect(thieves(skewedTo(loose))).toEqual(new Set(["b", "g"]));
  });

  it("move with the task, resources and all", () => {
    const test = skewedTo(new Map<Value, Value>([["resources", new Map([["GPU", 1]])]]));
    const [first] = test.balance();
    const key = String(first?.split(" ")[0]);
    expect(test.answer("a", key, "constrained").map((event) => event[0])).toEqual(["confirm"]);
    const used = (name: string): number | undefined =>
      test.core.state.workers.get(`tcp://${name}:1`)?.usedResources.get("GPU");
    expect([used("a"), used("g")]).toEqual([11, 1]);
    test.finish("g", key);
    expect(used("g")).toBe(0);
  });
});

describe("the victim's answer", () => {
  function asked(): { test: StealingCore; key: string } {
    const test = new StealingCore();
    test.skewed(10);
    const [first] = test.balance();
    return { test, key: String(first?.split(" ")[0]) };
  }

  it.each(["ready", "constrained", "waiting"])("%s: the task goes to the thief, with a new run_id", (state) => {
    const { test, key } = asked();
    const runId = test.task(key).runId;
    expect(test.answer("a", key, state)).toEqual([["confirm", key, state, "tcp://a:1", "tcp://b:1", "steal-0"]]);
    expect(test.task(key).processingOn?.name).toBe("b");
    const [sent] = test.takeWorker("b");
    expect(sent?.op).toBe("compute-task");
    expect(asNumber(sent?.run_id, 0)).toBeGreaterThan(runId);
    test.finish("b", key);
    expect(test.task(key).state).toBe("memory");
  });

  it.each(["memory", "executing", "long-running", "cancelled", "resumed"])("%s: the task stays", (state) => {
    const { test, key } = asked();
    expect(test.answer("a", key, state)).toEqual([
      ["already-computing", key, state, "tcp://a:1", "tcp://b:1", "steal-0"],
    ]);
    expect(test.task(key).processingOn?.name).toBe("a");
    expect(test.toWorker("b")).toEqual([]);
    // It is not asked for again.
    expect(test.balance().some((request) => request.startsWith(`${key} `))).toBe(false);
    test.finish("a", key);
  });

  it.each([null, "released"])("%s: the task is scheduled anew", (state) => {
    const { test, key } = asked();
    expect(test.answer("a", key, state)[0]?.slice(0, 3)).toEqual(["reschedule", false, key]);
    expect(test.task(key).state).toBe("processing");
  });

  it("ready, but the thief is gone: the task is scheduled anew", () => {
    const { test, key } = asked();
    test.removeWorker("b");
    expect(test.answer("a", key, "ready")[0]?.slice(0, 3)).toEqual(["reschedule", true, key]);
    expect(test.task(key).processingOn?.name).toBe("a");
  });

  it("ready, but the thief is paused: the task is scheduled anew", () => {
    const { test, key } = asked();
    test.fromWorker("b", { op: "worker-status-change", status: "paused" });
    expect(test.answer("a", key, "ready")[0]?.slice(0, 3)).toEqual(["reschedule", false, key]);
    expect(test.task(key).processingOn?.name).toBe("a");
  });

  it("to an old request is passed over", () => {
    const { test, key } = asked();
    test.finish("a", key);
    expect(test.confirm("a", key, "ready", "steal-0")).toEqual([
      ["already-aborted", key, "ready", "tcp://a:1", "steal-0"],
    ]);
    expect(test.confirm("a", "unknown", "ready", "steal-0")).toEqual([]);
    const other = test.takeWorker("a").find((message) => message.op === "steal-request" && message.key !== key);
    const name = String(other?.key);
    expect(test.confirm("a", name, "ready", "steal-9")[0]?.[0]).toBe("stale-response");
    expect(test.task(name).processingOn?.name).toBe("a");
  });

  it("that is no state of a task closes the worker's stream", () => {
    const { test, key } = asked();
    expect(() => test.answer("a", key, "sideways")).toThrow("unexpected task state sideways");
    expect(test.stealing.inFlight.get(test.task(key))).toBeUndefined();
  });
});

describe("tasks that are not to be stolen", () => {
  it("are those that have seceded", () => {
    const test = new StealingCore();
    test.skewed(4);
    for (const key of ["x-0", "x-1", "x-2", "x-3"]) {
      test.fromWorker("a", { op: "long-running", key, run_id: test.task(key).runId, compute_duration: 5 });
    }
    expect(test.balance()).toEqual([]);
  });

  it("are those whose victim is gone: requests end with it", () => {
    const test = new StealingCore();
    test.skewed(10);
    expect(test.balance().length).toBeGreaterThan(0);
    test.removeWorker("a");
    expect(test.stealing.inFlight.size).toBe(0);
    expect(test.task("x-9").processingOn?.name).toBe("b");
  });
});

it("finds what was processing before it was there", () => {
  const test = new TestCore({ workerSaturation: Number.POSITIVE_INFINITY });
  test.addClient();
  test.addWorker("a");
  const keys = Array.from({ length: 10 }, (_, i) => `x-${i}`);
  test.submit(Object.fromEntries(keys.map((key) => [key, []])), keys);
  test.core.stealing = new WorkStealing(test.core);
  expect(test.core.state.workers.get("tcp://a:1")?.stealable[0]?.size).toBe(10);
});

it("prefers the thief that holds the data", () => {
  const test = new StealingCore();
  test.addWorker("a");
  test.submit({ "data-0": [] }, ["data-0"]);
  test.finish("a", "data-0", { nbytes: 3e7 });
  const keys = Array.from({ length: 12 }, (_, i) => `f-${i}`);
  test.submit(Object.fromEntries(keys.map((key) => [key, ["data-0"]])), keys, { external: ["data-0"] });
  test.addWorker("b");
  test.addWorker("c");
  test.fromWorker("c", { op: "add-keys", keys: ["data-0"] });
  expect(test.balance()[0]).toBe("f-11 a>c");
});
