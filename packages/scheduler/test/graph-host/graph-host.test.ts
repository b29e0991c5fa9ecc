import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  decode,
  decodeSubHeader,
  encode,
  findPython,
  type Key,
  type Message,
  pickled,
  RemoteError,
  Serialized,
  type Value,
} from "@dask-ts/protocol";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import type { Graph } from "../../src/core/graph.ts";
import { TaskFlag } from "../../src/core/graph.ts";
import { GraphHost } from "../../src/graph-host/graph-host.ts";
import { GraphHostPool } from "../../src/graph-host/graph-host-pool.ts";

type Fields = Map<string, Value>;
const here = dirname(fileURLToPath(import.meta.url));
let python = "";
let expressions: Record<string, Fields>;
let host: GraphHost;
const lines: string[] = [];
const onExit = vi.fn();

beforeAll(async () => {
  python = (await findPython()).path;
  const bytes = execFileSync(python, [join(here, "expressions.py")], { maxBuffer: 1e9 });
  const records = decode(bytes) as Message;
  expressions = Object.fromEntries(Object.entries(records).map(([name, fields]) => [name, fields as Fields]));
  host = await GraphHost.start({
    python,
    onLine: (level, line) => lines.push(`${level}: ${line}`),
    onExit,
  });
});
afterAll(() => host?.close());

async function open(
  name: string,
  more: Message = {},
  at: { openGraph: GraphHost["openGraph"] } = host,
): Promise<Graph> {
  const record = expressions[name]!;
  return await at.openGraph({
    exprSer: new Serialized(record.get("header") as Uint8Array, record.get("frames") as Uint8Array[]),
    keys: record.get("keys") as Key[],
    ...more,
  });
}

function pickleOf(name: string): Uint8Array {
  return expressions.pickles!.get(name) as Uint8Array;
}

/** Asks another Python what the run_specs of a graph give, with plain pickle. */
function execute(graph: Graph): Value {
  const script = `
import sys, msgpack, pickle
specs = msgpack.unpackb(sys.stdin.buffer.read())
nodes = [pickle.loads(s, buffers=b) for s, b in specs]
values = {}
while len(values) < len(nodes):
    for n in nodes:
        if n.key not in values and n.dependencies <= values.keys():
            values[n.key] = n({d: values[d] for d in n.dependencies})
def plain(v):
    return v.item() if hasattr(v, "item") else v
sys.stdout.buffer.write(msgpack.packb([[k, plain(v)] for k, v in values.items()]))
`;
  const specs = graph.runSpecs.map((spec) => [
    decodeSubHeader(spec.header).get("pickled-obj") as Uint8Array,
    spec.frames as Uint8Array[],
  ]);
  return decode(execFileSync(python, ["-c", script], { input: encode(specs) }));
}

