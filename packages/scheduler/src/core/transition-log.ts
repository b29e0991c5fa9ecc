/** The last transitions (SchedulerState.transition_log), for stories. A ring; nothing is allocated per entry. */
import { type Key, keyId } from "@dask-ts/protocol";
import type { Recommendations } from "./recommendations.ts";
import type { TaskState } from "./task-state.ts";
import { type StateCode, stateName, type TaskStateName } from "./task-status.ts";

export interface Transition {
  readonly key: Key;
  readonly start: TaskStateName;
  readonly finish: TaskStateName;
  readonly recommendations: readonly (readonly [Key, TaskStateName])[];
  readonly stimulusId: string;
  /** Seconds. */
  readonly time: number;
}

export class TransitionLog {
  private readonly length: number;
  private readonly recs: Recommendations;
  private readonly tasks: (TaskState | undefined)[] = [];
  private readonly starts: Uint8Array;
  private readonly finishes: Uint8Array;
  private readonly stimulusIds: string[] = [];
  private readonly times: Float64Array;
  private readonly recStarts: Float64Array;
  private readonly recCounts: Int32Array;
  private written = 0;

  constructor(length: number, recs: Recommendations) {
    this.length = Math.max(1, length);
    this.recs = recs;
    this.starts = new Uint8Array(this.length);
    this.finishes = new Uint8Array(this.length);
    this.times = new Float64Array(this.length);
    this.recStarts = new Float64Array(this.length);
    this.recCounts = new Int32Array(this.length);
  }

  append(ts: TaskState, start: StateCode, stimulusId: string, time: number, recStart: number): void {
    const slot = this.written % this.length;
    this.written++;
    this.tasks[slot] = ts;
    this.starts[slot] = start;
    this.finishes[slot] = ts.code;
    this.stimulusIds[slot] = stimulusId;
    this.times[slot] = time;
    this.recStarts[slot] = recStart;
    this.recCounts[slot] = this.recs.made - recStart;
  }

  /** All entries, oldest first. */
  entries(): Transition[] {
    return [...this.walk()];
  }

  /** The same, one after the other; without those that come or are overwritten meanwhile. */
  *walk(): Generator<Transition> {
    const end = this.written;
    for (let i = Math.max(0, end - this.length); i < end; i++) {
      if (i < this.written - this.length) continue;
      const slot = i % this.length;
      const ts = this.tasks[slot];
      if (ts === undefined) continue;
      yield {
        key: ts.key,
        start: stateName(this.starts[slot] as StateCode),
        finish: stateName(this.finishes[slot] as StateCode),
        recommendations: this.recs
          .recorded(this.recStarts[slot] as number, this.recCounts[slot] as number)
          .map(([task, code]) => [task.key, stateName(code)] as const),
        stimulusId: this.stimulusIds[slot] as string,
        time: this.times[slot] as number,
      };
    }
  }

  /** distributed._stories.scheduler_story: entries that touch one of the keys or stimuli. */
  story(keysOrStimuli: readonly Key[]): Transition[] {
    const ids = new Set(keysOrStimuli.map((key) => keyId(key)));
    return this.entries().filter(
      (entry) =>
        ids.has(keyId(entry.key)) ||
        ids.has(entry.stimulusId) ||
        entry.recommendations.some(([key]) => ids.has(keyId(key))),
    );
  }
}
