/** Which end of a graph `order` works towards next. */
import { MAX_ROOTS, type OrderGraph } from "./order-graph.ts";

/** Leaves that are taken in between two yields. */
const LEAVES_PER_YIELD = 2000;

/** @param ascending the leaves, lightest first. */
export function* targetQueue(
  graph: OrderGraph,
  ascending: readonly number[],
): Generator<undefined, TargetQueue, unknown> {
  const queue = new TargetQueue(graph, ascending);
  const most = TargetQueue.mostRoots(graph, ascending);
  for (let position = 0; position < ascending.length; position++) {
    if (position % LEAVES_PER_YIELD === LEAVES_PER_YIELD - 1) yield;
    queue.add(graph, position, most);
  }
  return queue;
}

/**
 * The leaves, first those that need the fewest roots that have no rank yet; of these first the ones that touch what has
 * been done; then by weight. Entries are numbers made of these three, stale ones are passed over.
 */
export class TargetQueue {
  readonly #leaves: readonly number[];
  /** Position in `leaves` for each task, -1 for no leaf. */
  readonly #position: Int32Array;
  /** Roots still needed, by position; 0: reached without further roots, not a target. */
  readonly #degree: Int32Array;
  readonly #reached: Uint8Array;
  readonly #heap: number[] = [];
  /** Positions of the leaves above each root. */
  readonly #above: (number[] | undefined)[];

  constructor(graph: OrderGraph, ascending: readonly number[]) {
    this.#leaves = ascending;
    this.#position = new Int32Array(graph.size).fill(-1);
    this.#degree = new Int32Array(ascending.length);
    this.#reached = new Uint8Array(ascending.length);
    this.#above = Array.from({ length: graph.size }, () => undefined);
  }

  /** Takes in a leaf by its position; `most` is of `mostRoots`. */
  add(graph: OrderGraph, position: number, most: number): void {
    const leaf = this.#leaves[position] as number;
    if (graph.dependencyCount(leaf) === 0) return;
    this.#position[leaf] = position;
    this.#degree[position] = graph.rootCount(leaf);
    const roots = graph.rootsOf(leaf);
    this.#push(position);
    // Where there are too many the degree stays what it was.
    if (roots === null || roots.length > most) return;
    for (const root of roots) {
      const above = this.#above[root];
      if (above === undefined) this.#above[root] = [position];
      else above.push(position);
    }
  }

  /** So many roots may a leaf have whose degree is kept up to date: updates must not cost more than the graph is worth. */
  static mostRoots(graph: OrderGraph, leaves: readonly number[]): number {
    for (let most = MAX_ROOTS; most > 1; most >>= 1) {
      let updates = 0;
      for (const leaf of leaves) {
        const n = graph.rootsOf(leaf)?.length ?? 0;
        if (n <= most) updates += n;
      }
      if (updates <= 4 * graph.size) return most;
    }
    return 1;
  }

  rootDone(root: number): void {
    for (const position of this.#above[root] ?? []) {
      const degree = (this.#degree[position] as number) - 1;
      this.#degree[position] = degree;
      if (degree > 0) this.#push(position);
    }
    this.#above[root] = undefined;
  }

  /** A dependency of the task has a rank. */
  reached(task: number): void {
    const position = this.#position[task] as number;
    if (position < 0) return;
    this.#reached[position] = 1;
    if ((this.#degree[position] as number) > 0) this.#push(position);
  }

  /** The first leaf, -1 for none. */
  peek(ranks: Int32Array): number {
    const heap = this.#heap;
    for (;;) {
      const key = heap[0];
      if (key === undefined) return -1;
      const position = key % this.#leaves.length;
      const leaf = this.#leaves[position] as number;
      if (ranks[leaf] === -1 && (this.#degree[position] as number) > 0 && key === this.#key(position)) return leaf;
      this.#removeTop();
    }
  }

  #key(position: number): number {
    const degree = this.#degree[position] as number;
    return (degree * 2 + 1 - (this.#reached[position] as number)) * this.#leaves.length + position;
  }

  #push(position: number): void {
    const heap = this.#heap;
    const key = this.#key(position);
    let at = heap.length;
    heap.push(key);
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if ((heap[parent] as number) <= key) break;
      heap[at] = heap[parent] as number;
      at = parent;
    }
    heap[at] = key;
  }

  #removeTop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && (heap[child + 1] as number) < (heap[child] as number)) child++;
      if (last <= (heap[child] as number)) break;
      heap[at] = heap[child] as number;
      at = child;
    }
    heap[at] = last;
  }
}
