/** Which ready tasks run now. Mirrors `_ensure_computing` and `_next_ready_task`. */
import { comparePriority } from "./priority-heap.ts";
import { EXECUTING } from "./recommendations.ts";
import type { TaskState } from "./task-state.ts";
import type { WorkerState } from "./worker-state.ts";

/** What is handed over beside the tasks that have a thread takes about so long on one of them, seconds; and is so much. */
const AHEAD_S = 0.01;
const MAX_AHEAD = 64;

/** Gives free threads to ready tasks: takes them from the heaps, books their resources, recommends executing. */
export function ensureComputing(s: WorkerState): void {
  if (!s.running) return;
  while (s.executing.size < s.nthreads) {
    const ts = nextReadyTask(s);
    if (ts === undefined) return;
    s.recommendations.set(ts, EXECUTING);
    s.acquireResources(ts);
    s.executing.add(ts);
  }
  lookAhead(s);
}

/**
 * Hands over tiny tasks before a thread is free, so that a thread that ends one finds the next: they travel together,
 * there and back, where each would cost a message of its own. Not in the original. They count as executing, so they are
 * not stolen; what a thread does not reach soon comes back by a `recalled` event.
 */
function lookAhead(s: WorkerState): void {
  if (s.aheadSuspended || s.constrained.peek() !== undefined) return;
  for (let ahead = s.executing.size - s.nthreads + 1; ahead <= MAX_AHEAD; ahead++) {
    const ts = s.ready.peek();
    if (ts === undefined || ts.prefix.averageRunS * ahead > AHEAD_S || ts.actor || inOtherExecutor(ts)) return;
    s.ready.pop();
    s.recommendations.set(ts, EXECUTING);
    s.executing.add(ts);
  }
}

function inOtherExecutor({ annotations }: TaskState): boolean {
  return annotations instanceof Map && annotations.has("executor");
}

/** Takes the first task of `ready` or `constrained`. Only the head of `constrained` counts: nothing overtakes it. */
function nextReadyTask(s: WorkerState): TaskState | undefined {
  const constrained = s.constrained.peek();
  if (constrained === undefined) return s.ready.pop();
  const ready = s.ready.peek();
  if (ready !== undefined && comparePriority(constrained.priority ?? [], ready.priority ?? []) >= 0)
    return s.ready.pop();
  if (s.resourcesAvailable(constrained)) return s.constrained.pop();
  return ready === undefined ? undefined : s.ready.pop();
}
