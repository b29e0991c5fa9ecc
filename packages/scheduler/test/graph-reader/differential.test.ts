import { spawn } from "node:child_process";
import { join } from "node:path";
import { findPython } from "@dask-ts/protocol";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { GraphHost } from "../../src/graph-host/graph-host.ts";
import { GraphPickles, KnownGlobals } from "../../src/graph-reader/index.ts";
import { compare, type Counts, graphRecord, here, lengthPrefixed, RunSpecComparison } from "./differential.ts";

/** DASK_TS_GRAPHS=10000 for all of them. */
const COUNT = Number(process.env["DASK_TS_GRAPHS"] ?? 600);
const SEED = Number(process.env["DASK_TS_GRAPHS_SEED"] ?? 1);

let python = "";
let host: GraphHost;
let comparison: RunSpecComparison;

beforeAll(async () => {
  python = (await findPython()).path;
  const env = { ...process.env, PYTHONPATH: here };
  host = await GraphHost.start({ python, env });
  comparison = new RunSpecComparison(python);
});
afterAll(async () => {
  comparison?.close();
  await host?.close();
});

async function compareAll(seed: number, count: number): Promise<Counts> {
  const counts: Counts = { native: 0, host: 0, reasons: new Map(), problems: [] };
  const generator = spawn(python, [join(here, "generate_graphs.py"), String(seed), String(count)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const pickles = new GraphPickles(new KnownGlobals());
  for await (const bytes of lengthPrefixed(generator.stdout)) {
    await compare(graphRecord(bytes), host, pickles, comparison, counts);
  }
  return counts;
}

describe("against the graph host", () => {
  it(`reads ${COUNT} generated graphs the same`, { timeout: 60_000 + 300 * COUNT }, async () => {
    const counts = await compareAll(SEED, COUNT);
    if (process.env["DASK_TS_GRAPHS"] !== undefined) console.log(counts);
    expect(counts.problems).toEqual([]);
    expect(counts.native + counts.host).toBe(COUNT);
    expect(counts.native).toBeGreaterThan(0.5 * COUNT);
  });

  // 263: Ellipsis in a tuple is no call. 102293: a shared function and a large bytearray in several tasks.
  it.each([263, 102293])("reads graph %i the same", { timeout: 60_000 }, async (seed) => {
    expect((await compareAll(seed, 1)).problems).toEqual([]);
  });
});
