/** Memory of the workers in one run of the active memory manager, with what the run has decided so far. */
import { type HeapItem, IndexedHeap } from "../indexed-heap.ts";
import { workerMemory } from "../queries.ts";
import { memoryMeasure } from "../rebalance.ts";
import type { SchedulerState } from "../state.ts";
import type { WorkerState } from "../worker-state.ts";

interface Reading extends HeapItem {
  readonly ws: WorkerState;
  nbytes: number;
}

export class WorkerMemory {
  readonly #state: SchedulerState;
  readonly #measure: string;
  readonly #readings: Map<WorkerState, Reading> = new Map();
  /** The running workers; filled when the first is asked for. */
  #running: IndexedHeap<Reading> | undefined;

  /** @param measure attribute of MemoryState. */
  constructor(state: SchedulerState, measure: string) {
    this.#state = state;
    this.#measure = measure;
  }

  /** Bytes. */
  of(ws: WorkerState): number {
    return this.#reading(ws).nbytes;
  }

  /** Counts bytes that the worker will get, or lose where negative. */
  add(ws: WorkerState, nbytes: number): void {
    const reading = this.#reading(ws);
    reading.nbytes = Math.max(0, reading.nbytes + nbytes);
    if (reading.heapIndex >= 0) this.#running?.update(reading);
  }

  /** The running worker with the least memory among those that are accepted. */
  least(accepts: (ws: WorkerState) => boolean): WorkerState | undefined {
    const running = this.#sorted();
    const passed: Reading[] = [];
    let found: WorkerState | undefined;
    for (let next = running.peek(); next !== undefined && found === undefined; next = running.peek()) {
      if (!this.#state.running.has(next.ws)) {
        // It has paused or left since the run began.
        running.delete(next);
      } else if (accepts(next.ws)) {
        found = next.ws;
      } else {
        passed.push(next);
        running.delete(next);
      }
    }
    for (const reading of passed) running.update(reading);
    return found;
  }

  #sorted(): IndexedHeap<Reading> {
    if (this.#running !== undefined) return this.#running;
    this.#running = new IndexedHeap((a, b) => (a.nbytes === b.nbytes ? a.ws.rank < b.ws.rank : a.nbytes < b.nbytes));
    for (const ws of this.#state.running) this.#running.update(this.#reading(ws));
    return this.#running;
  }

  #reading(ws: WorkerState): Reading {
    let reading = this.#readings.get(ws);
    if (reading === undefined) {
      reading = { ws, nbytes: memoryMeasure(workerMemory(ws), this.#measure), heapIndex: -1 };
      this.#readings.set(ws, reading);
    }
    return reading;
  }
}
