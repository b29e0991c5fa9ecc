/** Ranks must be an order of the graph, and one in which few results are held at a time: as few as in Dask's own. */
import { readFileSync } from "node:fs";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { mergeSort } from "../../src/core/merge-sort.ts";
import { order as orderInSteps } from "../../src/core/order.ts";

type Graph = readonly (readonly number[])[];

function inOneGo<T>(steps: Generator<undefined, T, unknown>): { readonly value: T; readonly yields: number } {
  let yields = 0;
  let step = steps.next();
  for (; !step.done; step = steps.next()) yields++;
  return { value: step.value, yields };
}

function order(dependencies: Graph): Int32Array {
  return inOneGo(orderInSteps(dependencies)).value;
}

function tasksInOrder(dependencies: Graph, ranks: Int32Array): number[] {
  const tasks: number[] = Array.from(dependencies, () => -1);
  ranks.forEach((rank, task) => {
    tasks[rank] = task;
  });
  return tasks;
}

function check(dependencies: Graph): Int32Array {
  const ranks = order(dependencies);
  expect(ranks.length).toBe(dependencies.length);
  expect(tasksInOrder(dependencies, ranks).includes(-1)).toBe(false);
  let wrong = 0;
  dependencies.forEach((list, task) => {
    for (const d of list) if (d < dependencies.length && (ranks[d] as number) >= (ranks[task] as number)) wrong++;
  });
  expect(wrong).toBe(0);
  return ranks;
}

/** The most results held at a time, when each is dropped as soon as all its dependents have run. */
function pressure(dependencies: Graph, ranks: Int32Array): number {
  const left = new Int32Array(dependencies.length);
  for (const list of dependencies) for (const d of list) left[d] = (left[d] as number) + 1;
  let live = 0;
  let most = 0;
  for (const task of tasksInOrder(dependencies, ranks)) {
    most = Math.max(most, ++live);
    if (left[task] === 0) live--;
    for (const d of dependencies[task] as readonly number[]) {
      left[d] = (left[d] as number) - 1;
      if (left[d] === 0) live--;
    }
  }
  return most;
}

describe("against dask.order (record_order.py)", () => {
  const graphs = JSON.parse(readFileSync(new URL("./fixtures/order.json", import.meta.url), "utf8")) as readonly {
    readonly name: string;
    readonly dependencies: Graph;
    readonly most: number;
  }[];

  test.each(graphs.map((graph) => [graph.name, graph] as const))("%s", (_, { dependencies, most }) => {
    expect(pressure(dependencies, check(dependencies))).toBeLessThanOrEqual(Math.ceil(1.25 * most) + 1);
  });

  test("on average", () => {
    let sum = 0;
    for (const { dependencies, most } of graphs) sum += pressure(dependencies, order(dependencies)) / most;
    expect(sum / graphs.length).toBeLessThan(1.05);
  });
});

test("every acyclic graph gets an order", () => {
  const graph = fc.integer({ min: 0, max: 60 }).chain((n) =>
    fc
      .tuple(
        ...Array.from({ length: n }, (_, i) =>
          fc.uniqueArray(fc.nat(Math.max(0, i - 1)), { maxLength: Math.min(i, 5) }),
        ),
      )
      // The numbers of tasks need not follow the dependencies.
      .chain((lists) =>
        fc.shuffledSubarray([...lists.keys()], { minLength: n }).map((at) => {
          const shuffled: number[][] = Array.from({ length: n }, () => []);
          lists.forEach((list, i) => {
            shuffled[at[i] as number] = (i === 0 ? [] : list).map((d) => at[d] as number);
          });
          return shuffled;
        }),
      ),
  );
  fc.assert(
    fc.property(graph, (dependencies) => {
      check(dependencies);
    }),
    { numRuns: 500, seed: 1 },
  );
});

