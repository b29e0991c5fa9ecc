/** A binary heap whose items know their position, so that one that has changed can be moved or taken out. */

export interface HeapItem {
  /** Kept by the heap; -1 where the item is in none. */
  heapIndex: number;
}

export class IndexedHeap<T extends HeapItem> {
  readonly #items: T[] = [];
  readonly #before: (a: T, b: T) => boolean;

  constructor(before: (a: T, b: T) => boolean) {
    this.#before = before;
  }

  get size(): number {
    return this.#items.length;
  }

  /** Items in no particular order but that the first is the least; read only. */
  get items(): readonly T[] {
    return this.#items;
  }

  peek(): T | undefined {
    return this.#items[0];
  }

  /** Adds the item, or moves it after it has changed. */
  update(item: T): void {
    if (item.heapIndex < 0) {
      item.heapIndex = this.#items.length;
      this.#items.push(item);
    }
    this.#up(item);
    this.#down(item);
  }

  delete(item: T): void {
    const index = item.heapIndex;
    if (index < 0) return;
    item.heapIndex = -1;
    const last = this.#items.pop() as T;
    if (last === item) return;
    this.#place(last, index);
    this.#up(last);
    this.#down(last);
  }

  #up(item: T): void {
    let index = item.heapIndex;
    while (index > 0) {
      const parent = this.#items[(index - 1) >> 1] as T;
      if (!this.#before(item, parent)) break;
      this.#place(parent, index);
      index = (index - 1) >> 1;
    }
    this.#place(item, index);
  }

  #down(item: T): void {
    const items = this.#items;
    let index = item.heapIndex;
    for (let below = 2 * index + 1; below < items.length; below = 2 * index + 1) {
      const right = items[below + 1];
      if (right !== undefined && this.#before(right, items[below] as T)) below++;
      const child = items[below] as T;
      if (!this.#before(child, item)) break;
      this.#place(child, index);
      index = below;
    }
    this.#place(item, index);
  }

  #place(item: T, index: number): void {
    this.#items[index] = item;
    item.heapIndex = index;
  }
}
