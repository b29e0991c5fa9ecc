/** Sorting many tasks by priority: one graph's tasks differ by rank only, and ranks are small integers. */
import { mergeSort } from "./merge-sort.ts";
import { comparePriority, type TaskState } from "./task-state.ts";

/** Items of a loop between two yields; each takes up to 100 ns, as the tasks lie all over the memory. */
const ITEMS_PER_YIELD = 10_000;

/** The tasks, most urgent first, with pauses; sorts in place or returns a new array. */
export function* sortByPriority(tasks: TaskState[]): Generator<undefined, readonly TaskState[], unknown> {
  const n = tasks.length;
  if (n < 1000) return tasks.sort(comparePriority);
  const { p0, p1 } = tasks[0] as TaskState;
  let most = 0;
  for (let i = 0; i < n; i++) {
    if (i % ITEMS_PER_YIELD === ITEMS_PER_YIELD - 1) yield;
    const ts = tasks[i] as TaskState;
    if (ts.p0 !== p0 || ts.p1 !== p1 || !Number.isInteger(ts.p2) || ts.p2 < 0) {
      return yield* mergeSort(tasks, comparePriority);
    }
    if (ts.p2 > most) most = ts.p2;
  }
  if (most > 8 * n + 1000) return yield* mergeSort(tasks, comparePriority);
  // Counting sort.
  const starts = new Int32Array(most + 2);
  for (let i = 0; i < n; i++) {
    if (i % ITEMS_PER_YIELD === ITEMS_PER_YIELD - 1) yield;
    const rank = (tasks[i] as TaskState).p2 + 1;
    starts[rank] = (starts[rank] as number) + 1;
  }
  for (let rank = 0; rank <= most; rank++) starts[rank + 1] = (starts[rank + 1] as number) + (starts[rank] as number);
  const sorted = tasks.slice();
  for (let i = 0; i < n; i++) {
    if (i % ITEMS_PER_YIELD === ITEMS_PER_YIELD - 1) yield;
    const ts = tasks[i] as TaskState;
    const place = starts[ts.p2] as number;
    starts[ts.p2] = place + 1;
    sorted[place] = ts;
  }
  return sorted;
}
