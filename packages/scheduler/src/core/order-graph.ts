/** What the ordering of a graph needs to know about it: both directions, weights, and the roots below each task. */
import { mergeSort } from "./merge-sort.ts";

/** Sets of roots larger than this are not kept; then their size is estimated from above. */
export const MAX_ROOTS = 128;

/** Tasks between two yields: in loops of some ten nanoseconds a task, and where sets of roots are made. */
const TASKS_PER_YIELD = 10_000;
const WEIGHED_PER_YIELD = 1000;

type Steps<T> = Generator<undefined, T, unknown>;

/** @param dependencies as `order` takes them. */
export function* orderGraph(dependencies: readonly (readonly number[])[]): Steps<OrderGraph> {
  const graph = new OrderGraph(yield* countEdges(dependencies));
  yield* graph.fill();
  return graph;
}

/** Who depends on whom, in both directions: the neighbours of task i stand from starts[i] to starts[i + 1]. */
interface Edges {
  readonly dependencyStarts: Int32Array;
  readonly dependencies: Int32Array;
  readonly dependentStarts: Int32Array;
  readonly dependents: Int32Array;
}

function* countEdges(lists: readonly (readonly number[])[]): Steps<Edges> {
  const n = lists.length;
  const dependencyStarts = new Int32Array(n + 1);
  const dependentStarts = new Int32Array(n + 1);
  let edges = 0;
  for (let task = 0; task < n; task++) {
    if (task % TASKS_PER_YIELD === TASKS_PER_YIELD - 1) yield;
    for (const dependency of lists[task] as readonly number[]) {
      if (dependency >= n) continue;
      edges++;
      dependentStarts[dependency + 1] = (dependentStarts[dependency + 1] as number) + 1;
    }
    dependencyStarts[task + 1] = edges;
  }
  for (let task = 0; task < n; task++) {
    dependentStarts[task + 1] = (dependentStarts[task + 1] as number) + (dependentStarts[task] as number);
  }
  const dependencies = new Int32Array(edges);
  const dependents = new Int32Array(edges);
  const at = dependentStarts.slice();
  let edge = 0;
  for (let task = 0; task < n; task++) {
    if (task % TASKS_PER_YIELD === TASKS_PER_YIELD - 1) yield;
    for (const dependency of lists[task] as readonly number[]) {
      if (dependency >= n) continue;
      dependencies[edge++] = dependency;
      const place = at[dependency] as number;
      at[dependency] = place + 1;
      dependents[place] = task;
    }
  }
  return { dependencyStarts, dependencies, dependentStarts, dependents };
}

export class OrderGraph {
  readonly size: number;
  readonly #dependencyStarts: Int32Array;
  readonly #dependencies: Int32Array;
  readonly #dependentStarts: Int32Array;
  readonly #dependents: Int32Array;
  /** Tasks that must run for this one, those that are shared counted for each way (`ndependencies`). */
  readonly #totals: Float64Array;
  /** Number of different roots below the task; estimated from above where there are more than MAX_ROOTS. */
  readonly #rootCounts: Float64Array;
  /** The largest number of dependents among the roots below the task. */
  readonly #maxDependents: Int32Array;
  readonly #roots: (readonly number[] | null)[];
  /** The union in which a root was seen last. */
  readonly #seen: Int32Array;
  #mark = 0;
  /** Elements that may still be looked at in building sets of roots; bounds time and memory. */
  #budget: number;
  #acyclic = false;
  /** Tasks without dependents, by number. */
  readonly #leaves: number[] = [];
  #rootTotal = 0;

  /** @param edges both directions, of `countEdges`. The rest is filled in by `fill`. */
  constructor(edges: Edges) {
    const n = edges.dependencyStarts.length - 1;
    this.size = n;
    this.#dependencyStarts = edges.dependencyStarts;
    this.#dependencies = edges.dependencies;
    this.#dependentStarts = edges.dependentStarts;
    this.#dependents = edges.dependents;
    this.#totals = new Float64Array(n);
    this.#rootCounts = new Float64Array(n);
    this.#maxDependents = new Int32Array(n);
    this.#roots = Array.from({ length: n }, () => null);
    this.#seen = new Int32Array(n);
    this.#budget = 100_000 + 16 * n;
  }

  /** Weighs the tasks. */
  *fill(): Steps<void> {
    const topological = yield* this.#topological();
    this.#acyclic = topological.length === this.size;
    for (let task = 0; task < this.size; task++) {
      if (task % TASKS_PER_YIELD === TASKS_PER_YIELD - 1) yield;
      if (this.dependentCount(task) === 0) this.#leaves.push(task);
      if (this.dependencyCount(task) === 0) this.#rootTotal++;
    }
    for (let i = 0; i < topological.length; i++) {
      if (i % WEIGHED_PER_YIELD === WEIGHED_PER_YIELD - 1) yield;
      this.#weigh(topological[i] as number);
    }
  }

