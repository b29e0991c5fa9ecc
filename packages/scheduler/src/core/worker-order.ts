/**
 * The workers sorted by address (Dask's SortedDict), and subsets of them from which the k-th can be taken without
 * walking: a Fenwick tree of counts over the ranks.
 */
import type { WorkerState } from "./worker-state.ts";

export class WorkerOrder {
  readonly list: WorkerState[] = [];
  private readonly subsets: WorkerSubset[] = [];

  subset(): WorkerSubset {
    const subset = new WorkerSubset(this);
    this.subsets.push(subset);
    return subset;
  }

  add(ws: WorkerState): void {
    const list = this.list;
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((list[middle] as WorkerState).address < ws.address) low = middle + 1;
      else high = middle;
    }
    list.splice(low, 0, ws);
    this.renumber(low);
  }

  /** The worker leaves the order and all subsets. */
  remove(ws: WorkerState): void {
    const rank = ws.rank;
    if (this.list[rank] !== ws) return;
    this.list.splice(rank, 1);
    ws.rank = -1;
    this.renumber(rank, ws);
  }

  private renumber(from: number, removed?: WorkerState): void {
    const list = this.list;
    for (let rank = from; rank < list.length; rank++) (list[rank] as WorkerState).rank = rank;
    for (const subset of this.subsets) subset.rebuild(removed);
  }
}

export class WorkerSubset {
  private readonly order: WorkerOrder;
  private readonly members: Set<WorkerState> = new Set();
  private tree: Int32Array = new Int32Array(1);
  /** Highest power of two not above the number of workers. */
  private top = 0;

  constructor(order: WorkerOrder) {
    this.order = order;
  }

  get size(): number {
    return this.members.size;
  }

  has(ws: WorkerState): boolean {
    return this.members.has(ws);
  }

  add(ws: WorkerState): void {
    if (this.members.has(ws)) return;
    this.members.add(ws);
    this.count(ws.rank, 1);
  }

  delete(ws: WorkerState): void {
    if (this.members.delete(ws)) this.count(ws.rank, -1);
  }

  /** The k-th member by address, counted from 0. */
  at(k: number): WorkerState {
    const tree = this.tree;
    let left = k + 1;
    let position = 0;
    for (let step = this.top; step > 0; step >>= 1) {
      const next = position + step;
      if (next < tree.length && (tree[next] as number) < left) {
        position = next;
        left -= tree[next] as number;
      }
    }
    return this.order.list[position] as WorkerState;
  }

  /** Members by address. */
  *[Symbol.iterator](): IterableIterator<WorkerState> {
    if (this.members.size * 16 < this.order.list.length) {
      for (const ws of [...this.members].sort((a, b) => a.rank - b.rank)) yield ws;
    } else {
      for (const ws of Array.from(this.order.list)) if (this.members.has(ws)) yield ws;
    }
  }

  rebuild(removed: WorkerState | undefined): void {
    if (removed !== undefined) this.members.delete(removed);
    const list = this.order.list;
    const n = list.length;
    const tree = new Int32Array(n + 1);
    for (let i = 1; i <= n; i++) {
      tree[i] = (tree[i] as number) + (this.members.has(list[i - 1] as WorkerState) ? 1 : 0);
      const parent = i + (i & -i);
      if (parent <= n) tree[parent] = (tree[parent] as number) + (tree[i] as number);
    }
    this.tree = tree;
    this.top = n === 0 ? 0 : 2 ** Math.floor(Math.log2(n));
  }

  private count(rank: number, by: number): void {
    const tree = this.tree;
    for (let i = rank + 1; i < tree.length; i += i & -i) tree[i] = (tree[i] as number) + by;
  }
}
