/** One compute or persist call (distributed.scheduler.Computation). */
import type { Value } from "@dask-ts/protocol";
import type { SchedulerState } from "./state.ts";
import type { TaskGroup } from "./task-group.ts";
import { noTasks, STATE_COUNT } from "./task-status.ts";

/** Snippets of one submission: arrays (code, lineno_frame, lineno_relative, filename), outermost frame first. */
export type Code = readonly Value[];

export class Computation {
  /** In the form of a UUID; made of the time and a count, as the core draws no random numbers. */
  readonly id: string;
  /** Seconds. */
  readonly start: number;
  readonly groups: Set<TaskGroup> = new Set();
  readonly annotations: Map<Value, Value> = new Map();
  private readonly snippets: Map<string, Code> = new Map();

  constructor(start: number, number: number) {
    this.start = start;
    this.id = timeId(start, number);
  }

  /** The same code again changes nothing. */
  addCode(code: Code): void {
    const id = codeId(code);
    if (!this.snippets.has(id)) this.snippets.set(id, code);
  }

  /** The different snippets, sorted as Python sorts tuples. */
  get code(): readonly Code[] {
    return [...this.snippets.values()].sort(compareValues);
  }

  /** When the last task finished, seconds; -1 before there are any. */
  get stop(): number {
    let stop = -1;
    for (const group of this.groups) stop = Math.max(stop, group.stop);
    return stop;
  }

  /** Number of tasks in each state, by code. */
  get states(): number[] {
    return sumStates(this.groups);
  }
}

/**
 * The computation that new tasks belong to: the last one while anything is under way, else a new one
 * (Scheduler._create_taskstate_from_graph).
 */
export function currentComputation(state: SchedulerState, maxHistory: number, now: number): Computation {
  const { computations } = state;
  const last = computations[computations.length - 1];
  if (last !== undefined && !state.isIdle) return last;
  const computation = new Computation(now, ++state.computationsAdded);
  computations.push(computation);
  if (computations.length > maxHistory) computations.shift();
  return computation;
}

/** Number of tasks in each state, by code, over all groups. */
export function sumStates(groups: Iterable<TaskGroup>): number[] {
  const sums = noTasks();
  for (const group of groups) {
    for (let code = 0; code < STATE_COUNT; code++) sums[code] = (sums[code] as number) + (group.states[code] as number);
  }
  return sums;
}

/** Equal for equal code. */
export function codeId(code: Code): string {
  return JSON.stringify(code, (_name, value: unknown) =>
    typeof value === "bigint" ? `${value}` : value instanceof Map ? [...(value as Map<unknown, unknown>)] : value,
  );
}

/** Python's order of texts, numbers and tuples of them; what else there is counts as equal. */
function compareValues(a: Value, b: Value): number {
  if (typeof a === "string" && typeof b === "string") return a < b ? -1 : a > b ? 1 : 0;
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (!Array.isArray(a) || !Array.isArray(b)) return 0;
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const difference = compareValues(a[i] as Value, b[i] as Value);
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}

/** Milliseconds and count in the places that version 8 leaves to its maker. */
function timeId(seconds: number, number: number): string {
  const time = Math.floor(seconds * 1000)
    .toString(16)
    .padStart(12, "0");
  const count = number.toString(16).padStart(12, "0");
  return `${time.slice(0, 8)}-${time.slice(8, 12)}-8000-8000-${count}`;
}
