/**
 * How many workers a service should have: what the scheduler wishes for, within limits, down only when it has wished
 * for less several times in a row (distributed.deploy.adaptive_core.AdaptiveCore.recommendations). Pure.
 */

export interface ScalingLimits {
  readonly minimum: number;
  readonly maximum: number;
  /** A lower wish counts when it has been seen this often in a row (`distributed.adaptive.wait-count`). */
  readonly waitCount: number;
}

export interface Observation {
  /** The scheduler's `adaptive_target`. */
  readonly wish: number;
  /** Tasks that the service is to run now. */
  readonly desired: number;
}

/** What is remembered between two looks: the wishes for less, of the last looks in a row. */
export interface ScalingMemory {
  readonly lower: readonly number[];
}

export const NOTHING_SEEN: ScalingMemory = { lower: [] };

export type Decision =
  | { readonly kind: "stay" }
  | { readonly kind: "grow"; readonly desired: number }
  | { readonly kind: "shrink"; readonly desired: number };

/** @returns what to do, and what to remember for the next look. */
export function decide(
  { wish, desired }: Observation,
  limits: ScalingLimits,
  memory: ScalingMemory,
): { readonly decision: Decision; readonly memory: ScalingMemory } {
  const target = Math.max(limits.minimum, Math.min(limits.maximum, Math.ceil(wish)));
  if (target > desired) return { decision: { kind: "grow", desired: target }, memory: NOTHING_SEEN };
  if (target === desired) return { decision: { kind: "stay" }, memory: NOTHING_SEEN };
  const lower = [...memory.lower, target];
  if (lower.length < limits.waitCount) return { decision: { kind: "stay" }, memory: { lower } };
  // The highest of the low wishes: what one of them still asked for may be asked for again.
  return { decision: { kind: "shrink", desired: Math.max(...lower) }, memory: NOTHING_SEEN };
}

/** @throws {RangeError} where no number of workers could be right. */
export function checkLimits({ minimum, maximum, waitCount }: ScalingLimits): void {
  if (minimum > maximum) throw new RangeError(`the minimum of ${minimum} workers is above the maximum of ${maximum}`);
  if (maximum < 1) throw new RangeError("a maximum of 0 workers leaves nothing to scale");
  if (waitCount < 1) throw new RangeError("the wait count is at least 1");
}
