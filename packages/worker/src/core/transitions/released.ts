/** Transitions out of released. */
import { FORGOTTEN } from "../recommendations.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { assert, type Transition, toMemory } from "./generic.ts";

/** By `update_data` (scatter): no message, since the scheduler does not know the key yet. */
export const releasedMemory: Transition = (s, ts, to) => toMemory(s, ts, to, null);

/** The scheduler releases dependents first. */
export function releasedForgotten(s: WorkerState, ts: TaskState): void {
  if (s.validate) for (const dependent of ts.dependents) assert(dependent.state === "forgotten", s, ts, "forgotten");
  for (const dependency of ts.dependencies) {
    dependency.dependents.delete(ts);
    if (dependency.state === "released" && dependency.dependents.size === 0) {
      s.recommendations.set(dependency, FORGOTTEN);
    }
  }
  s.purge(ts);
  s.setState(ts, "forgotten");
  s.tasks.delete(ts.id);
}
