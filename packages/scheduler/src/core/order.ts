/**
 * A rank for each task of a graph: smaller runs first. The goals and the strategy are those of `dask.order.order`: run so
 * that few results are held at any time. A target is chosen among the ends of the graph, the one that needs the fewest
 * further roots; the path to it is walked back to what can run; on the way, what has become runnable beside it is run as
 * far as the next reduction, where that frees more than it takes.
 */
import { type OrderGraph, orderGraph } from "./order-graph.ts";
import { type TargetQueue, targetQueue } from "./order-targets.ts";

/** Tasks that are ranked, or looked at on the way to a rank, between two yields: one or two milliseconds. */
const TASKS_PER_YIELD = 2000;

/**
 * Yields often enough that a graph of a million tasks can be ranked between heartbeats.
 *
 * @param dependencies for each task the numbers of its dependencies; numbers that are no task are passed over.
 * @returns for each task its rank, a permutation of 0 … n-1 in which dependencies come before their dependents. Where the
 * graph has a cycle the ranks are complete, and right for the tasks outside it.
 */
export function* order(dependencies: readonly (readonly number[])[]): Generator<undefined, Int32Array, unknown> {
  const graph = yield* orderGraph(dependencies);
  if (!graph.acyclic) return depthFirst(graph);
  const ascending = yield* graph.sortedLeaves();
  const leaves = (yield* graph.symmetric()) ? ascending : [...ascending].reverse();
  const targets = yield* targetQueue(graph, ascending);
  return yield* new Ordering(graph, leaves, targets).run();
}

/** A way through runnable tasks; the tasks before it are found along `before`. */
interface Path {
  readonly task: number;
  readonly before: Path | null;
}

/** What can be reached through paths that split: number of splits so far, and the path. */
interface Branch {
  readonly splits: number;
  readonly path: Path;
}

class Ordering {
  readonly #graph: OrderGraph;
  readonly #ranks: Int32Array;
  #next = 0;
  /** Dependencies without rank. */
  readonly #needed: Int32Array;
  /** Tasks that were seen to be reachable without further roots (`runnable_hull`). */
  readonly #inRunnableHull: Uint8Array;
  /** Tasks without rank that have a dependency with one (`reachable_hull`), and their number. */
  readonly #inReachableHull: Uint8Array;
  #reachable = 0;
  /** Working space of `add`. */
  readonly #stack: number[] = [];
  /** Tasks that have become runnable and were not looked at yet; those being looked at; and the ways from the last of these. */
  #runnable: number[] = [];
  #candidates: number[] = [];
  #branches: Branch[] = [];
  #nextBranch = 0;
  /** The critical path: what comes next is popped. Whether the walk along it has had to turn back. */
  readonly #path: number[] = [];
  #walkedBack = false;
  /** Tasks that may still be looked at before the next yield. */
  #budget = TASKS_PER_YIELD;
  /** Paths that end at a reduction which needs more than they give, by that reduction. */
  readonly #knownPaths: Map<number, Path[]> = new Map();
  /** The last one comes first. */
  readonly #leaves: readonly number[];
  #leavesLeft: number;
  readonly #targets: TargetQueue;

  /** @param leaves ascending or descending: the last one is the first target. */
  constructor(graph: OrderGraph, leaves: readonly number[], targets: TargetQueue) {
    this.#graph = graph;
    const n = graph.size;
    this.#ranks = new Int32Array(n).fill(-1);
    this.#needed = new Int32Array(n);
    for (let task = 0; task < n; task++) this.#needed[task] = graph.dependencyCount(task);
    this.#inRunnableHull = new Uint8Array(n);
    this.#inReachableHull = new Uint8Array(n);
    this.#targets = targets;
    this.#leaves = leaves;
    this.#leavesLeft = leaves.length;
  }