describe("openGraph", () => {
  it("opens what submit sends, culled", async () => {
    const graph = await open("submit", {
      annotations: pickled(pickleOf("annotations")),
      spanMetadata: pickled(pickleOf("metadata")),
    });
    expect(graph.keys).toEqual(["x"]);
    expect(graph.dependencies).toEqual([[]]);
    expect(graph.annotationSets).toEqual([
      new Map([
        ["retries", 3],
        ["priority", 1],
      ]),
    ]);
    expect(graph.annotationOf).toEqual(Int32Array.of(0));
    expect(graph.spanMetadata).toEqual(new Map([["collections", [new Map([["type", "Future"]])]]]));
    expect(graph.code).toEqual([]);
    expect(execute(graph)).toEqual([["x", -1]]);
  });

  it("names dependencies that are not in the graph", async () => {
    const graph = await open("on-futures");
    expect(new Set(graph.externalKeys)).toEqual(new Set(["a", ["b", 0]]));
    expect(new Set(graph.dependencies[0])).toEqual(new Set([1, 2]));
    expect(graph.externalIds).toHaveLength(2);
  });

  it("opens a large map in chunks, and lets the event loop turn meanwhile", async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const graph = await open("map");
    clearInterval(timer);
    expect(turns).toBeGreaterThan(1);
    expect(graph.keys).toEqual(expressions.map!.get("keys"));
    expect(graph.annotationOf).toBeUndefined();
    expect((execute(graph) as Value[][]).map(([, v]) => v)).toEqual(
      Array.from({ length: 5000 }, (_, i) => (i ? -i : 0)),
    );
  });

  it("sends the keys again where a graph only looks like a map", async () => {
    expect((await open("map-in-name")).keys).toEqual(["_MapExpr"]);
  });

  it("carries functions by value", async () => {
    expect((execute(await open("by-value")) as Value[][]).map(([, v]) => v)).toEqual([1, 2, 3]);
  });

  it("opens delayed, array and legacy graphs", async () => {
    const delayed = await open("delayed", { annotations: pickled(pickleOf("callable-annotations")) });
    expect(delayed.keys.length).toBe(4);
    const sets = [...delayed.annotationOf!].map((n) => delayed.annotationSets[n]!);
    expect(sets.filter((s) => s.get("retries") === 2)).toHaveLength(1);
    expect(sets.map((s) => s.get("priority"))).toEqual(delayed.keys.map((k) => (k as string).length));
    expect((execute(delayed) as Value[][]).map(([, v]) => Number(v)).toSorted((a, b) => a - b)).toEqual([2, 2, 3, 5]);
    const array = await open("array");
    expect((execute(array) as Value[][]).some(([, v]) => v === 32 || Number(v) === 32)).toBe(true);
    const legacy = await open("tuple-keys");
    expect(new Set(legacy.keys)).toEqual(
      new Set([
        ["a", 0],
        ["a", 1],
      ]),
    );
    const one = legacy.keys.findIndex((k) => (k as Key[])[1] === 1);
    expect(legacy.dependencies[one]).toEqual([1 - one]);
    expect(legacy.flags[1 - one]).toBe(TaskFlag.dataProducer);
  });

  it("holds a large buffer once for all tasks that use it", async () => {
    const graph = await open("shared-buffer");
    const buffers = graph.runSpecs.map((spec) => spec.frames[0]);
    expect(buffers[0]!.byteLength).toBe(100_000);
    expect(buffers.every((b) => b === buffers[0])).toBe(true);
    expect((execute(graph) as Value[][]).map(([, v]) => v)).toEqual([100_000, 100_000, 100_000]);
  });

  it("reports what cannot be opened with Python's exception", async () => {
    const error = await open("unopenable").catch((e: unknown) => e);
    expect(error).toBeInstanceOf(RemoteError);
    const { exceptionText, exception } = error as RemoteError;
    expect(exceptionText).toContain("RuntimeError");
    expect(exceptionText).toContain("Error during deserialization of the task graph");
    expect(exception).toBeInstanceOf(Serialized);
  });

  it("answers a small graph while a large one is at work", async () => {
    const order: string[] = [];
    await Promise.all([open("large").then(() => order.push("large")), open("submit").then(() => order.push("submit"))]);
    expect(order).toEqual(["submit", "large"]);
  });
});

describe("call", () => {
  it("evaluates keys, opens plain pickles, makes exceptions", async () => {
    const workers = ["tcp://a:1", "tcp://b:1", "tcp://a:2"].map((address) => new Map([["address", address]]));
    const groups = await host.call("evaluate-key", { function: pickleOf("by-host"), workers });
    expect(groups).toEqual({ groups: [0, 1, 0], values: ["a", "b", "a"] });
    const { value } = await host.call("open-pickle-plain", { data: pickleOf("plain") });
    expect((value as Map<Value, Value>).get("a")).toHaveLength(3);
    await expect(host.call("open-pickle-plain", { data: pickleOf("inc") })).rejects.toBeInstanceOf(RemoteError);
    const made = await host
      .call("error-pickle", { module: "distributed.utils", name: "Deadline", args: [] })
      .catch((e: unknown) => e);
    expect(made).toBeInstanceOf(RemoteError);
    const error = await host.call("error-pickle", { module: "builtins", name: "KeyError", args: ["x"] });
    expect(error.exception_text).toBe("KeyError('x')");
    await expect(host.call("nonsense", {})).rejects.toThrow("no op 'nonsense'");
  });
});

describe("when the child dies", () => {
  it("fails what is in flight, restarts, and goes on", async () => {
    const before = host.pid;
    await expect(open("kills")).rejects.toThrow("could not do open-graph");
    expect(onExit).toHaveBeenCalledExactlyOnceWith(null, "SIGKILL");
    expect((await open("submit")).keys).toEqual(["x"]);
    expect(host.pid).not.toBe(before);
    expect(lines.join("\n")).toContain("the graph host ended by SIGKILL");
  });
});

it("spreads graphs over a pool", async () => {
  const pool = await GraphHostPool.start({ python }, 2);
  try {
    const graphs = await Promise.all([open("map", {}, pool), open("submit", {}, pool), open("array", {}, pool)]);
    expect(graphs.map((g) => g.keys.length > 0)).toEqual([true, true, true]);
    expect(pool.versions).toBeInstanceOf(Map);
    // What is missing here may be where users' functions run.
    const asked: unknown[] = [];
    pool.elsewhere = (request) => {
      asked.push(request.keys);
      return Promise.resolve(graphs[1]);
    };
    expect(await open("unopenable", {}, pool)).toBe(graphs[1]);
    expect(asked).toEqual([["x"]]);
    pool.elsewhere = () => undefined;
    await expect(open("unopenable", {}, pool)).rejects.toBeInstanceOf(RemoteError);
  } finally {
    await pool.close();
  }
});
