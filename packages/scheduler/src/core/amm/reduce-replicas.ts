/** Drops replicas of which there are more than dependents can use (distributed.active_memory_manager.ReduceReplicas). */
import type { Context } from "../context.ts";
import type { TaskState } from "../task-state.ts";
import type { AmmPolicy } from "./policy.ts";
import type { Suggestions } from "./suggestions.ts";

/** From this many dependents on, each counts as being on a worker of its own. */
const MANY_WAITERS = 20;

export class ReduceReplicas implements AmmPolicy {
  readonly name = "ReduceReplicas";

  run({ state }: Context, suggestions: Suggestions): boolean {
    for (const ts of state.replicatedTasks) {
      const surplus =
        ts.whoHas.size - desiredReplicas(ts) + suggestions.pendingReplicas(ts) - suggestions.pendingDrops(ts);
      for (let i = 0; i < surplus; i++) if (suggestions.drop(ts) === undefined) break;
    }
    return true;
  }
}

/** One, or one for each worker that needs it; a dependent without worker may come to another one. */
function desiredReplicas(ts: TaskState): number {
  const waiters = ts.waiters.items;
  if (waiters.length <= 1 || waiters.length >= MANY_WAITERS) return Math.max(1, waiters.length);
  return new Set(waiters.map((waiter) => waiter.processingOn ?? waiter)).size;
}