describe("a large graph is ranked in steps", () => {
  const n = 50_000;
  const shapes: readonly (readonly [string, Graph])[] = [
    ["tasks by themselves", Array.from({ length: n }, () => [])],
    ["one root", Array.from({ length: n }, (_, i) => (i === 0 ? [] : [0]))],
    ["pairs", Array.from({ length: n }, (_, i) => (i < n / 2 ? [] : [i - n / 2]))],
    ["a tree", Array.from({ length: n }, (_, i) => [2 * i + 1, 2 * i + 2].filter((d) => d < n))],
    // What is runnable beside the path is looked at in the midst of it.
    ["layers", Array.from({ length: n }, (_, i) => (i < 500 ? [] : [i - 500, i - 1 - (i % 500 === 0 ? 0 : 1)]))],
    [
      "a stencil",
      Array.from({ length: n }, (_, i) => (i < 200 ? [] : [i - 200, i - 199, i - 198].filter((d) => d < i))),
    ],
  ];

  test.each(shapes)("%s", (_, dependencies) => {
    check(dependencies);
    expect(inOneGo(orderInSteps(dependencies)).yields).toBeGreaterThan(n / 2000);
  });
});

test("sorting in steps", () => {
  const byLast = (a: number, b: number) => (a % 1000) - (b % 1000);
  for (const n of [0, 1, 2, 4095, 4096, 4097, 12_288, 20_000]) {
    const values = Array.from({ length: n }, (_, i) => (i * 7919) % 20_011);
    expect(inOneGo(mergeSort(values, byLast)).value).toEqual([...values].sort(byLast));
  }
  const sorted = Array.from({ length: 5000 }, (_, i) => i);
  expect(inOneGo(mergeSort(sorted, (a, b) => a - b)).value).toBe(sorted);
});

test("numbers that are no task are passed over", () => {
  expect([...check([[2, 7], [0, 9], []])]).toEqual([1, 2, 0]);
});

test("nothing at all", () => {
  expect([...order([])]).toEqual([]);
});

test("a graph with a cycle gets ranks for all", () => {
  const ranks = order([[2], [0], [1], [], [3]]);
  expect([...ranks].sort((a, b) => a - b)).toEqual([0, 1, 2, 3, 4]);
  expect(ranks[3] as number).toBeLessThan(ranks[4] as number);
});

test("branches are finished one after the other", () => {
  // Ten chains of five: never more than two results at a time.
  const chains = Array.from({ length: 50 }, (_, i) => (i % 5 === 0 ? [] : [i - 1]));
  expect(pressure(chains, check(chains))).toBe(2);
  // A binary reduction of 2^k inputs holds k + 2.
  const tree: number[][] = Array.from({ length: 64 }, () => []);
  for (let level = [...tree.keys()]; level.length > 1; ) {
    const next: number[] = [];
    for (let i = 0; i < level.length; i += 2) next.push(tree.push(level.slice(i, i + 2)) - 1);
    level = next;
  }
  expect(pressure(tree, check(tree))).toBeLessThanOrEqual(8);
});

test.each([
  ["one chain", (n: number) => Array.from({ length: n }, (_, i) => (i === 0 ? [] : [i - 1]))],
  ["one reduction", (n: number) => Array.from({ length: n }, (_, i) => (i < n - 1 ? [] : [...Array(n - 1).keys()]))],
  ["one source", (n: number) => Array.from({ length: n }, (_, i) => (i === 0 ? [] : [0]))],
  ["no dependencies", (n: number) => Array.from({ length: n }, () => [])],
  ["the same 100 roots for all", (n: number) => Array.from({ length: n }, (_, i) => (i < 100 ? [] : roots100))],
  ["a chain with sides", (n: number) => Array.from({ length: n }, (_, i) => (i === 0 ? [] : [i - 1 - ((i + 1) % 2)]))],
])("large: %s", (_, make) => {
  check(make(60_000));
});

const roots100 = Array.from({ length: 100 }, (_, i) => i);
