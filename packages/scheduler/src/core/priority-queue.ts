/**
 * Ready rootish tasks that wait for a slot (SchedulerState.queued, a HeapSet): smallest priority first, equal
 * priorities in the order they came. Indexed through `TaskState.heapIndex`, so that any task can be removed.
 */
import { comparePriority, type TaskState } from "./task-state.ts";

export class PriorityQueue {
  private readonly heap: TaskState[] = [];
  /** Insertion number of the task at the same position. */
  private readonly serials: number[] = [];
  private nextSerial = 0;

  get size(): number {
    return this.heap.length;
  }

  has(ts: TaskState): boolean {
    return ts.heapIndex >= 0;
  }

  peek(): TaskState | undefined {
    return this.heap[0];
  }

  add(ts: TaskState): void {
    if (ts.heapIndex >= 0) return;
    this.heap.push(ts);
    this.serials.push(this.nextSerial++);
    this.up(this.heap.length - 1);
  }

  delete(ts: TaskState): boolean {
    const index = ts.heapIndex;
    if (index < 0) return false;
    ts.heapIndex = -1;
    const last = this.heap.pop() as TaskState;
    const serial = this.serials.pop() as number;
    if (last !== ts) {
      this.heap[index] = last;
      this.serials[index] = serial;
      last.heapIndex = index;
      this.up(index);
      this.down(last.heapIndex);
    }
    return true;
  }

  /** Tasks in heap order, which is no particular order but for the first. */
  values(): readonly TaskState[] {
    return this.heap;
  }

  private up(start: number): void {
    const { heap, serials } = this;
    let index = start;
    const ts = heap[index] as TaskState;
    const serial = serials[index] as number;
    while (index > 0) {
      const above = (index - 1) >> 1;
      const parent = heap[above] as TaskState;
      if (!before(ts, serial, parent, serials[above] as number)) break;
      heap[index] = parent;
      serials[index] = serials[above] as number;
      parent.heapIndex = index;
      index = above;
    }
    heap[index] = ts;
    serials[index] = serial;
    ts.heapIndex = index;
  }

  private down(start: number): void {
    const { heap, serials } = this;
    const n = heap.length;
    let index = start;
    const ts = heap[index] as TaskState;
    const serial = serials[index] as number;
    for (;;) {
      let below = 2 * index + 1;
      if (below >= n) break;
      const right = below + 1;
      if (
        right < n &&
        before(heap[right] as TaskState, serials[right] as number, heap[below] as TaskState, serials[below] as number)
      ) {
        below = right;
      }
      const child = heap[below] as TaskState;
      if (!before(child, serials[below] as number, ts, serial)) break;
      heap[index] = child;
      serials[index] = serials[below] as number;
      child.heapIndex = index;
      index = below;
    }
    heap[index] = ts;
    serials[index] = serial;
    ts.heapIndex = index;
  }
}

function before(a: TaskState, serialA: number, b: TaskState, serialB: number): boolean {
  const order = comparePriority(a, b);
  return order !== 0 ? order < 0 : serialA < serialB;
}
