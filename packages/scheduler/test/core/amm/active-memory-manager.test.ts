import { beforeEach, describe, expect, it } from "vitest";
import { ActiveMemoryManager, ReduceReplicas, RetireWorker, type TaskState } from "../../../src/core/index.ts";
import { type GraphSpec, TestCore } from "../builders.ts";
import { holdOn, submitTasksOn } from "./replicas.ts";

let test: TestCore;
let manager: ActiveMemoryManager;

beforeEach(() => {
  test = new TestCore();
  test.addClient();
  manager = new ActiveMemoryManager(test.core, "managed");
});

function workers(...names: string[]): void {
  for (const name of names) {
    test.addWorker(name, {
      metrics: new Map([["memory", 1e9]]),
    });
  }
}

const submitOn = (spec: GraphSpec, places: Record<string, string>): void => submitTasksOn(test, spec, places);
const data = (key: string, holders: readonly string[], nbytes?: number): TaskState =>
  holdOn(test, key, holders, nbytes);

function run(): void {
  manager.runOnce(test.now);
  test.collect();
}

function holders(key: string): string[] {
  return test
    .task(key)
    .whoHas.items.map((ws) => String(ws.name))
    .sort();
}

it("refuses a measure that there is not", () => {
  expect(() => new ActiveMemoryManager(test.core, "gut-feeling")).toThrow("gut-feeling");
});

describe("ReduceReplicas", () => {
  beforeEach(() => {
    manager.policies.add(new ReduceReplicas());
  });

  it("leaves one replica, on the worker with the least memory, and forgets the others at once", () => {
    workers("a", "b", "c");
    data("big-b", ["b"], 1000);
    data("big-c", ["c"], 500);
    data("x", ["a", "b", "c"]);
    run();
    expect(test.toWorker("b")).toEqual(["remove-replicas x"]);
    expect(test.toWorker("c")).toEqual(["remove-replicas x"]);
    expect(holders("x")).toEqual(["a"]);
    run();
    expect(["a", "b", "c"].flatMap((name) => test.toWorker(name))).toEqual([]);
    // A worker that needs it says so.
    test.fromWorker("b", { op: "add-keys", keys: ["x"] });
    expect(holders("x")).toEqual(["a", "b"]);
  });

  it("keeps a replica for each dependent, but not two for those on one worker", () => {
    workers("a", "b", "c");
    data("x", ["a", "b", "c"]);
    submitOn({ y1: ["x"], y2: ["x"] }, { y1: "a", y2: "a" });
    run();
    expect(holders("x")).toEqual(["a"]);
    test.fromWorker("b", { op: "add-keys", keys: ["x"] });
    submitOn({ y3: ["x"] }, { y3: "b" });
    run();
    expect(holders("x")).toEqual(["a", "b"]);
  });

  it("drops from paused workers first", () => {
    workers("a", "b");
    data("big-a", ["a"], 1000);
    data("x", ["a", "b"]);
    test.fromWorker("b", { op: "worker-status-change", status: "paused" });
    run();
    expect(holders("x")).toEqual(["a"]);
  });

  it("leaves actors alone", () => {
    workers("a", "b");
    test.submit({ act: [] }, ["act"], { actors: true });
    const home = String(test.task("act").processingOn?.name);
    test.finish(home, "act");
    test.fromWorker(home === "a" ? "b" : "a", { op: "add-keys", keys: ["act"] });
    run();
    expect(holders("act")).toEqual(["a", "b"]);
  });
});

describe("RetireWorker", () => {
  function retire(name: string): RetireWorker {
    const policy = new RetireWorker(`tcp://${name}:1`);
    manager.policies.add(policy);
    test.core.workerStatusChange(policy.address, "closing_gracefully", "test-retire", test.now);
    return policy;
  }

  it("has unique data copied to the workers with the least memory", () => {
    workers("a", "b", "c");
    data("big-b", ["b"], 1000);
    data("x", ["a"], 600);
    data("y", ["a"], 600);
    data("z", ["a"], 600);
    const policy = retire("a");
    run();
    const sent = test.takeWorker("c");
    expect(sent.map(({ op }) => op)).toEqual(["acquire-replicas"]);
    expect(sent[0]?.who_has).toEqual(
      new Map([
        ["x", ["tcp://a:1"]],
        ["y", ["tcp://a:1"]],
      ]),
    );
    expect(sent[0]?.nbytes).toEqual(
      new Map([
        ["x", 600],
        ["y", 600],
      ]),
    );
    expect(test.takeWorker("b").map(({ who_has }) => who_has)).toEqual([new Map([["z", ["tcp://a:1"]]])]);
    expect(policy.done(test.core.state)).toBe(false);
    test.fromWorker("c", { op: "add-keys", keys: ["x", "y"] });
    expect(policy.done(test.core.state)).toBe(false);
    test.fromWorker("b", { op: "add-keys", keys: ["z"] });
    expect(policy.done(test.core.state)).toBe(true);
    expect(policy.noRecipients).toBe(false);
    // The next run drops what has been copied, and is then finished.
    run();
    expect(test.toWorker("a")).toEqual(["remove-replicas x,y,z"]);
    expect(manager.policies.size).toBe(0);
  });

  it("gives up where nobody can take the data", () => {
    workers("a", "b");
    data("x", ["a"]);
    test.fromWorker("b", { op: "worker-status-change", status: "paused" });
    const policy = retire("a");
    run();
    expect([policy.noRecipients, policy.done(test.core.state), manager.policies.size]).toEqual([true, true, 0]);
  });

  it("gives up an actor's worker", () => {
    workers("a", "b");
    test.submit({ act: [] }, ["act"], { actors: true });
    const home = String(test.task("act").processingOn?.name);
    test.finish(home, "act");
    const policy = retire(home);
    run();
    expect(policy.noRecipients).toBe(true);
  });

  it("makes a copy elsewhere where all replicas are on retiring workers", () => {
    workers("a", "b", "c");
    data("x", ["a", "b"]);
    retire("a");
    retire("b");
    run();
    // One of them drops its replica, the other one has it copied.
    expect(holders("x")).toHaveLength(1);
    expect(test.toWorker("c")).toEqual(["acquire-replicas"]);
  });

  it("keeps a replica that a task on the retiring worker is about to use, and the one elsewhere", () => {
    workers("a", "b");
    data("x", ["a", "b"]);
    submitOn({ y: ["x"] }, { y: "a" });
    retire("a");
    manager.policies.add(new ReduceReplicas());
    run();
    expect(holders("x")).toEqual(["a", "b"]);
  });

  it("is done where the worker is gone", () => {
    workers("a", "b");
    data("x", ["a"]);
    const policy = retire("a");
    test.removeWorker("a");
    expect(policy.done(test.core.state)).toBe(true);
    run();
    expect([policy.noRecipients, manager.policies.size]).toEqual([false, 0]);
  });
});
