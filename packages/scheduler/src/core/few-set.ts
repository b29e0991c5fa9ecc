/**
 * A set that costs nothing while empty and little while small: a dense array, with an index beside it only once
 * it holds more than a few items. Tasks hold up to five of these, almost always with zero to three items.
 *
 * Iteration order is insertion order until something is removed (the last item then takes the gap), so it is
 * the same on every run; Dask's sets promise no order at all.
 */
const INDEX_FROM = 9;

export class FewSet<T> {
  /** The items; read only, and not to be held across a change of the set. */
  items: T[];
  private index: Map<T, number> | null;

  /** @param items becomes the set's own storage; it must hold no item twice. */
  constructor(items: T[]) {
    this.items = items;
    this.index = null;
  }

  get size(): number {
    return this.items.length;
  }

  has(item: T): boolean {
    return this.positionOf(item) >= 0;
  }

  /** The set with the item in it: this set, or a new one where this is the shared empty set. */
  plus(item: T): FewSet<T> {
    const items = this.items;
    const n = items.length;
    if (n === 0) {
      // The shared empty set must stay empty.
      if (this === (EMPTY as unknown)) return new FewSet<T>([item]);
      items.push(item);
    } else if (this.positionOf(item) >= 0) {
      return this;
    } else if (n === 1) {
      // push() on an array of one reserves room for seventeen.
      this.items = [items[0] as T, item];
    } else {
      items.push(item);
    }
    // A set that was large once keeps its index, however few items it has now.
    if (this.index !== null) this.index.set(item, n);
    return this;
  }

  /** Removes the item; false where it was not there. */
  delete(item: T): boolean {
    const position = this.positionOf(item);
    if (position < 0) return false;
    const items = this.items;
    const last = items.pop() as T;
    const index = this.index;
    if (index !== null) index.delete(item);
    if (position < items.length) {
      items[position] = last;
      if (index !== null) index.set(last, position);
    }
    return true;
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.items[Symbol.iterator]();
  }

  private positionOf(item: T): number {
    const items = this.items;
    const n = items.length;
    let index = this.index;
    if (index === null) {
      if (n < INDEX_FROM) {
        for (let i = 0; i < n; i++) if (items[i] === item) return i;
        return -1;
      }
      index = new Map();
      for (let i = 0; i < n; i++) index.set(items[i] as T, i);
      this.index = index;
    }
    return index.get(item) ?? -1;
  }
}

const EMPTY: FewSet<never> = new FewSet<never>([]);

/** The shared empty set. */
export function emptySet<T>(): FewSet<T> {
  return EMPTY;
}
