/**
 * Asks workers to copy and to drop data in memory, as its policies suggest
 * (distributed.active_memory_manager.ActiveMemoryManagerExtension). A move takes two runs: a copy, then a drop.
 */
import type { Context } from "../context.ts";
import { beginEvent } from "../event.ts";
import { memoryMeasure } from "../rebalance.ts";
import { validateState } from "../validate.ts";
import type { AmmPolicy } from "./policy.ts";
import { Suggestions } from "./suggestions.ts";

export class ActiveMemoryManager {
  readonly policies: Set<AmmPolicy> = new Set();
  readonly #ctx: Context;
  readonly #measure: string;

  /**
   * @param measure attribute of distributed.scheduler.MemoryState by which workers are compared.
   * @throws {RangeError} where there is no such measure.
   */
  constructor(ctx: Context, measure: string) {
    memoryMeasure({ process: 0, managed: 0, spilled: 0, unmanagedOld: 0 }, measure);
    this.#ctx = ctx;
    this.#measure = measure;
  }

  /**
   * ActiveMemoryManagerExtension.run_once.
   *
   * @returns what has been suggested, for policies that run later elsewhere; then `enact` is to be called.
   */
  runOnce(now: number): Suggestions {
    const ctx = this.#ctx;
    const stimulusId = `active_memory_manager-${now}`;
    beginEvent(ctx, stimulusId, now);
    const suggestions = new Suggestions(ctx, this.#measure);
    for (const policy of this.policies) {
      if (!policy.run(ctx, suggestions)) this.policies.delete(policy);
    }
    suggestions.enact(stimulusId);
    if (ctx.config.validate) validateState(ctx);
    return suggestions;
  }

  /** Has workers do what was suggested since the last time. */
  enact(suggestions: Suggestions, now: number): void {
    const ctx = this.#ctx;
    const stimulusId = `active_memory_manager-${now}`;
    beginEvent(ctx, stimulusId, now);
    suggestions.enact(stimulusId);
    if (ctx.config.validate) validateState(ctx);
  }
}
