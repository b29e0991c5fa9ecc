/** Transitions out of memory. */
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { genericReleased } from "./generic.ts";

/** The scheduler hears of it even where it gave the order. */
export function memoryReleased(s: WorkerState, ts: TaskState): void {
  s.nbytes -= ts.nbytes ?? 0;
  genericReleased(s, ts);
  s.sendAboutKey("release-worker-data", ts);
}
