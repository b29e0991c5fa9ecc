/**
 * Running workers with open task slots (SchedulerState.idle_task_count), least busy first: by tasks per thread, then
 * by address. An indexed heap, so that neither choosing nor changing is linear in the number of workers.
 */
import type { WorkerState } from "./worker-state.ts";

export class SlotHeap {
  private readonly heap: WorkerState[] = [];

  get size(): number {
    return this.heap.length;
  }

  has(ws: WorkerState): boolean {
    return ws.slotHeapIndex >= 0;
  }

  /** The least busy worker. */
  peek(): WorkerState | undefined {
    return this.heap[0];
  }

  /** Adds the worker, or moves it after its number of tasks has changed. */
  update(ws: WorkerState): void {
    if (ws.slotHeapIndex < 0) {
      ws.slotHeapIndex = this.heap.length;
      this.heap.push(ws);
    }
    this.up(ws.slotHeapIndex);
    this.down(ws.slotHeapIndex);
  }

  delete(ws: WorkerState): void {
    const index = ws.slotHeapIndex;
    if (index < 0) return;
    ws.slotHeapIndex = -1;
    const last = this.heap.pop() as WorkerState;
    if (last === ws) return;
    this.heap[index] = last;
    last.slotHeapIndex = index;
    this.up(index);
    this.down(last.slotHeapIndex);
  }

  /** Members in no particular order. */
  values(): readonly WorkerState[] {
    return this.heap;
  }

  private up(start: number): void {
    const heap = this.heap;
    let index = start;
    const ws = heap[index] as WorkerState;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above] as WorkerState;
      if (!before(ws, parent)) break;
      heap[index] = parent;
      parent.slotHeapIndex = index;
      index = above;
    }
    heap[index] = ws;
    ws.slotHeapIndex = index;
  }

  private down(start: number): void {
    const heap = this.heap;
    const n = heap.length;
    let index = start;
    const ws = heap[index] as WorkerState;
    for (;;) {
      let below = 2 * index + 1;
      if (below >= n) break;
      if (below + 1 < n && before(heap[below + 1] as WorkerState, heap[below] as WorkerState)) below++;
      const child = heap[below] as WorkerState;
      if (!before(child, ws)) break;
      heap[index] = child;
      child.slotHeapIndex = index;
      index = below;
    }
    heap[index] = ws;
    ws.slotHeapIndex = index;
  }
}

function before(a: WorkerState, b: WorkerState): boolean {
  // p/n compared without dividing; ranks of two workers keep their order when others come and go.
  const difference = a.processing.size * b.nthreads - b.processing.size * a.nthreads;
  return difference !== 0 ? difference < 0 : a.rank < b.rank;
}
