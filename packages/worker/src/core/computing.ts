/** Which ready tasks run now. Mirrors `_ensure_computing` and `_next_ready_task`. */
import { comparePriority } from "./priority-heap.ts";
import { EXECUTING } from "./recommendations.ts";
import type { TaskState } from "./task-state.ts";
import type { WorkerState } from "./worker-state.ts";

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
