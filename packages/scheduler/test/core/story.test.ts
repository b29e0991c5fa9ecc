import type { Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import {
  errorCause,
  hasWhat,
  nbytes,
  ncores,
  prefixStates,
  processing,
  State,
  taskStatus,
  whoHas,
} from "../../src/core/index.ts";
import { TestCore } from "./builders.ts";

function cluster(config = {}): TestCore {
  const test = new TestCore(config);
  test.addClient();
  test.addWorker("a", { nthreads: 2 });
  return test;
}

describe("stories", () => {
  it("tell the transitions of a key with what was recommended, by key or by stimulus", () => {
    const test = cluster();
    test.submit({ x: [], y: ["x"] }, ["y"], { stimulusId: "update-graph-7" });
    const story = test.core.story(["x"]);
    expect(story.map((t) => `${String(t.key)} ${t.start}>${t.finish} ${JSON.stringify(t.recommendations)}`)).toEqual([
      'x released>waiting [["x","processing"]]',
      "x waiting>processing []",
    ]);
    expect(test.core.story(["update-graph-7"]).length).toBeGreaterThanOrEqual(3);
  });

  it("keep the last so many transitions only", () => {
    const test = cluster({ logLength: 5 });
    for (let i = 0; i < 10; i++) {
      test.submit({ [`x-${i}`]: [] }, [`x-${i}`]);
      test.finish("a", `x-${i}`);
    }
    expect(test.core.log.entries().length).toBe(5);
    expect(test.core.log.entries().at(-1)).toMatchObject({ key: "x-9", start: "processing", finish: "memory" });
  });

  it("listeners see each transition with its actual finish and the message behind it", () => {
    const test = cluster();
    const seen: string[] = [];
    test.core.listeners.transition.push((ts, start, finish, extra) => {
      seen.push(`${ts.id} ${start}>${finish} ${String(extra.message?.op ?? "")}`);
    });
    test.submit({ x: [] }, ["x"]);
    test.finish("a", "x");
    test.release("x");
    const { released, waiting, processing: p, memory, forgotten } = State;
    expect(seen).toEqual([
      `x ${released}>${waiting} `,
      `x ${waiting}>${p} `,
      `x ${p}>${memory} task-finished`,
      `x ${memory}>${forgotten} `,
    ]);
  });
});

describe("queries", () => {
  it("answer as the scheduler's RPC ops do", () => {
    const test = cluster();
    test.submit({ "x-1": [], "x-2": ["x-1"], "bad-1": [] }, ["x-1", "x-2", "bad-1"]);
    test.finish("a", "x-1", { nbytes: 5 });
    test.err("a", "bad-1");
    const { state } = test.core;
    const a = "tcp://a:1";
    expect(whoHas(state, ["x-1", "nope"])).toEqual(
      new Map([
        ["x-1", [a]],
        ["nope", []],
      ]),
    );
    expect(hasWhat(state, null)).toEqual(new Map([[a, ["x-1"]]]));
    expect(hasWhat(state, ["a"])).toEqual(new Map([[a, ["x-1"]]]));
    expect(processing(state, null)).toEqual(new Map([[a, ["x-2"]]]));
    expect(ncores(state, null, true)).toEqual(new Map([[a, 2]]));
    expect(nbytes(state, ["x-1"], true)).toEqual(new Map([["x", 5]]));
    expect(() => nbytes(state, ["nope"], false)).toThrow(/nope/);
    expect(taskStatus(state, ["x-2", "nope"])).toEqual(
      new Map([
        ["x-2", "processing"],
        ["nope", null],
      ]),
    );
    expect(prefixStates(state).get("x")).toEqual(
      new Map([
        ["memory", 1],
        ["erred", 0],
        ["released", 0],
        ["processing", 1],
        ["waiting", 0],
      ]),
    );
    expect(errorCause(state, ["x-1", "bad-1"])).toBe("bad-1");
  });

  it("metadata by path, and what tasks left between start and stop", () => {
    const test = cluster();
    const { taskMetadata } = test.core.state;
    taskMetadata.set(["x"], new Map<Value, Value>([["a", 1]]));
    taskMetadata.set(["x", "b"], 2);
    expect(taskMetadata.get(["x", "a"])).toBe(1);
    expect(taskMetadata.get(["x"])).toEqual(
      new Map([
        ["a", 1],
        ["b", 2],
      ]),
    );
    expect(taskMetadata.get(["x", "c"])).toBeUndefined();
    test.core.startTaskMetadata("n");
    test.submit({ x: [] }, ["x"]);
    test.finish("a", "x");
    const collected = test.core.stopTaskMetadata("n");
    expect(collected?.state).toEqual(new Map([["x", "memory"]]));
    expect(test.core.stopTaskMetadata("n")).toBeUndefined();
  });
});
