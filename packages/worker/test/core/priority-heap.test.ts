import { expect, test } from "vitest";
import { comparePriority, PriorityHeap } from "../../src/core/priority-heap.ts";

test("priorities compare as Python compares tuples", () => {
  const order = [[-1, 9], [0], [0, -1], [0, 0], [0, 0, 5], [0, 1], [1]];
  for (let i = 0; i < order.length; i++) {
    for (let j = 0; j < order.length; j++) {
      expect(Math.sign(comparePriority(order[i] ?? [], order[j] ?? []))).toBe(Math.sign(i - j));
    }
  }
});

test("against a sorted list, with removals in between", () => {
  let state = 1;
  const random = (n: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % n;
  };
  const heap = new PriorityHeap<{ readonly priority: number[]; sequence: number }>();
  let model: { readonly priority: number[]; sequence: number }[] = [];
  const order = (a: (typeof model)[number], b: (typeof model)[number]): number =>
    comparePriority(a.priority, b.priority) || a.sequence - b.sequence;
  for (let i = 0; i < 20_000; i++) {
    const what = random(10);
    if (what < 5) {
      const item = { priority: [random(5), random(5)], sequence: i };
      heap.add(item);
      heap.add(item);
      model.push(item);
    } else if (what < 8 || model.length > 200) {
      const item = model[random(Math.max(1, model.length))];
      if (item === undefined) continue;
      expect(heap.delete(item)).toBe(true);
      expect(heap.delete(item)).toBe(false);
      model = model.filter((other) => other !== item);
      if (random(2) === 0) {
        // Comes back behind its equals.
        item.sequence = i;
        heap.add(item);
        model.push(item);
      }
    } else {
      model.sort(order);
      expect(heap.peek()).toBe(model[0]);
      expect(heap.pop()).toBe(model.shift());
    }
    if (heap.size !== model.length) throw new Error(`${heap.size} instead of ${model.length}`);
  }
  expect(heap.sorted()).toEqual(model.sort(order));
  expect([...heap.items()].length).toBe(model.length);
});
