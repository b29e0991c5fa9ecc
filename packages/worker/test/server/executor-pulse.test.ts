import { expect, test } from "vitest";
import { ExecutorPulse } from "../../src/server/executor-pulse.ts";

/** A pulse whose pings are answered by hand. */
function beat(): { pulse: ExecutorPulse; pings: { answer: () => void; fail: () => void }[] } {
  const pings: { answer: () => void; fail: () => void }[] = [];
  const pulse = new ExecutorPulse(
    () => new Promise<void>((answer, reject) => pings.push({ answer, fail: () => reject(new Error("gone")) })),
  );
  return { pulse, pings };
}

test("an executor that answers, answers", async () => {
  const { pulse, pings } = beat();
  const answers = pulse.answers();
  pings[0]?.answer();
  expect(await answers).toBe(true);
});

test("one that does not is given up within 50 ms, then at once, with one ping for all", async () => {
  const { pulse, pings } = beat();
  const start = performance.now();
  expect(await Promise.all([pulse.answers(), pulse.answers()])).toEqual([false, false]);
  expect(performance.now() - start).toBeGreaterThan(30);
  const again = performance.now();
  expect(await pulse.answers()).toBe(false);
  expect(performance.now() - again).toBeLessThan(20);
  expect(pings).toHaveLength(1);
});

test("an answer that came late is waited for longer the next time", async () => {
  const { pulse, pings } = beat();
  expect(await pulse.answers()).toBe(false);
  pings[0]?.answer();
  await Promise.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  const next = pulse.answers();
  expect(pings).toHaveLength(2);
  setTimeout(() => pings[1]?.answer(), 60);
  expect(await next).toBe(true);
});

test("one that is gone counts as answering: what is asked of it fails by itself", async () => {
  const { pulse, pings } = beat();
  const answers = pulse.answers();
  pings[0]?.fail();
  expect(await answers).toBe(true);
});
