import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkLimits, decide, NOTHING_SEEN, type ScalingLimits, type ScalingMemory } from "../../src/scaling/decide.ts";

const limits: ScalingLimits = { minimum: 1, maximum: 10, waitCount: 3 };

/** The decisions for wishes one after the other, the service following each at once. */
function follow(wishes: readonly number[], start: number, own: ScalingLimits = limits): number[] {
  let memory: ScalingMemory = NOTHING_SEEN;
  let desired = start;
  return wishes.map((wish) => {
    const next = decide({ wish, desired }, own, memory);
    memory = next.memory;
    if (next.decision.kind !== "stay") desired = next.decision.desired;
    return desired;
  });
}

describe("decide", () => {
  test("grows at once, to the limit", () => {
    expect(follow([4], 2)).toEqual([4]);
    expect(follow([400], 2)).toEqual([10]);
    expect(follow([Number.POSITIVE_INFINITY], 2)).toEqual([10]);
  });

  test("shrinks after as many low wishes in a row as it is told to wait for", () => {
    expect(follow([2, 2, 2], 8)).toEqual([8, 8, 2]);
    expect(follow([0, 0, 0], 8)).toEqual([8, 8, 1]);
  });

  test("a wish in between that is not lower starts the count anew", () => {
    expect(follow([2, 2, 8, 2, 2, 2], 8)).toEqual([8, 8, 8, 8, 8, 2]);
    expect(follow([2, 2, 9, 2, 2, 2], 8)).toEqual([8, 8, 9, 9, 9, 2]);
  });

  test("shrinks to the highest of the low wishes", () => {
    expect(follow([2, 5, 3], 8)).toEqual([8, 8, 5]);
  });

  test("brings a service that stands outside of its limits back inside", () => {
    expect(follow([3], 0)).toEqual([3]);
    expect(follow([20, 20, 20], 15)).toEqual([15, 15, 10]);
  });

  test("a scheduler that is still reached by nobody gets the minimum", () => {
    expect(follow([0], 0)).toEqual([1]);
    expect(follow([0], 0, { ...limits, minimum: 0 })).toEqual([0]);
  });

  test("never leaves the limits, and never shrinks below what was wished for in the meantime", () => {
    const wish = fc.oneof(fc.nat(30), fc.double({ min: 0, max: 30, noNaN: true }));
    fc.assert(
      fc.property(fc.array(wish, { maxLength: 30 }), fc.integer({ min: 1, max: 10 }), (wishes, start) => {
        const desired = [start, ...follow(wishes, start)];
        for (const [at, count] of desired.entries()) {
          expect(count).toBeGreaterThanOrEqual(limits.minimum);
          expect(count).toBeLessThanOrEqual(limits.maximum);
          if (at === 0 || count >= desired[at - 1]!) continue;
          const last = wishes.slice(at - limits.waitCount, at);
          expect(last).toHaveLength(limits.waitCount);
          expect(count).toBeGreaterThanOrEqual(Math.min(limits.maximum, Math.max(...last)));
        }
      }),
    );
  });
});

test("limits that no number of workers meets are refused", () => {
  expect(() => checkLimits({ ...limits, minimum: 11 })).toThrow(/minimum of 11 workers is above/);
  expect(() => checkLimits({ ...limits, minimum: 0, maximum: 0 })).toThrow(/nothing to scale/);
  expect(() => checkLimits({ ...limits, waitCount: 0 })).toThrow(/at least 1/);
});
