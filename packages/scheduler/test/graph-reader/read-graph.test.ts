import { readFileSync } from "node:fs";
import { join } from "node:path";
import { decode, encode, type Key, type Message, pickled, Serialized, type Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import type { OpenGraphRequest } from "../../src/graph-host/graph-host.ts";
import { GraphPickles, type GraphReading, KnownGlobals } from "../../src/graph-reader/index.ts";
import { here, readLearned, readNow } from "./differential.ts";

const recorded = new Map(
  (decode(readFileSync(join(here, "../fixtures/graphs/2026.8.0-py3.11.msgpack"))) as unknown as Message[]).map(
    (fields) => [String(fields["name"]), fields],
  ),
);

function requestOf(name: string, frames?: Uint8Array[]): OpenGraphRequest {
  const fields = recorded.get(name)!;
  return {
    exprSer: new Serialized(fields["header"] as Uint8Array, frames ?? (fields["frames"] as Uint8Array[])),
    keys: fields["keys"] as Key[],
  };
}

// A small assembler of pickles.
const text = (value: string): string => `\x8c${String.fromCharCode(value.length)}${value}`;
const global = (module: string, name: string): string => `${text(module)}${text(name)}\x93`;
const int = (value: number): string => `K${String.fromCharCode(value)}`;
const pickle = (body: string): Buffer => Buffer.from(`\x80\x05${body}.`, "latin1");
/** An LLGExpr. @param dsk leaves a dict on the stack. */
function expression(dsk: string): Buffer {
  const type = global("dask._expr", "LLGExpr");
  return pickle(`${global("dask._expr", "Expr._reconstruct")}(${type}${dsk}${text("token")}}tR`);
}
/** Leaves t_depth on the stack, where t_n is (t_n-1, t_n-1): exponentially many parts. */
function bomb(depth: number, memo: number, made = "\x86"): string {
  let body = `${int(1)}\x85\x94`;
  for (let i = 0; i < depth; i++) body += `h${String.fromCharCode(memo + i)}${made}\x94`;
  return body;
}

function request(expr: Buffer, keys: Key[], more: Partial<OpenGraphRequest> = {}): OpenGraphRequest {
  const header = encode({ serializer: "pickle", writeable: [], "num-sub-frames": 1 });
  return { exprSer: new Serialized(header, [expr]), keys, ...more };
}

function read(what: OpenGraphRequest): GraphReading {
  return readLearned(new GraphPickles(new KnownGlobals()), what);
}

function reason(reading: GraphReading): string {
  return "graph" in reading ? "" : reading.notKnown;
}

describe("what is known", () => {
  it("reads what is Python's and Dask's own without having met it", () => {
    const pickles = new GraphPickles(new KnownGlobals());
    for (const name of [
      "submit",
      "submit-by-value",
      "submit-keywords",
      "map-range",
      "map-futures",
      "legacy",
      "tasks",
    ]) {
      expect(reason(readNow(pickles, requestOf(name)))).toBe("");
    }
  });

  it("believes other names only after the graph host has opened a graph with them", () => {
    const pickles = new GraphPickles(new KnownGlobals());
    const first = readNow(pickles, requestOf("submit-array"));
    expect(reason(first)).toContain("numpy");
    expect(reason(readNow(pickles, requestOf("submit-array")))).toContain("numpy");
    if (!("graph" in first)) pickles.known.learn(first.names);
    expect(reason(readNow(pickles, requestOf("submit-array")))).toBe("");
  });

  it("never learns a call of Python's own, whose outcome depends on its arguments", () => {
    const call = `${global("operator", "getitem")}}${text("missing")}\x86R`;
    const graph = expression(`}${text("x")}${global("operator", "neg")}${call}\x86s`);
    const pickles = new GraphPickles(new KnownGlobals());
    const first = readNow(pickles, request(graph, ["x"]));
    expect(reason(first)).toContain("operator.getitem");
    if (!("graph" in first)) pickles.known.learn(first.names);
    expect(reason(readNow(pickles, request(graph, ["x"])))).toContain("operator.getitem");
  });

  it("leaves code of another Python to the graph host", () => {
    const steps = new GraphPickles(new KnownGlobals()).read(requestOf("submit-by-value"), false);
    expect(reason(steps.next().value!)).toContain("another release of Python");
  });

  it("leaves instances of classes pickled by value to the graph host", () => {
    const type = `${global("cloudpickle.cloudpickle", "_make_skeleton_class")})R`;
    expect(reason(read(request(expression(`}${text("x")}${type})\x81s`), ["x"])))).toContain("by value");
  });

  it("tells functions from constants that are pickled by their name", () => {
    const graph = (name: string): Buffer => expression(`}${text("x")}${global("socket", name)}${int(1)}\x86s`);
    expect(reason(read(request(graph("AF_INET"), ["x"])))).toContain("socket.AF_INET");
    expect(reason(read(request(graph("gethostbyname"), ["x"])))).toBe("");
  });
});

describe("the fields beside the expression", () => {
  it("reads annotations, code and metadata", () => {
    const source = `${global("distributed.client", "SourceCode")}(${text("f()")}${int(1)}${int(2)}${text("a.py")}t\x81`;
    const reading = read({
      ...requestOf("submit"),
      annotations: pickled(pickle(`}${text("priority")}G\x3f\xf0\0\0\0\0\0\0s`)),
      code: pickled(pickle(`${source}\x85`)),
      spanMetadata: pickled(pickle(`}${text("collections")}]}${text("type")}${text("Future")}sas`)),
    });
    if (!("graph" in reading)) throw new Error(reading.notKnown);
    expect(reading.graph.code).toEqual([["f()", 1, 2, "a.py"]]);
    expect(reading.graph.spanMetadata).toEqual(new Map([["collections", [new Map([["type", "Future"]])]]]));
    expect(encode(reading.graph.annotationSets as unknown as Value)).toEqual(
      Buffer.from("\x91\x81\xa8priority\xcb\x3f\xf0\0\0\0\0\0\0", "latin1"),
    );
    expect(reading.graph.annotationOf).toEqual(Int32Array.of(0));
  });

  it("leaves callable annotations to the graph host", () => {
    const annotations = pickled(pickle(`}${text("priority")}${global("builtins", "len")}s`));
    expect(reason(read({ ...requestOf("submit"), annotations }))).not.toBe("");
  });
});

describe("bad pickles", () => {
  const quick = (what: OpenGraphRequest): string => {
    const start = performance.now();
    const found = reason(read(what));
    expect(performance.now() - start).toBeLessThan(5_000);
    return found;
  };

  it("gives up on data of exponentially many parts", () => {
    const dict = (key: string, value: string): Buffer => expression(`}${key}${value}s`);
    expect(quick(request(dict(bomb(60, 0), int(1)), ["x"]))).not.toBe("");
    // a tuple that is a task needs a node in it: here the key of another
    const task = `${global("operator", "neg")}${text("y")}\x86\x94`;
    let nested = task;
    for (let i = 0; i < 60; i++) nested += `h${String.fromCharCode(i)}\x86\x94`;
    expect(quick(request(expression(`}${text("y")}${int(1)}s${text("x")}${nested}s`), ["x"]))).not.toBe("");
    const annotations = pickled(pickle(`}${text("a")}${bomb(60, 0)}s`));
    expect(quick({ ...requestOf("submit"), annotations })).not.toBe("");
  });

  it("writes shared data once", () => {
    const reading = read(request(expression(`}${text("x")}${bomb(60, 0)}s`), ["x"]));
    // as a value that may hold keys it has too many places
    expect(reason(reading)).not.toBe("");
    const hidden = `}${text("in")}${bomb(60, 0)}s`;
    const inDict = read(request(expression(`}${text("x")}${hidden}s`), ["x"]));
    if (!("graph" in inDict)) throw new Error(inDict.notKnown);
    expect(inDict.graph.runSpecs[0]!.nbytes).toBeLessThan(1_000);
  });

  it("gives up on what nests too deep, or holds itself", () => {
    const deep = `${int(1)}${"\x85".repeat(200_000)}`;
    expect(quick(request(expression(`}${text("x")}${deep}s`), ["x"]))).not.toBe("");
    expect(quick(request(expression(`}${text("x")}]\x94h\0as`), ["x"]))).toContain("cycle");
    // a call whose arguments hold the call
    const call = `]\x94${global("builtins", "range")}h\0\x85R\x94ah\x01`;
    expect(quick(request(expression(`}${text("x")}}${int(1)}${call}ss`), ["x"]))).toBeTypeOf("string");
  });

  it("gives up on sizes beyond the end, and on every beginning of a pickle", () => {
    expect(quick(request(pickle("\x8d\xff\xff\xff\xff\xff\xff\xff\x7f"), []))).not.toBe("");
    expect(quick(request(pickle("B\xff\xff\xff\xff"), []))).not.toBe("");
    expect(quick(request(pickle("\x95\xff\xff\xff\x00\x00\x00\x00\x00N"), []))).not.toBe("");
    const whole = (recorded.get("tasks")!["frames"] as Buffer[])[0]!;
    for (let end = 0; end < whole.length; end++) {
      expect(quick(requestOf("tasks", [whole.subarray(0, end)]))).not.toBe("");
    }
  });

  it("survives bytes changed at random", () => {
    let state = 12345;
    const random = (n: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * n);
    };
    const rounds = Number(process.env["DASK_TS_FUZZ"] ?? 4_000);
    const names = [...recorded.keys()];
    let native = 0;
    let longest = 0;
    const before = process.memoryUsage().rss;
    const pickles = new GraphPickles(new KnownGlobals());
    for (let round = 0; round < rounds; round++) {
      const name = names[random(names.length)]!;
      const [first, ...rest] = recorded.get(name)!["frames"] as Buffer[];
      let bytes = Buffer.from(first!);
      for (let i = random(4); i >= 0; i--) {
        const at = random(bytes.length);
        const kind = random(4);
        if (kind === 0) bytes[at] = random(256);
        else if (kind === 1) bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 1 + random(8))]);
        else if (kind === 2) {
          const from = random(bytes.length);
          bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(from, from + random(40)), bytes.subarray(at)]);
        } else bytes[at] = "(.0125abehjstuRN\x81\x85\x86\x87\x88\x8c\x91\x93\x94\x97\x98".charCodeAt(random(27));
        if (bytes.length === 0) break;
      }
      const start = performance.now();
      const reading = readLearned(pickles, requestOf(name, [bytes, ...rest]));
      longest = Math.max(longest, performance.now() - start);
      if ("graph" in reading) native++;
    }
    expect(native).toBeGreaterThan(0);
    expect(longest).toBeLessThan(2_000);
    expect(process.memoryUsage().rss - before).toBeLessThan(300 * 2 ** 20);
  });
});
