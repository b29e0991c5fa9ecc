/** What suggests replicas to make and to drop (distributed.active_memory_manager.ActiveMemoryManagerPolicy). */
import type { Context } from "../context.ts";
import type { Suggestions } from "./suggestions.ts";

export interface AmmPolicy {
  readonly name: string;
  /** One run. @returns false where the policy has nothing left to do and is to be removed. */
  run(ctx: Context, suggestions: Suggestions): boolean;
}
