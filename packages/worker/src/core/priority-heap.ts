/** Heaps of tasks by priority, from which any task can be taken out. Mirrors `distributed.collections.HeapSet`. */

/** A Python tuple of numbers: compared element by element, the shorter of two equal beginnings first. */
export type Priority = readonly number[];

/** Negative, zero, positive: as Python orders the two tuples. */
export function comparePriority(a: Priority, b: Priority): number {
  const n = a.length < b.length ? a.length : b.length;
  for (let i = 0; i < n; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    if (x !== y) return x < y ? -1 : 1;
  }
  return a.length - b.length;
}

interface Entry<T> {
  readonly item: T;
  readonly priority: Priority;
  /** Order of insertion: settles ties, and tells a stale entry from a current one. */
  readonly sequence: number;
}

/**
 * A priority queue of distinct items. Removal is lazy: an entry whose item was taken out stays in the heap until it comes
 * to the top, or until more than half of the entries are stale. The priority counts that an item has when it is added.
 */
export class PriorityHeap<T extends { readonly priority: Priority | null }> {
  readonly #heap: Entry<T>[] = [];
  readonly #members: Map<T, number> = new Map();
  #sequence = 0;

  get size(): number {
    return this.#members.size;
  }

  has(item: T): boolean {
    return this.#members.has(item);
  }

  /** No-op where the item is in the heap. */
  add(item: T): void {
    if (this.#members.has(item)) return;
    const sequence = this.#sequence++;
    this.#members.set(item, sequence);
    const heap = this.#heap;
    heap.push({ item, priority: item.priority ?? [], sequence });
    this.#up(heap.length - 1);
  }

  /** @returns whether the item was there. */
  delete(item: T): boolean {
    if (!this.#members.delete(item)) return false;
    const heap = this.#heap;
    if (this.#members.size === 0) heap.length = 0;
    else if (heap.length > 32 && heap.length > 2 * this.#members.size) this.#compact();
    return true;
  }

  /** The first item, which stays; undefined where the heap is empty. */
  peek(): T | undefined {
    const heap = this.#heap;
    for (;;) {
      const top = heap[0];
      if (top === undefined) return undefined;
      if (this.#members.get(top.item) === top.sequence) return top.item;
      this.#removeTop();
    }
  }

  /** Takes out the first item. */
  pop(): T | undefined {
    const item = this.peek();
    if (item === undefined) return undefined;
    this.#members.delete(item);
    this.#removeTop();
    return item;
  }

  /** The items in no particular order. */
  items(): IterableIterator<T> {
    return this.#members.keys();
  }

  /** The items as `pop` would give them. */
  sorted(): T[] {
    return this.#heap
      .filter((entry) => this.#members.get(entry.item) === entry.sequence)
      .sort(compareEntries)
      .map((entry) => entry.item);
  }

  #compact(): void {
    const live = this.#heap.filter((entry) => this.#members.get(entry.item) === entry.sequence);
    live.sort(compareEntries);
    this.#heap.length = 0;
    // A sorted array is a heap.
    for (const entry of live) this.#heap.push(entry);
  }

  #removeTop(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    heap[0] = last;
    this.#down();
  }

  #up(start: number): void {
    const heap = this.#heap;
    let at = start;
    const entry = heap[at] as Entry<T>;
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt] as Entry<T>;
      if (compareEntries(entry, parent) >= 0) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = entry;
  }

  #down(): void {
    const heap = this.#heap;
    const n = heap.length;
    let at = 0;
    const entry = heap[0] as Entry<T>;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= n) break;
      let child = heap[childAt] as Entry<T>;
      if (childAt + 1 < n) {
        const right = heap[childAt + 1] as Entry<T>;
        if (compareEntries(right, child) < 0) {
          child = right;
          childAt++;
        }
      }
      if (compareEntries(entry, child) <= 0) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = entry;
  }
}

function compareEntries<T>(a: Entry<T>, b: Entry<T>): number {
  return comparePriority(a.priority, b.priority) || a.sequence - b.sequence;
}