  *run(): Generator<undefined, Int32Array, unknown> {
    const n = this.#graph.size;
    while (this.#next < n) {
      this.#buildCriticalPath(this.#target());
      this.#walkedBack = false;
      while (!this.#walk()) yield* this.#pause();
      while (!this.#processRunnables()) yield* this.#pause();
    }
    return this.#ranks;
  }

  *#pause(): Generator<undefined, void, unknown> {
    yield;
    this.#budget = TASKS_PER_YIELD;
  }

  #done(task: number): boolean {
    return (this.#ranks[task] as number) >= 0;
  }

  /** The next end to work towards (`get_target`). */
  #target(): number {
    if (this.#reachable > 0) {
      const target = this.#targets.peek(this.#ranks);
      if (target >= 0) return target;
    }
    for (;;) {
      const leaf = this.#leaves[--this.#leavesLeft] as number;
      if (!this.#done(leaf)) return leaf;
    }
  }

  /** From the target back to something that can run, along the weightiest dependencies. */
  #buildCriticalPath(target: number): void {
    const graph = this.#graph;
    const path = this.#path;
    path.push(target);
    let at = target;
    for (;;) {
      let weightiest = -1;
      const end = graph.dependencyEnd(at);
      for (let i = graph.dependencyStart(at); i < end; i++) {
        const dependency = graph.dependencyAt(i);
        if (this.#done(dependency)) continue;
        if (at !== target) path.push(dependency);
        if (weightiest < 0 || graph.compare(dependency, weightiest) > 0) weightiest = dependency;
      }
      if (weightiest < 0) return;
      path.push(weightiest);
      at = weightiest;
    }
  }

  /** Ranks the tasks of the critical path, walking back to what they need. @returns false where the budget ended first. */
  #walk(): boolean {
    const graph = this.#graph;
    const path = this.#path;
    // What it was in the midst of comes first.
    if (this.#nextBranch < this.#branches.length || this.#candidates.length > 0) {
      if (!this.#processRunnables()) return false;
    }
    while (path.length > 0) {
      if (--this.#budget < 0) return false;
      const task = path.pop() as number;
      if (this.#done(task)) continue;
      if (this.#needed[task] === 0) {
        if (this.#walkedBack && this.#runnable.length < path.length && !this.#processRunnables()) {
          path.push(task);
          return false;
        }
        this.#add(task);
        continue;
      }
      path.push(task);
      const open: number[] = [];
      const end = graph.dependencyEnd(task);
      for (let i = graph.dependencyStart(task); i < end; i++) {
        const dependency = graph.dependencyAt(i);
        if (!this.#done(dependency)) open.push(dependency);
      }
      if (open.length > 1) open.sort(graph.compare);
      let unknown = 0;
      for (const dependency of open) {
        if (this.#knownPaths.has(dependency)) continue;
        unknown++;
        path.push(dependency);
      }
      if (unknown > 1) this.#walkedBack = true;
      if (unknown === open.length) continue;
      for (const dependency of open) {
        const known = this.#knownPaths.get(dependency);
        if (known === undefined) continue;
        this.#knownPaths.delete(dependency);
        for (const way of known) this.#pushReversed(way, path);
      }
    }
    return true;
  }

  /** Puts a path on the stack so that its first task comes first. */
  #pushReversed(way: Path, path: number[]): void {
    for (let at: Path | null = way; at !== null && !this.#done(at.task); at = at.before) path.push(at.task);
  }

  /** Gives the next rank to the task, and then to whatever it alone was waited for by (`add_to_result`). */
  #add(first: number): void {
    const graph = this.#graph;
    const stack = this.#stack;
    stack.push(first);
    for (let task = stack.pop(); task !== undefined; task = stack.pop()) {
      if (this.#inReachableHull[task] === 1) {
        this.#inReachableHull[task] = 0;
        this.#reachable--;
      }
      this.#inRunnableHull[task] = 0;
      if (this.#done(task)) continue;
      this.#ranks[task] = this.#next++;
      if (graph.dependencyCount(task) === 0) this.#targets.rootDone(task);
      const start = graph.dependentStart(task);
      const end = graph.dependentEnd(task);
      for (let i = start; i < end; i++) {
        const dependent = graph.dependentAt(i);
        const needed = (this.#needed[dependent] as number) - 1;
        this.#needed[dependent] = needed;
        if (this.#inReachableHull[dependent] === 0) {
          this.#inReachableHull[dependent] = 1;
          this.#reachable++;
          this.#targets.reached(dependent);
        }
        if (needed > 0) continue;
        if (end - start === 1) stack.push(dependent);
        else this.#runnable.push(dependent);
      }
    }
  }

  /** Gives ranks to a path from its first task on. */
  #addPath(path: Path): void {
    const tasks: number[] = [];
    for (let at: Path | null = path; at !== null && !this.#done(at.task); at = at.before) tasks.push(at.task);
    for (let i = tasks.length - 1; i >= 0; i--) this.#add(tasks[i] as number);
  }

  /**
   * Follows what has become runnable up to the next reduction. A way that ends the graph or that completes the reduction is
   * taken; others are remembered until the rest of the reduction comes, or until somebody walks back to it.
   * @returns false where the budget ended first; the next call goes on.
   */
  #processRunnables(): boolean {
    for (;;) {
      while (this.#nextBranch < this.#branches.length) {
        if (--this.#budget < 0) return false;
        this.#follow(this.#branches[this.#nextBranch++] as Branch, this.#branches);
      }
      const task = this.#candidates.pop();
      if (task === undefined) {
        if (this.#runnable.length === 0) return true;
        this.#candidates = this.#runnable;
        this.#runnable = [];
      } else if (this.#inRunnableHull[task] === 1 || this.#done(task)) {
        this.#budget--;
      } else if (this.#graph.dependentCount(task) === 0) {
        this.#budget--;
        this.#add(task);
      } else {
        this.#branches = [{ splits: 0, path: { task, before: null } }];
        this.#nextBranch = 0;
      }
    }
  }

  /** Follows one way to its end, a split (its branches are appended) or a reduction. */
  #follow(branch: Branch, branches: Branch[]): void {
    const graph = this.#graph;
    let { splits, path } = branch;
    for (;;) {
      const current = path.task;
      this.#inRunnableHull[current] = 1;
      const downstream = graph.dependentCount(current);
      if (downstream === 0) {
        if ((this.#needed[current] as number) <= 1) this.#addPath(path);
        else this.#inRunnableHull[current] = 0;
        return;
      }
      if (path.before === null || graph.dependencyCount(current) === 1) {
        const start = graph.dependentStart(current);
        if (downstream === 1) {
          path = { task: graph.dependentAt(start), before: path };
          continue;
        }
        splits++;
        const next: number[] = [];
        for (let i = start; i < start + downstream; i++) {
          const dependent = graph.dependentAt(i);
          // Others are interleaved with what comes from elsewhere.
          if (graph.dependencyCount(dependent) === 1) next.push(dependent);
        }
        next.sort(graph.compare);
        for (const dependent of next) branches.push({ splits, path: { task: dependent, before: path } });
        return;
      }
      this.#arrive(current, splits, path, branches);
      return;
    }
  }

  /** A way has come to a reduction. */
  #arrive(reduction: number, splits: number, path: Path, branches: Branch[]): void {
    const known = this.#knownPaths.get(reduction);
    if (known === undefined) {
      if ((this.#needed[reduction] as number) <= 1) {
        this.#addPath(path);
        return;
      }
      this.#knownPaths.set(reduction, [path]);
      this.#inRunnableHull[reduction] = 0;
      return;
    }
    known.push(path);
    this.#inRunnableHull[reduction] = 0;
    if (known.length < (this.#needed[reduction] as number)) return;
    this.#knownPaths.delete(reduction);
    const open = known.filter(({ before }) => before === null || !this.#done(before.task));
    if (open.length < (this.#needed[reduction] as number)) {
      this.#knownPaths.set(reduction, open);
      return;
    }
    if (splits > 1) {
      // The ways come from a split further up: they go on together as one.
      branches.push({ splits: splits - 1, path: this.#join(open, reduction) });
      return;
    }
    for (const way of open) if (way.before !== null) this.#addPath(way.before);
    if (this.#needed[reduction] === 0) this.#add(reduction);
  }

  /** One path that holds the tasks of all, each once, and ends with the reduction. */
  #join(ways: readonly Path[], reduction: number): Path {
    const seen = new Set<number>([reduction]);
    let joined: Path | null = null;
    for (const way of ways) {
      const tasks: number[] = [];
      for (let at = way.before; at !== null && !this.#done(at.task) && !seen.has(at.task); at = at.before) {
        tasks.push(at.task);
        seen.add(at.task);
      }
      for (let i = tasks.length - 1; i >= 0; i--) joined = { task: tasks[i] as number, before: joined };
    }
    return { task: reduction, before: joined };
  }
}

/** For graphs with a cycle, which are refused later: depth first, so that the ranks are complete. */
function depthFirst(graph: OrderGraph): Int32Array {
  const ranks = new Int32Array(graph.size).fill(-1);
  const entered = new Uint8Array(graph.size);
  const stack: number[] = [];
  let rank = 0;
  for (let start = 0; start < graph.size; start++) {
    stack.push(start);
    for (let task = stack.pop(); task !== undefined; task = stack.pop()) {
      if (ranks[task] !== -1) continue;
      if (entered[task] === 1) {
        ranks[task] = rank++;
        continue;
      }
      entered[task] = 1;
      stack.push(task);
      for (let i = graph.dependencyEnd(task) - 1; i >= graph.dependencyStart(task); i--) {
        const dependency = graph.dependencyAt(i);
        if (ranks[dependency] === -1 && entered[dependency] === 0) stack.push(dependency);
      }
    }
  }
  return ranks;
}
