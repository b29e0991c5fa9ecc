/** Graphs for the core's benchmarks: N independent tasks, a binary reduction, chains. */
import { type Key, Pickled } from "@dask-ts/protocol";
import type { Graph } from "@dask-ts/scheduler/internal";

export type Shape = "map" | "tree" | "chains";

export interface BenchGraph {
  readonly graph: Graph;
  readonly keys: Key[];
}

const CHAIN = 100;
const NO_DEPENDENCIES: readonly number[] = [];
const NO_FRAMES: readonly Uint8Array[] = [];

/** @param bytes size of each run_spec. */
export function benchGraph(shape: Shape, n: number, prefix: string, bytes: number): BenchGraph {
  const ids: string[] = [];
  const dependencies: (readonly number[])[] = [];
  const wanted: string[] = [];
  const add = (name: string, list: readonly number[]): number => {
    ids.push(`${name}-${prefix}${ids.length.toString(16).padStart(24, "0")}`);
    return dependencies.push(list) - 1;
  };
  if (shape === "map") {
    for (let i = 0; i < n; i++) add("inc", NO_DEPENDENCIES);
    for (const id of ids) wanted.push(id);
  } else if (shape === "tree") {
    let level: number[] = [];
    for (let i = 0; i < Math.ceil(n / 2); i++) level.push(add("load", NO_DEPENDENCIES));
    while (level.length > 1) {
      const next: number[] = [];
      for (let i = 0; i < level.length; i += 2) {
        const left = level[i] as number;
        const right = level[i + 1];
        next.push(add("sum", right === undefined ? [left] : [left, right]));
      }
      level = next;
    }
    wanted.push(ids[ids.length - 1] as string);
  } else {
    for (let i = 0; i < n; i++) {
      add("step", i % CHAIN === 0 ? NO_DEPENDENCIES : [i - 1]);
      if (i % CHAIN === CHAIN - 1 || i === n - 1) wanted.push(ids[i] as string);
    }
  }
  // As received: views into one large frame.
  const frame = new Uint8Array(ids.length * bytes);
  const graph: Graph = {
    keys: ids,
    ids,
    dependencies,
    externalKeys: [],
    externalIds: [],
    runSpecs: ids.map((_, i) => new Pickled(frame.subarray(i * bytes, (i + 1) * bytes), NO_FRAMES)),
    flags: new Uint8Array(ids.length),
    annotationSets: [],
    annotationOf: undefined,
    code: [],
    spanMetadata: new Map(),
  };
  return { graph, keys: wanted };
}
