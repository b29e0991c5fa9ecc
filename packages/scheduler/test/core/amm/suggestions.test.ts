import { beforeEach, describe, expect, it } from "vitest";
import { ActiveMemoryManager } from "../../../src/core/amm/active-memory-manager.ts";
import type { Suggestions } from "../../../src/core/amm/suggestions.ts";
import type { TaskState } from "../../../src/core/task-state.ts";
import type { WorkerState } from "../../../src/core/worker-state.ts";
import { type GraphSpec, TestCore } from "../builders.ts";
import { holdOn, submitTasksOn } from "./replicas.ts";

let test: TestCore;
let manager: ActiveMemoryManager;
let suggestions: Suggestions;

beforeEach(() => {
  test = new TestCore();
  test.addClient();
  for (const name of ["a", "b", "c"]) test.addWorker(name, { metrics: new Map([["memory", 1e9]]) });
  manager = new ActiveMemoryManager(test.core, "managed");
});

function worker(name: string): WorkerState {
  return test.core.state.workers.get(`tcp://${name}:1`) as WorkerState;
}

function only(...names: string[]): (ws: WorkerState) => boolean {
  return (ws) => names.includes(String(ws.name));
}

const submitOn = (spec: GraphSpec, places: Record<string, string>): void => submitTasksOn(test, spec, places);
const data = (key: string, holders: readonly string[], nbytes?: number): TaskState =>
  holdOn(test, key, holders, nbytes);

/** A run without policies, so far. */
function begin(): void {
  suggestions = manager.runOnce(test.now);
}

function enact(): void {
  manager.enact(suggestions, test.now);
  test.collect();
}

function names(workers: Iterable<WorkerState>): string[] {
  return Array.from(workers, (ws) => String(ws.name)).sort();
}

function sent(): string[] {
  const all = ["a", "b", "c"].flatMap((name) => test.toWorker(name).map((text) => `${name}: ${text}`));
  return all.filter((text) => text.includes("-replicas"));
}

describe("suggestions with candidates", () => {
  it("replicate to the emptiest of them that runs and has no replica", () => {
    data("big-a", ["a"], 1000);
    data("big-b", ["b"], 500);
    const x = data("x", ["c"]);
    begin();
    expect(suggestions.replicate(x, [worker("c")])).toBeUndefined();
    expect(suggestions.replicate(x, [])).toBeUndefined();
    expect(suggestions.replicate(x, [worker("a"), worker("b")])).toBe(worker("b"));
    expect(suggestions.replicate(x, [worker("b")])).toBeUndefined();
    test.fromWorker("a", { op: "worker-status-change", status: "paused" });
    expect(suggestions.replicate(x, [worker("a")])).toBeUndefined();
    enact();
    expect(sent()).toEqual(["b: acquire-replicas"]);
  });

  it("drop from the fullest of them, never the last replica", () => {
    data("big-a", ["a"], 1000);
    data("big-b", ["b"], 500);
    const x = data("x", ["a", "b", "c"]);
    begin();
    expect(suggestions.drop(x, only())).toBeUndefined();
    expect(suggestions.drop(x, only("b", "c"))).toBe(worker("b"));
    expect(suggestions.drop(x, only("b"))).toBeUndefined();
    expect(suggestions.drop(x, only("c"))).toBe(worker("c"));
    expect(suggestions.drop(x, only("a"))).toBeUndefined();
    expect([...suggestions.pending()].map(({ ts, drop }) => [ts.key, names(drop)])).toEqual([["x", ["b", "c"]]]);
    enact();
    expect(sent()).toEqual(["b: remove-replicas x", "c: remove-replicas x"]);
  });

  it("count in the memory of the workers", () => {
    const x = data("x", ["a", "b"], 100);
    begin();
    suggestions.replicate(x, [worker("c")]);
    suggestions.drop(x, only("a"));
    expect(Array.from(suggestions.memory(), ([ws, nbytes]) => [ws.name, nbytes])).toEqual([
      ["a", 0],
      ["b", 100],
      ["c", 100],
    ]);
  });
});

describe("what has changed before it is enacted", () => {
  it("leaves the last replica where others have gone", () => {
    const x = data("x", ["a", "b"]);
    begin();
    expect(suggestions.drop(x, only("a"))).toBe(worker("a"));
    test.fromWorker("b", { op: "release-worker-data", key: "x" });
    expect(names(x.whoHas.items)).toEqual(["a"]);
    enact();
    expect(sent()).toEqual([]);
    expect(names(x.whoHas.items)).toEqual(["a"]);
  });

  it("leaves one of the replicas that were all to be dropped in the end", () => {
    const x = data("x", ["a", "b", "c"]);
    begin();
    suggestions.drop(x, only("a"));
    suggestions.drop(x, only("b"));
    test.fromWorker("c", { op: "release-worker-data", key: "x" });
    enact();
    expect(x.whoHas.size).toBe(1);
    expect(sent()).toHaveLength(1);
  });

  it("counts a dropped replica that has gone by itself once only", () => {
    const x = data("x", ["a", "b", "c"]);
    begin();
    suggestions.drop(x, only("a"));
    test.fromWorker("a", { op: "release-worker-data", key: "x" });
    expect(suggestions.drop(x, only("b"))).toBe(worker("b"));
    expect(suggestions.drop(x, only("c"))).toBeUndefined();
  });

  it("leaves out workers that are gone or paused, and replicas that are there already", () => {
    const x = data("x", ["a"]);
    const y = data("y", ["a"]);
    const z = data("z", ["a"]);
    begin();
    suggestions.replicate(x, [worker("b")]);
    suggestions.replicate(y, [worker("c")]);
    suggestions.replicate(z, [worker("c")]);
    test.fromWorker("c", { op: "add-keys", keys: ["y"] });
    test.takeWorker("c");
    test.removeWorker("b");
    enact();
    const asked = test.takeWorker("c").filter(({ op }) => op === "acquire-replicas");
    expect(asked.map(({ who_has }) => who_has)).toEqual([new Map([["z", ["tcp://a:1"]]])]);
    begin();
    suggestions.replicate(x, [worker("c")]);
    test.fromWorker("c", { op: "worker-status-change", status: "paused" });
    enact();
    expect(test.toWorker("c")).toEqual([]);
  });

  it("leaves out tasks that are gone, and one of the same key that came for them", () => {
    const x = data("x", ["a", "b"]);
    begin();
    suggestions.drop(x, only("a"));
    test.release("x");
    data("x", ["a", "b"]);
    enact();
    expect(sent()).toEqual([]);
    expect(names(test.task("x").whoHas.items)).toEqual(["a", "b"]);
  });

  it("leaves a replica that a task has come to need", () => {
    const x = data("x", ["a", "b"]);
    begin();
    suggestions.drop(x, only("a"));
    submitOn({ y: ["x"] }, { y: "a" });
    test.takeWorker("a");
    enact();
    expect(sent()).toEqual([]);
    expect(names(x.whoHas.items)).toEqual(["a", "b"]);
  });
});

it("sends nothing twice", () => {
  const x = data("x", ["a"]);
  begin();
  suggestions.replicate(x, [worker("b")]);
  enact();
  expect(sent()).toEqual(["b: acquire-replicas"]);
  enact();
  expect(sent()).toEqual([]);
  // but it is still on its way
  expect(suggestions.pendingReplicas(x)).toBe(1);
  expect(suggestions.replicate(x, [worker("b")])).toBeUndefined();
});
