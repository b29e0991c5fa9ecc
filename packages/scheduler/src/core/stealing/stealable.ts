/**
 * Which tasks could be stolen from each worker, by how much the move would cost against what it would gain
 * (WorkStealing.stealable). Entering and leaving is a push and a swap: this is on the way of every task.
 */
import type { SchedulerState } from "../state.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";

/** Levels of stealable tasks: 0 without dependencies, then by the power of two of transfer time over compute time. */
export const STEAL_LEVELS = 15;

/** WorkStealing.cost_multipliers: the names of the levels in metrics. */
export const COST_MULTIPLIERS: readonly number[] = Array.from({ length: STEAL_LEVELS }, (_, level) =>
  level === 0 ? 1 : 1 + 2 ** (level - 6),
);

/** Seconds that a steal costs in messages; high, as not to move small tasks (stealing.LATENCY). */
const LATENCY = 0.1;

/** Prefixes with a preset duration up to this are never worth a move, seconds (stealing.fast_tasks). */
const FAST_TASK = 0.001;

/** `ts.stealSlot` is `index × SLOT_LEVELS + level`. */
const SLOT_LEVELS = 16;

/** stealing.fast_tasks. */
export function fastPrefixes(durations: ReadonlyMap<string, number>): Set<string> {
  const fast = new Set<string>();
  for (const [prefix, seconds] of durations) if (seconds <= FAST_TASK) fast.add(prefix);
  return fast;
}

/** WorkStealing.steal_time_ratio: the level of a processing task; -1 where it is not to be stolen. */
export function stealLevel(state: SchedulerState, ts: TaskState, fast: ReadonlySet<string>): number {
  const { prefix } = ts.group;
  if (fast.has(prefix.name)) return -1;
  const dependencies = ts.dependencies.items;
  if (dependencies.length === 0) return 0;
  const compute = prefix.estimate;
  if (!(compute > 0)) return -1;
  let nbytes = 0;
  for (let i = 0; i < dependencies.length; i++) nbytes += state.nbytesOf(dependencies[i] as TaskState);
  const level = roundHalfEven(Math.log2((nbytes / state.bandwidth + LATENCY) / compute) + 6);
  if (level < 1) return 1;
  return level < STEAL_LEVELS ? level : -1;
}

/** Python's round(). */
function roundHalfEven(x: number): number {
  const rounded = Math.round(x);
  return rounded - x === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/**
 * The stealable tasks of one worker and level: the first `size` items. The array is not cut when tasks leave: most come
 * and go one by one, and an array that shrinks to nothing reserves its room anew each time.
 */
export class StealableTasks {
  items: (TaskState | null)[] = [];
  size = 0;
}

/** An empty list from this length on gives its room back. */
const MUCH_ROOM = 256;

export function newStealable(): readonly StealableTasks[] {
  return Array.from({ length: STEAL_LEVELS }, () => new StealableTasks());
}

/** Puts a task among those that may be stolen from the worker that processes it. It must not be there already. */
export function addStealable(ws: WorkerState, ts: TaskState, level: number): void {
  const tasks = ws.stealable[level] as StealableTasks;
  ts.stealSlot = tasks.size * SLOT_LEVELS + level;
  tasks.items[tasks.size++] = ts;
}

/** WorkStealing.remove_key_from_stealable; the task may be absent. The last task of its level takes its place. */
export function removeStealable(ws: WorkerState, ts: TaskState): void {
  const slot = ts.stealSlot;
  if (slot < 0) return;
  ts.stealSlot = -1;
  const tasks = ws.stealable[slot & (SLOT_LEVELS - 1)] as StealableTasks;
  const { items } = tasks;
  const index = --tasks.size;
  const last = items[index] as TaskState;
  items[index] = null;
  if (index === 0 && items.length >= MUCH_ROOM) tasks.items = [];
  if (last === ts) return;
  items[slot >> 4] = last;
  last.stealSlot = slot;
}

/** @throws {Error} by way of `check` where tasks and lists disagree. */
export function checkStealable(ws: WorkerState, check: (condition: boolean, text: string) => void): void {
  ws.stealable.forEach((tasks, level) => {
    for (let index = 0; index < tasks.size; index++) {
      const ts = tasks.items[index] as TaskState;
      check(ts.stealSlot === index * SLOT_LEVELS + level, `${ws.address}: ${ts.id} has a wrong slot`);
      check(ts.processingOn === ws, `${ws.address}: stealable ${ts.id} is elsewhere`);
      check(!ws.longRunning.has(ts), `${ws.address}: stealable ${ts.id} is long-running`);
    }
    check(
      tasks.items.slice(tasks.size).every((item) => item === null),
      `${ws.address}: holds tasks that have left`,
    );
  });
}
