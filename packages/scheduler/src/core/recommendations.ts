/**
 * Recommended transitions: Dask's insertion-ordered dict key → state, taken from the end. Setting a key that is
 * already there changes its state and keeps its place. One instance lives as long as the core; a stack of tasks plus
 * one field on each task, so nothing is allocated per transition.
 *
 * Transitions write here directly where Dask returns a dict that is then merged: the order comes out the same.
 */
import type { TaskState } from "./task-state.ts";
import type { StateCode } from "./task-status.ts";

/** Power of two: how many recommendations are kept for stories. */
const RECORD_LENGTH = 4096;

export class Recommendations {
  private readonly stack: TaskState[] = [];
  /**
   * Tasks that began to wait while a dependency was erred. Where that dependency is not retried within the same
   * event they have to err; Dask leaves them waiting for ever.
   */
  readonly waitingOnErred: TaskState[] = [];
  /** Number of recommendations ever made; the record holds the latest. */
  made = 0;
  private readonly recordTasks: TaskState[] = [];
  private readonly recordCodes: Uint8Array = new Uint8Array(RECORD_LENGTH);

  set(ts: TaskState, finish: StateCode): void {
    if (ts.recommended < 0) this.stack.push(ts);
    ts.recommended = finish;
    const slot = this.made++ & (RECORD_LENGTH - 1);
    this.recordTasks[slot] = ts;
    this.recordCodes[slot] = finish;
  }

  /** Takes the task out. Its slot in the stack is passed over later. */
  delete(ts: TaskState): void {
    ts.recommended = -1;
  }

  /** The task recommended last, or undefined; its `recommended` says what, and has to be reset by the caller. */
  pop(): TaskState | undefined {
    const stack = this.stack;
    for (;;) {
      const ts = stack.pop();
      if (ts === undefined || ts.recommended >= 0) return ts;
    }
  }

  get empty(): boolean {
    return this.stack.length === 0 && this.waitingOnErred.length === 0;
  }

  /** After an error: nothing of this event may leak into the next. */
  clear(): void {
    for (const ts of this.stack) ts.recommended = -1;
    this.stack.length = 0;
    this.waitingOnErred.length = 0;
  }

  /** The recommendations made from number `start` on, as far as they are still recorded. */
  recorded(start: number, count: number): [TaskState, StateCode][] {
    const result: [TaskState, StateCode][] = [];
    for (let i = Math.max(start, this.made - RECORD_LENGTH); i < start + count; i++) {
      const ts = this.recordTasks[i & (RECORD_LENGTH - 1)];
      if (ts) result.push([ts, this.recordCodes[i & (RECORD_LENGTH - 1)] as StateCode]);
    }
    return result;
  }
}
