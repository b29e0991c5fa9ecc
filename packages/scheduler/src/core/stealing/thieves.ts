/**
 * Workers that may take stolen tasks in one round of balancing, the least busy first. The best thief for a task is
 * either the least busy one, or one of those that hold its data; so no task is compared with all thieves.
 */
import { type HeapItem, IndexedHeap } from "../indexed-heap.ts";
import { validWorkers } from "../placement.ts";
import type { SchedulerState } from "../state.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";

interface Thief extends HeapItem {
  readonly ws: WorkerState;
  /** Combined occupancy per thread, seconds. */
  load: number;
}

export class Thieves {
  readonly #state: SchedulerState;
  readonly #load: (ws: WorkerState) => number;
  readonly #members: Map<WorkerState, Thief> = new Map();
  readonly #heap: IndexedHeap<Thief> = new IndexedHeap(before);

  /** @param occupancy combined occupancy of a worker, seconds; call `changed` where it has changed. */
  constructor(state: SchedulerState, workers: Iterable<WorkerState>, occupancy: (ws: WorkerState) => number) {
    this.#state = state;
    this.#load = (ws) => occupancy(ws) / Math.max(1, ws.nthreads);
    for (const ws of workers) {
      const thief: Thief = { ws, load: this.#load(ws), heapIndex: -1 };
      this.#members.set(ws, thief);
      this.#heap.update(thief);
    }
  }

  get size(): number {
    return this.#heap.size;
  }

  /** The worker was given a task. */
  changed(ws: WorkerState): void {
    const thief = this.#members.get(ws);
    if (thief === undefined) return;
    thief.load = this.#load(ws);
    this.#heap.update(thief);
  }

  delete(ws: WorkerState): void {
    const thief = this.#members.get(ws);
    if (thief === undefined) return;
    this.#members.delete(ws);
    this.#heap.delete(thief);
  }

  /**
   * WorkStealing._get_thief: where the task would start first; equal ones by the data they hold. Undefined where its
   * restrictions leave nobody.
   */
  bestFor(ts: TaskState): WorkerState | undefined {
    const valid = validWorkers(this.#state, ts);
    if (valid !== null) {
      const allowed: Thief[] = [];
      if (valid.size <= this.#heap.size) {
        for (const ws of valid) {
          const thief = this.#members.get(ws);
          if (thief !== undefined) allowed.push(thief);
        }
      } else {
        for (const thief of this.#heap.items) if (valid.has(thief.ws)) allowed.push(thief);
      }
      if (allowed.length > 0) return this.#least(ts, allowed);
      if (!ts.restrictions?.loose) return undefined;
    }
    const top = this.#heap.peek();
    if (top === undefined) return undefined;
    if (ts.actor) return this.#least(ts, this.#heap.items);
    const holders = new Set<Thief>();
    for (const dts of ts.dependencies.items) {
      for (const ws of dts.whoHas.items) {
        const thief = this.#members.get(ws);
        if (thief !== undefined) holders.add(thief);
      }
    }
    if (holders.size === 0) return top.ws;
    holders.add(top);
    return this.#least(ts, holders);
  }

  /** WorkStealing.stealing_objective: (actors,) start, bytes held. */
  #least(ts: TaskState, thieves: Iterable<Thief>): WorkerState | undefined {
    let nbytes = 0;
    const held = new Map<WorkerState, number>();
    for (const dts of ts.dependencies.items) {
      const size = this.#state.nbytesOf(dts);
      nbytes += size;
      for (const ws of dts.whoHas.items) {
        if (this.#members.has(ws)) held.set(ws, (held.get(ws) ?? 0) + size);
      }
    }
    let best: WorkerState | undefined;
    let bestStart = 0;
    for (const { ws, load } of thieves) {
      const start = load + (nbytes - (held.get(ws) ?? 0)) / this.#state.bandwidth;
      const order =
        best === undefined
          ? -1
          : (ts.actor ? ws.actors.size - best.actors.size : 0) || start - bestStart || ws.nbytes - best.nbytes;
      if (order >= 0) continue;
      best = ws;
      bestStart = start;
    }
    return best;
  }
}

function before(a: Thief, b: Thief): boolean {
  return a.load !== b.load ? a.load < b.load : a.ws.nbytes < b.ws.nbytes;
}
