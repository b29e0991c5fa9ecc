/** Tiny tasks that the executor gets before a thread is free for them. */
import { expect, test } from "vitest";
import { compute, Driver, free, recalled, steal, success } from "./support/events.ts";

/** A worker with one thread that knows how long tasks `tiny-*` take, and runs one of them. */
function driver(seconds: number, options: { thread?: number | null } = {}): Driver {
  const d = new Driver();
  d.do(compute("tiny-00"), success("tiny-00", { seconds, ...options }), compute("tiny-0"));
  return d;
}

const tiny = (count: number) =>
  Array.from({ length: count }, (_, i) => compute(`tiny-${i + 1}`, { priority: [i + 1] }));

function executing(d: Driver): number {
  return Object.values(d.states()).filter((state) => state === "executing").length;
}

test("as many tiny tasks go ahead as take a hundredth of a second, at most 64", () => {
  const d = driver(0.001);
  d.do(...tiny(30));
  expect(executing(d)).toBe(1 + 10);
  expect(d.machine.aheadCount).toBe(10);
  d.do(success("tiny-0", { seconds: 0.000_01 }), success("tiny-1", { seconds: 0.000_01 }));
  expect(executing(d)).toBe(29);

  const many = driver(0.000_01);
  many.do(...tiny(100));
  expect(executing(many)).toBe(1 + 64);
});

test("others wait for a thread", () => {
  const long = driver(0.5);
  long.do(...tiny(3));
  expect(executing(long)).toBe(1);
  // a coroutine begins at once, whoever has the threads
  const coroutine = driver(0.001, { thread: null });
  coroutine.do(...tiny(3));
  expect(executing(coroutine)).toBe(1);
  const d = driver(0.001);
  d.do(compute("actor", { actor: true }), compute("unknown"));
  expect([d.state("actor"), d.state("unknown")]).toEqual(["ready", "ready"]);
});

test("one long run among them ends it at once", () => {
  const d = driver(0.001);
  d.do(...tiny(20), success("tiny-0", { seconds: 5 }));
  expect(executing(d)).toBe(10);
  d.do(success("tiny-1", { seconds: 0.001 }));
  expect(executing(d)).toBe(9);
});

test("what no thread has begun is ready again, and can be stolen", () => {
  const d = driver(0.001);
  d.do(...tiny(4));
  expect(d.do(steal("tiny-3"))).toEqual([["steal-response", "tiny-3", "executing"]]);
  expect(d.do(recalled("tiny-1", "tiny-2", "tiny-3", "tiny-4"))).toEqual([]);
  expect(d.state("tiny-0")).toBe("executing");
  expect(d.state("tiny-3")).toBe("ready");
  expect(d.do(steal("tiny-3"))).toEqual([["steal-response", "tiny-3", "ready"]]);
  // while the thread is held up nothing goes ahead again
  d.do(compute("tiny-9", { priority: [9] }));
  expect(executing(d)).toBe(1);
  d.do(success("tiny-0", { seconds: 0.001 }));
  expect(executing(d)).toBe(4);
});

test("a thread that became free meanwhile gets what came back", () => {
  const d = driver(0.001);
  d.do(...tiny(2), success("tiny-0", { seconds: 0.001 }));
  expect(d.do(recalled("tiny-1", "tiny-2"))).toEqual([["execute", "tiny-1"]]);
  expect(d.state("tiny-2")).toBe("ready");
});

test("what was freed meanwhile is forgotten, what is wanted again is run", () => {
  const d = driver(0.001);
  d.do(...tiny(3), free("tiny-1", "tiny-2"));
  expect(d.state("tiny-1")).toBe("cancelled(executing)");
  d.do(compute("tiny-2", { runId: 9, priority: [2] }), recalled("tiny-1", "tiny-2", "tiny-3"));
  expect([d.state("tiny-1"), d.state("tiny-2"), d.state("tiny-3")]).toEqual(["forgotten", "ready", "ready"]);
});