  /** False where the graph has a cycle; then the weights are not complete. */
  get acyclic(): boolean {
    return this.#acyclic;
  }
  dependencyStart(task: number): number {
    return this.#dependencyStarts[task] as number;
  }
  dependencyEnd(task: number): number {
    return this.#dependencyStarts[task + 1] as number;
  }
  dependencyCount(task: number): number {
    return (this.#dependencyStarts[task + 1] as number) - (this.#dependencyStarts[task] as number);
  }
  dependencyAt(i: number): number {
    return this.#dependencies[i] as number;
  }
  dependentStart(task: number): number {
    return this.#dependentStarts[task] as number;
  }
  dependentEnd(task: number): number {
    return this.#dependentStarts[task + 1] as number;
  }
  dependentCount(task: number): number {
    return (this.#dependentStarts[task + 1] as number) - (this.#dependentStarts[task] as number);
  }
  dependentAt(i: number): number {
    return this.#dependents[i] as number;
  }
  rootCount(task: number): number {
    return this.#rootCounts[task] as number;
  }
  /** The roots below a task, null where there are too many; for a root itself. */
  rootsOf(task: number): readonly number[] | null {
    return this.#roots[task] ?? null;
  }

  /** The `sort_key` of the original: weight, number of dependencies, of roots, shared roots, then the given order. */
  readonly compare = (a: number, b: number): number =>
    (this.#totals[a] as number) - (this.#totals[b] as number) ||
    this.dependencyCount(a) - this.dependencyCount(b) ||
    (this.#rootCounts[a] as number) - (this.#rootCounts[b] as number) ||
    (this.#maxDependents[b] as number) - (this.#maxDependents[a] as number) ||
    a - b;

  /** The leaves by weight, lightest first. */
  sortedLeaves(): Steps<readonly number[]> {
    return mergeSort(this.#leaves, this.compare);
  }

  /** Whether to begin with the heaviest leaf (`use_longest_path`): it pays for reductions, and where roots are alike. */
  *symmetric(): Steps<boolean> {
    const roots = this.#rootTotal;
    if (Math.abs(roots - this.#leaves.length) / roots >= 0.8) return true;
    const leavesAbove = new Int32Array(this.size);
    let i = 0;
    for (const leaf of this.#leaves) {
      if (i++ % TASKS_PER_YIELD === 0) yield;
      if (this.dependencyCount(leaf) === 0) continue;
      for (const root of this.rootsOf(leaf) ?? []) leavesAbove[root] = (leavesAbove[root] as number) + 1;
    }
    let first = -1;
    for (let task = 0; task < this.size; task++) {
      if (task % TASKS_PER_YIELD === TASKS_PER_YIELD - 1) yield;
      if (this.dependencyCount(task) > 0) continue;
      const count = leavesAbove[task] as number;
      if (first < 0) first = count;
      else if (first !== count) return false;
    }
    return true;
  }

  /** As many tasks as are not in or behind a cycle, dependencies first. */
  *#topological(): Steps<Int32Array> {
    const needed = new Int32Array(this.size);
    const out = new Int32Array(this.size);
    let length = 0;
    for (let task = 0; task < this.size; task++) {
      if (task % TASKS_PER_YIELD === TASKS_PER_YIELD - 1) yield;
      const count = this.dependencyCount(task);
      needed[task] = count;
      if (count === 0) out[length++] = task;
    }
    for (let i = 0; i < length; i++) {
      if (i % TASKS_PER_YIELD === TASKS_PER_YIELD - 1) yield;
      const task = out[i] as number;
      for (let j = this.dependentStart(task); j < this.dependentEnd(task); j++) {
        const dependent = this.dependentAt(j);
        const left = (needed[dependent] as number) - 1;
        needed[dependent] = left;
        if (left === 0) out[length++] = dependent;
      }
    }
    return out.subarray(0, length);
  }

  /** Fills in the weights of a task whose dependencies have theirs. */
  #weigh(task: number): void {
    const start = this.dependencyStart(task);
    const end = this.dependencyEnd(task);
    if (start === end) {
      this.#totals[task] = 1;
      this.#rootCounts[task] = 0;
      this.#maxDependents[task] = this.dependentCount(task);
      this.#roots[task] = [task];
      return;
    }
    let total = 1;
    let maxDependents = 0;
    for (let i = start; i < end; i++) {
      const dependency = this.dependencyAt(i);
      total += this.#totals[dependency] as number;
      maxDependents = Math.max(maxDependents, this.#maxDependents[dependency] as number);
    }
    // Infinity - Infinity is no order.
    this.#totals[task] = Math.min(total, Number.MAX_VALUE);
    this.#maxDependents[task] = maxDependents;
    const roots = this.#unionOfRoots(start, end);
    this.#roots[task] = roots;
    this.#rootCounts[task] = roots === null ? this.#estimateRoots(start, end) : roots.length;
  }

  /** The different roots below the dependencies; the very list of a dependency where that holds all. Null: too many. */
  #unionOfRoots(start: number, end: number): readonly number[] | null {
    let widest: readonly number[] | null = null;
    for (let i = start; i < end; i++) {
      const roots = this.#roots[this.dependencyAt(i)] ?? null;
      if (roots === null) return null;
      if (widest === null || roots.length > widest.length) widest = roots;
    }
    if (widest === null || end - start === 1) return widest;
    const seen = this.#seen;
    const mark = ++this.#mark;
    for (const root of widest) seen[root] = mark;
    this.#budget -= widest.length;
    let union: number[] | null = null;
    for (let i = start; i < end; i++) {
      const roots = this.#roots[this.dependencyAt(i)] as readonly number[];
      if (roots === widest) continue;
      this.#budget -= roots.length;
      if (this.#budget < 0) return null;
      for (const root of roots) {
        if (seen[root] === mark) continue;
        seen[root] = mark;
        union ??= widest.slice();
        union.push(root);
      }
      if (union !== null && union.length > MAX_ROOTS) return null;
    }
    return union ?? widest;
  }

  #estimateRoots(start: number, end: number): number {
    let sum = 0;
    for (let i = start; i < end; i++) sum += Math.max(1, this.#rootCounts[this.dependencyAt(i)] as number);
    return Math.min(sum, this.#rootTotal);
  }
}
