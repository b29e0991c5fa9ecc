/** Spans: which task belongs to which, what a span tells, and that it does not keep what is gone. */
import type { Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import { State } from "../../src/core/index.ts";
import { Spans } from "../../src/extensions/spans.ts";
import { type GraphSpec, graphOf, TestCore } from "../core/builders.ts";

function cluster(options: { nthreads?: number; maxSpans?: number } = {}): { test: TestCore; spans: Spans } {
  const test = new TestCore();
  const spans = new Spans(options.maxSpans);
  spans.attach(test.core, () => test.now);
  test.addClient();
  test.addWorker("a", { nthreads: options.nthreads ?? 2 });
  return { test, spans };
}

function spanAnnotation(...path: [name: string, id: string][]): ReadonlyMap<Value, Value> {
  const span = new Map<Value, Value>([
    ["name", path.map(([name]) => name)],
    ["ids", path.map(([, id]) => id)],
  ]);
  return new Map<Value, Value>([
    ["span", span],
    ["retries", 2],
  ]);
}

/** Submits tasks that all have the annotations. */
function submit(test: TestCore, spec: GraphSpec, annotations: ReadonlyMap<Value, Value> | null, code: Value[] = []) {
  const keys = Object.keys(spec);
  const options =
    annotations === null ? {} : { annotations: Object.fromEntries(keys.map((key) => [key, annotations])) };
  test.submitGraph({ ...graphOf(spec, options), code }, keys);
}

describe("which span a task belongs to", () => {
  it("is the annotated one, with its parents, and goes to the worker with the task", () => {
    const { test, spans } = cluster();
    submit(test, { x: [] }, spanAnnotation(["outer", "1"], ["inner", "2"]));
    expect([...spans.spans.keys()]).toEqual(["1", "2"]);
    expect(spans.rootSpans.map((span) => span.name)).toEqual([["outer"]]);
    expect(spans.spans.get("2")?.parent).toBe(spans.spans.get("1"));
    expect(test.task("x").group.spanId).toBe("2");
    expect(test.takeWorker("a")).toMatchObject([{ op: "compute-task", key: "x", span_id: "2" }]);
    expect(test.task("x").annotations?.get("retries")).toBe(2);
  });

  it("is the default span without one, until all its tasks are done", () => {
    const { test, spans } = cluster();
    submit(test, { x: [] }, null);
    submit(test, { y: [] }, null);
    const [first] = spans.named(["default"]);
    expect(test.task("y").group.spanId).toBe(first?.id);
    test.finish("a", "x");
    test.finish("a", "y");
    submit(test, { z: [] }, null);
    expect(spans.named(["default"]).length).toBe(2);
    expect(test.task("z").group.spanId).not.toBe(first?.id);
  });

  it("is that of its group, whatever its own annotation says", () => {
    const { test, spans } = cluster();
    submit(test, { "x-1": [] }, spanAnnotation(["one", "1"]));
    submit(test, { "x-2": [] }, spanAnnotation(["two", "2"]));
    submit(test, { "x-3": [] }, null);
    expect([...spans.spans.keys()]).toEqual(["1"]);
    for (const key of ["x-1", "x-2", "x-3"]) {
      const span = test.task(key).annotations?.get("span") as ReadonlyMap<Value, Value>;
      expect([key, span.get("ids")]).toEqual([key, ["1"]]);
    }
    expect(test.task("x-2").annotations?.get("retries")).toBe(2);
  });

  it("takes the annotation away from a task in the group of a default span", () => {
    const { test } = cluster();
    submit(test, { "x-1": [] }, null);
    submit(test, { "x-2": [] }, spanAnnotation(["two", "2"]));
    expect([...(test.task("x-2").annotations?.keys() ?? [])]).toEqual(["retries"]);
  });

  it("costs no copy of annotations where nothing changes", () => {
    const { test } = cluster();
    const annotations = spanAnnotation(["one", "1"]);
    submit(test, { "x-1": [], "x-2": [] }, annotations);
    expect(test.task("x-1").annotations).toBe(test.task("x-2").annotations);
  });
});

describe("what a span tells", () => {
  it("sums the states, times and bytes of its tree", () => {
    const { test, spans } = cluster();
    submit(test, { x: [] }, spanAnnotation(["p", "1"]));
    submit(test, { y: [] }, spanAnnotation(["p", "1"], ["q", "2"]));
    const span = spans.spans.get("1");
    expect([span?.done, span?.start]).toEqual([false, 0]);
    test.now = 1002;
    expect(span?.stop(test.now)).toBe(1002);
    test.finish("a", "x", { nbytes: 5, duration: 1 });
    test.finish("a", "y", { nbytes: 7, duration: 2 });
    expect(span?.done).toBe(true);
    expect([span?.start, span?.stop(9999)]).toEqual([1002, 1004]);
    expect([span?.nbytesTotal, span?.duration]).toEqual([12, 3]);
    expect(span?.allDurations).toEqual(new Map([["compute", 3]]));
    expect(span?.states[State.memory]).toBe(2);
  });

  it("has the code of its tree once, and the collections of all submissions", () => {
    const { test, spans } = cluster();
    const annotations = spanAnnotation(["p", "1"]);
    submit(test, { x: [] }, annotations, [["a = 1", 1, 0, "f.py"]]);
    submit(test, { y: [] }, annotations, [["a = 1", 1, 0, "f.py"]]);
    submit(test, { z: [] }, annotations, [["b = 2", 1, 0, "f.py"]]);
    expect(spans.spans.get("1")?.code.length).toBe(2);
    const graph = graphOf({ w: [] }, { annotations: { w: annotations } });
    for (const name of ["one", "two"]) {
      test.submitGraph({ ...graph, spanMetadata: new Map([["collections", [name]]]) }, ["w"]);
    }
    expect(spans.spans.get("1")?.metadata?.get("collections")).toEqual(["one", "two"]);
  });

  it("takes the workers' metrics, and adds the time that nothing accounts for", () => {
    const { test, spans } = cluster({ nthreads: 2 });
    submit(test, { x: [] }, spanAnnotation(["p", "1"], ["q", "2"]));
    test.finish("a", "x", { duration: 3 });
    const report = new Map<Value, Value>([
      [["execute", "2", "x", "thread-cpu", "seconds"], 2.5],
      [["execute", "2", "x", "memory-read", "count"], 3],
      [["execute", "gone", "x", "thread-cpu", "seconds"], 100],
    ]);
    spans.heartbeat("tcp://a:1", report);
    spans.heartbeat("tcp://a:1", report);
    expect(
      [...(spans.spans.get("1")?.cumulativeWorkerMetrics(test.now) ?? [])].map(([k, v]) => [k, Number(v)]),
    ).toEqual([
      [["execute", "x", "thread-cpu", "seconds"], 5],
      [["execute", "x", "memory-read", "count"], 6],
      [["execute", "N/A", "idle or other spans", "seconds"], 1],
    ]);
  });

  it("counts the threads there were while it was active", () => {
    const { test, spans } = cluster({ nthreads: 2 });
    submit(test, { x: [] }, spanAnnotation(["p", "1"]));
    test.now = 1010;
    test.addWorker("b", { nthreads: 3 });
    test.now = 1020;
    test.finish("a", "x", { duration: 5 });
    const span = spans.spans.get("1");
    expect(span?.nthreadsIntervals(2000)).toEqual([
      [1000, 1010, 2],
      [1010, 1025, 5],
    ]);
    expect(span?.activeCpuSeconds(2000)).toBe(20 + 75);
  });

  it("can be merged with others, without the time between them", () => {
    const { test, spans } = cluster({ nthreads: 1 });
    submit(test, { x: [] }, spanAnnotation(["p", "1"]));
    test.finish("a", "x", { duration: 2 });
    test.now = 1100;
    submit(test, { y: [] }, spanAnnotation(["r", "2"]));
    test.finish("a", "y", { duration: 3 });
    expect(spans.mergeAll().activeCpuSeconds(2000)).toBe(5);
    expect(spans.mergeByTags(["p"]).activeCpuSeconds(2000)).toBe(2);
    expect(() => spans.mergeByTags(["nothing"])).toThrow(RangeError);
  });

  it("is found by its tags; of a span and those below it only the span", () => {
    const { test, spans } = cluster();
    submit(test, { x: [] }, spanAnnotation(["p", "1"], ["q", "2"]));
    submit(test, { y: [] }, spanAnnotation(["q", "3"]));
    expect(spans.findByTags(["p", "q"]).map((span) => span.id)).toEqual(["1", "3"]);
    expect(spans.findByTags(["q"]).map((span) => span.id)).toEqual(["3", "2"]);
  });
});

describe("what is gone", () => {
  it("stays in the sums of a span that lives on, but not as groups", () => {
    const { test, spans } = cluster({ nthreads: 1 });
    const annotations = spanAnnotation(["p", "1"]);
    for (let i = 0; i < 400; i++) {
      submit(test, { [`${"abcdefghij"[i % 10]}${i}x`]: [] }, annotations);
      test.finish("a", `${"abcdefghij"[i % 10]}${i}x`, { nbytes: 1, duration: 1 });
      test.release(`${"abcdefghij"[i % 10]}${i}x`);
    }
    const span = spans.spans.get("1");
    expect(span?.groups.size).toBeLessThan(300);
    expect([span?.duration, span?.nbytesTotal]).toEqual([400, 400]);
    expect(span?.states[State.forgotten]).toBe(400);
  });

  it("goes from a full table, the oldest first, but not a span with tasks", () => {
    const { test, spans } = cluster({ maxSpans: 20 });
    submit(test, { kept: [] }, spanAnnotation(["kept", "kept"]));
    for (let i = 0; i < 50; i++) {
      submit(test, { [`x${i}x`]: [] }, spanAnnotation(["p", `p${i}`], ["q", `q${i}`]));
      test.finish("a", `x${i}x`);
      test.release(`x${i}x`);
    }
    expect(spans.spans.size).toBeLessThanOrEqual(20);
    expect(spans.spans.has("kept")).toBe(true);
    expect(spans.spans.has("q49")).toBe(true);
    expect(spans.spans.has("q1")).toBe(false);
    expect(spans.findByTags(["p"]).length).toBe(spans.rootSpans.length - 1);
  });
});
