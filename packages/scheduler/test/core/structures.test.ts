import { describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { emptySet, FewSet, State, TaskState, WorkerState } from "../../src/core/index.ts";
import { PriorityQueue } from "../../src/core/priority-queue.ts";
import { sortByPriority } from "../../src/core/priority-sort.ts";
import { SlotHeap } from "../../src/core/slot-heap.ts";
import { SchedulerState } from "../../src/core/state.ts";
import { WorkerOrder } from "../../src/core/worker-order.ts";
import { DEFAULT_CORE_CONFIG } from "../../src/core/config.ts";
import { registration } from "./builders.ts";

function newTask(i: number, priority: readonly [number, number, number]): TaskState {
  const state = new SchedulerState({ ...DEFAULT_CORE_CONFIG, makeException: () => null }, 0);
  const ts = state.newTask(`x-${i}`, `x-${i}`, null, State.released, null);
  [ts.p0, ts.p1, ts.p2] = priority;
  ts.hasPriority = true;
  return ts;
}

function sort(tasks: TaskState[]): readonly TaskState[] {
  const steps = sortByPriority(tasks);
  let step = steps.next();
  while (!step.done) step = steps.next();
  return step.value;
}

describe("FewSet", () => {
  it("behaves as a set", () => {
    const operation = fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 30 }));
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 200 }), (operations) => {
        let few = emptySet<number>();
        const model = new Set<number>();
        for (const [add, item] of operations) {
          if (add) {
            few = few.plus(item);
            model.add(item);
          } else {
            expect(few.delete(item)).toBe(model.delete(item));
          }
          expect(few.size).toBe(model.size);
          expect(few.has(item)).toBe(model.has(item));
        }
        expect(new Set(few)).toEqual(model);
        expect(emptySet().size).toBe(0);
      }),
    );
    expect(new FewSet([1]).plus(1).size).toBe(1);
  });

  it.each([0, 1, 2])("knows what is added after it was large and went down to %i items", (left) => {
    const few = new FewSet(Array.from({ length: 20 }, (_, i) => i));
    for (let i = 19; i >= left; i--) expect(few.delete(i)).toBe(true);
    expect(few.plus(100).has(100)).toBe(true);
    expect(few.plus(100).size).toBe(left + 1);
    expect(few.delete(100)).toBe(true);
    expect([...few]).toEqual(Array.from({ length: left }, (_, i) => i));
  });
});

describe("PriorityQueue", () => {
  it("gives tasks by priority, equal ones in the order they came, whatever is removed between", () => {
    const small = fc.integer({ min: 0, max: 3 });
    fc.assert(
      fc.property(fc.array(fc.tuple(small, small, small, fc.boolean()), { maxLength: 60 }), (items) => {
        const queue = new PriorityQueue();
        const tasks = items.map(([a, b, c], i) => newTask(i, [a, b, c]));
        for (const ts of tasks) queue.add(ts);
        const kept = tasks.filter((ts, i) => {
          const remove = (items[i] as readonly unknown[])[3] === true;
          if (remove) expect(queue.delete(ts)).toBe(true);
          return !remove;
        });
        const expected = kept
          .map((ts, i) => ({ ts, i }))
          .sort((x, y) => x.ts.p0 - y.ts.p0 || x.ts.p1 - y.ts.p1 || x.ts.p2 - y.ts.p2 || x.i - y.i);
        const taken: TaskState[] = [];
        for (let ts = queue.peek(); ts !== undefined; ts = queue.peek()) {
          queue.delete(ts);
          taken.push(ts);
        }
        expect(taken.map((ts) => ts.id)).toEqual(expected.map(({ ts }) => ts.id));
      }),
    );
  });

  it("many tasks of one graph are sorted by rank", () => {
    const tasks = Array.from({ length: 3000 }, (_, i) => newTask(i, [0, 1, (i * 7919) % 3001]));
    const sorted = sort([...tasks]);
    expect(sorted.map((ts) => ts.p2)).toEqual(tasks.map((ts) => ts.p2).sort((a, b) => a - b));
    const mixed = [...tasks, newTask(1, [0, 0, 5])];
    expect(sort(mixed)[0]?.p1).toBe(0);
  });
});

describe("workers in order", () => {
  it("keep ranks and subsets through coming and going, and the least busy on top", () => {
    const operation = fc.tuple(fc.integer({ min: 0, max: 15 }), fc.constantFrom("add", "remove", "in", "out", "task"));
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 120 }), (operations) => {
        const order = new WorkerOrder();
        const subset = order.subset();
        const heap = new SlotHeap();
        const all = new Map<number, WorkerState>();
        const members = new Set<WorkerState>();
        let tasks = 0;
        for (const [n, what] of operations) {
          const ws = all.get(n);
          if (what === "add" && ws === undefined) {
            const added = new WorkerState(registration(`w${n}`, { nthreads: 1 + (n % 3) }), 0);
            all.set(n, added);
            order.add(added);
          } else if (ws === undefined) continue;
          else if (what === "remove") {
            heap.delete(ws);
            order.remove(ws);
            all.delete(n);
            members.delete(ws);
          } else if (what === "in") {
            subset.add(ws);
            members.add(ws);
            heap.update(ws);
          } else if (what === "out") {
            subset.delete(ws);
            members.delete(ws);
            heap.delete(ws);
          } else {
            ws.processing.add(newTask(tasks++, [0, 0, 0]));
            if (heap.has(ws)) heap.update(ws);
          }
          const sorted = [...members].sort((a, b) => (a.address < b.address ? -1 : 1));
          expect([...subset]).toEqual(sorted);
          expect(sorted.map((_, k) => subset.at(k))).toEqual(sorted);
          const least = Math.min(...sorted.map((w) => w.processing.size / w.nthreads));
          const top = heap.peek();
          expect(heap.size).toBe(sorted.length);
          if (top !== undefined) expect(top.processing.size / top.nthreads).toBe(least);
        }
      }),
      { numRuns: 60 },
    );
  });
});
