/** The log of the last transitions and events. Mirrors `WorkerState.log` and `distributed._stories.worker_story`. */
import { float, isKey, type Key, keyId, type Value } from "@dask-ts/protocol";
import type { TaskState, TaskStateName } from "./task-state.ts";

/** A transition, kept in the form in which it costs least; it becomes a tuple when somebody asks. */
export class TransitionRecord {
  readonly key: Key;
  readonly start: TaskStateName;
  readonly recommended: TaskStateName;
  readonly final: TaskStateName;
  /** Task, state, task, state, …; null for none. */
  readonly recommendations: readonly Key[] | null;
  readonly stimulusId: string;
  readonly time: number;

  constructor(
    ts: TaskState,
    start: TaskStateName,
    recommended: TaskStateName,
    recommendations: readonly Key[] | null,
    stimulusId: string,
    time: number,
  ) {
    this.key = ts.key;
    this.start = start;
    this.recommended = recommended;
    this.final = ts.state;
    this.recommendations = recommendations;
    this.stimulusId = stimulusId;
    this.time = time;
  }

  toTuple(): Value[] {
    const recommendations = new Map<Value, Value>();
    const flat = this.recommendations ?? [];
    for (let i = 0; i + 1 < flat.length; i += 2) recommendations.set(flat[i] ?? null, flat[i + 1] ?? null);
    return [
      this.key,
      this.start,
      this.recommended,
      this.final,
      recommendations,
      this.stimulusId,
      float(this.time),
    ] as Value[];
  }
}

/** A ring of the last `capacity` records; capacity 0 keeps none. */
export class EventLog {
  readonly #capacity: number;
  readonly #records: (TransitionRecord | Value[])[] = [];
  #next = 0;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  push(record: TransitionRecord | Value[]): void {
    if (this.#records.length < this.#capacity) {
      this.#records.push(record);
    } else if (this.#capacity > 0) {
      this.#records[this.#next] = record;
      this.#next = (this.#next + 1) % this.#capacity;
    }
  }

  /** Oldest first. */
  tuples(): Value[][] {
    const n = this.#records.length;
    const out: Value[][] = [];
    for (let i = 0; i < n; i++) {
      const record = this.#records[(this.#next + i) % n];
      if (record !== undefined) out.push(record instanceof TransitionRecord ? record.toTuple() : record);
    }
    return out;
  }

  /** The records that name one of the keys or stimulus ids, also inside a list or set. */
  story(keysOrStimuli: readonly Key[]): Value[][] {
    const ids = new Set(keysOrStimuli.map(keyId));
    const named = (value: Value): boolean => isKey(value) && ids.has(keyId(value));
    return this.tuples().filter((record) =>
      record.some((field) => {
        if (named(field)) return true;
        if (Array.isArray(field) || field instanceof Set) return [...(field as Iterable<Value>)].some(named);
        return false;
      }),
    );
  }
}
