/** Graphs of other releases of Python and distributed, recorded with what their own scheduler made of them. */
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  decode,
  decodeSubHeader,
  encode,
  findPython,
  type Key,
  keyId,
  type Message,
  Serialized,
  type Value,
} from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import type { Graph } from "../../src/core/graph.ts";
import { GraphPickles, KnownGlobals } from "../../src/graph-reader/index.ts";
import { here, readLearned } from "./differential.ts";

const folder = join(here, "../fixtures/graphs");
const files = readdirSync(folder).filter((name) => name.endsWith(".msgpack"));

/** What the run_specs give, in this Python; tasks that depend on others outside are left out. */
function values(python: string, graphs: readonly Graph[]): Value[][][] {
  const script = `
import sys, msgpack, pickle
out = []
for specs in msgpack.unpackb(sys.stdin.buffer.read()):
    nodes = [pickle.loads(s, buffers=b) for s, b in specs]
    values, left = {}, nodes
    while ready := [n for n in left if n.dependencies <= values.keys()]:
        for n in ready:
            values[n.key] = n({d: values[d] for d in n.dependencies})
        left = [n for n in left if n.key not in values]
    out.append([[k, repr(v)] for k, v in values.items()])
sys.stdout.buffer.write(msgpack.packb(out))
`;
  const specs = graphs.map((graph) =>
    graph.runSpecs.map((spec) => [decodeSubHeader(spec.header).get("pickled-obj") as Uint8Array, [...spec.frames]]),
  );
  return decode(execFileSync(python, ["-c", script], { input: encode(specs) })) as Value[][][];
}

const recorded = files.map((file) => ({
  file,
  graphs: (decode(readFileSync(join(folder, file))) as unknown as Message[]).map((fields) => ({
    name: String(fields["name"]),
    tasks: fields["tasks"] as Value[][],
    reading: readLearned(new GraphPickles(new KnownGlobals()), {
      exprSer: new Serialized(fields["header"] as Uint8Array, fields["frames"] as Uint8Array[]),
      keys: fields["keys"] as Key[],
    }),
  })),
}));

describe.each(recorded)("$file", ({ graphs }) => {
  it.each(graphs)("$name", ({ tasks, reading }) => {
    if (!("graph" in reading)) throw new Error(reading.notKnown);
    const { graph } = reading;
    const idOf = (n: number): string => graph.ids[n] ?? graph.externalIds[n - graph.ids.length]!;
    const found = graph.ids.map((id, i) => [id, graph.dependencies[i]!.map(idOf).toSorted(), graph.flags[i] === 1]);
    const expected = tasks.map(([key, dependencies, producer]) => [
      keyId(key),
      (dependencies as Value[]).map(keyId).toSorted(),
      producer,
    ]);
    expect(new Map(found.map((task) => [task[0], task]))).toEqual(new Map(expected.map((task) => [task[0], task])));
  });
});

/** Code is pickled by value in these: another release of Python cannot open it. */
const BY_VALUE = /by-value|class|closure|map-keywords|tasks|legacy/;

it("the run_specs compute what they did", async () => {
  const { path, version } = await findPython();
  const own = `py${version.split(".").slice(0, 2).join(".")}.msgpack`;
  const openable = recorded.flatMap(({ file, graphs }) =>
    graphs.filter(({ name }) => file.endsWith(own) || !BY_VALUE.test(name)).map((graph) => ({ ...graph, file })),
  );
  const found = values(
    path,
    openable.map(({ reading }) => ("graph" in reading ? reading.graph : undefined)!),
  );
  openable.forEach(({ file, name, tasks }, i) => {
    const shown = new Map(found[i]!.map(([key, value]) => [keyId(key), value]));
    for (const [key, , , value] of tasks) {
      // a task that needs others from outside was not computed; an address is another one each time
      if (value !== "None" && !String(value).includes(" at 0x")) {
        expect([file, name, key, shown.get(keyId(key))]).toEqual([file, name, key, value]);
      }
    }
  });
});
