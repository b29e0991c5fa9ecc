/** Number of tasks and time spent per prefix and state. Mirrors `TaskCounter`, with O(1) work per change of state. */
import { STATES, type TaskStateName } from "./task-state.ts";

const INDEX: Record<TaskStateName, number> = Object.fromEntries(STATES.map((state, i) => [state, i])) as Record<
  TaskStateName,
  number
>;

/** The counters of one key prefix; each adds up its time whenever its number changes. */
export class PrefixCounts {
  readonly name: string;
  readonly counts: Int32Array = new Int32Array(STATES.length);
  readonly #elapsed: Float64Array = new Float64Array(STATES.length);
  readonly #since: Float64Array = new Float64Array(STATES.length);
  /** How long its tasks hold a thread, seconds; infinite until one has run, and where they do not run in a thread. */
  averageRunS: number = Number.POSITIVE_INFINITY;

  constructor(name: string) {
    this.name = name;
  }

  /** A task has held a thread for so long; null: it ran elsewhere, on the event loop or in another process. */
  ran(seconds: number | null): void {
    const known = this.averageRunS;
    if (seconds === null) this.averageRunS = Number.POSITIVE_INFINITY;
    // A long one counts at once, short ones have to prove it.
    else this.averageRunS = seconds < known && known !== Number.POSITIVE_INFINITY ? (known + seconds) / 2 : seconds;
  }

  add(state: TaskStateName, by: 1 | -1, now: number): void {
    const i = INDEX[state];
    const n = this.counts[i] as number;
    // A clock that was set back must not take time away.
    if (n > 0) this.#elapsed[i] = (this.#elapsed[i] as number) + n * Math.max(0, now - (this.#since[i] as number));
    this.#since[i] = now;
    this.counts[i] = n + by;
  }

  /** Seconds that tasks of this prefix have spent in the state until `now`. */
  elapsed(state: TaskStateName, now: number): number {
    const i = INDEX[state];
    return (this.#elapsed[i] as number) + (this.counts[i] as number) * Math.max(0, now - (this.#since[i] as number));
  }
}

export class TaskCounter {
  readonly #prefixes: Map<string, PrefixCounts> = new Map();

  prefix(name: string): PrefixCounts {
    let counts = this.#prefixes.get(name);
    if (counts === undefined) {
      counts = new PrefixCounts(name);
      this.#prefixes.set(name, counts);
    }
    return counts;
  }

  /** Number of tasks per state, without the states that have none. */
  byState(): Map<TaskStateName, number> {
    const totals = new Map<TaskStateName, number>();
    for (const counts of this.#prefixes.values()) {
      for (let i = 0; i < STATES.length; i++) {
        const n = counts.counts[i] as number;
        const state = STATES[i] as TaskStateName;
        if (n !== 0) totals.set(state, (totals.get(state) ?? 0) + n);
      }
    }
    return totals;
  }

  *byPrefixAndState(): Generator<{ prefix: PrefixCounts; state: TaskStateName; count: number }> {
    for (const prefix of this.#prefixes.values()) {
      for (let i = 0; i < STATES.length; i++) {
        yield { prefix, state: STATES[i] as TaskStateName, count: prefix.counts[i] as number };
      }
    }
  }
}
