/** The transitions that are still to be done: last in, first out, one per task. */
import type { ErrorFields } from "./events.ts";
import type { TaskState, TaskStateName } from "./task-state.ts";

/** Where a task should go, with what the transition needs to know (the tuples of the original). */
export type Recommendation =
  | { readonly finish: Exclude<TaskStateName, "memory" | "error" | "flight" | "long-running"> }
  | {
      readonly finish: "memory";
      /** What the executor measured; it holds the value already. */
      readonly nbytes: number;
      readonly type: Uint8Array;
      readonly typename: string;
      readonly runId: number;
    }
  | { readonly finish: "error"; readonly error: ErrorFields; readonly runId: number }
  | { readonly finish: "flight"; readonly worker: string }
  | { readonly finish: "long-running"; readonly computeDuration: number };

export const RELEASED: Recommendation = { finish: "released" };
export const WAITING: Recommendation = { finish: "waiting" };
export const READY: Recommendation = { finish: "ready" };
export const CONSTRAINED: Recommendation = { finish: "constrained" };
export const EXECUTING: Recommendation = { finish: "executing" };
export const FETCH: Recommendation = { finish: "fetch" };
export const MISSING: Recommendation = { finish: "missing" };
export const RESCHEDULED: Recommendation = { finish: "rescheduled" };
export const FORGOTTEN: Recommendation = { finish: "forgotten" };

/**
 * A Python dict that is filled by assignment and worked off by `popitem()`: a new recommendation for a task that has one
 * replaces it in its place. Transitions write here directly, which has the effect of `recs.update(a_recs)`; where the
 * original would raise RecommendationsConflict inside one transition, the later recommendation wins.
 */
export class Recommendations {
  /** A value that has come is not taken: another recommendation stands in the place of `memory`. */
  readonly #discard: (ts: TaskState) => void;
  readonly #tasks: (TaskState | undefined)[] = [];
  readonly #recommendations: (Recommendation | undefined)[] = [];
  /** Every `set` since `resetJournal`, for the log: task, state, task, state, …. */
  readonly journal: (TaskState | TaskStateName)[] = [];
  /** The entries behind it are old: shortening an array costs more than overwriting it. */
  journalLength = 0;

  constructor(discard: (ts: TaskState) => void) {
    this.#discard = discard;
  }

  set(ts: TaskState, recommendation: Recommendation): void {
    const { journal } = this;
    journal[this.journalLength++] = ts;
    journal[this.journalLength++] = recommendation.finish;
    const tasks = this.#tasks;
    if (tasks[ts.slot] === ts) {
      const before = this.#recommendations[ts.slot];
      this.#recommendations[ts.slot] = recommendation;
      if (before?.finish === "memory" && recommendation.finish !== "memory") this.#discard(ts);
      return;
    }
    ts.slot = tasks.length;
    tasks.push(ts);
    this.#recommendations.push(recommendation);
  }

  /** Takes the last one out: the task is returned, its recommendation is in `popped`. */
  pop(): TaskState | undefined {
    while (this.#tasks.length > 0) {
      const ts = this.#tasks.pop();
      const recommendation = this.#recommendations.pop();
      if (ts !== undefined && recommendation !== undefined) {
        this.popped = recommendation;
        return ts;
      }
    }
    return undefined;
  }
  popped: Recommendation = RELEASED;

  /** Takes out the recommendation for this task. */
  take(ts: TaskState): Recommendation | undefined {
    if (this.#tasks[ts.slot] !== ts) return undefined;
    const recommendation = this.#recommendations[ts.slot];
    this.#tasks[ts.slot] = undefined;
    this.#recommendations[ts.slot] = undefined;
    return recommendation;
  }

  /** Begins a new span of the journal. */
  resetJournal(): void {
    this.journalLength = 0;
    // Old entries must not keep many forgotten tasks.
    if (this.journal.length > 64) this.journal.length = 0;
  }

  clear(): void {
    this.#tasks.length = 0;
    this.#recommendations.length = 0;
    this.resetJournal();
  }
}
