/** Transitions from erred. */
import type { Value } from "@dask-ts/protocol";
import { type Context, freeOnWorker, sendToClient } from "../context.ts";
import { setState, type TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";

/** SchedulerState._transition_erred_released. */
export function erredReleased(ctx: Context, ts: TaskState): void {
  ts.error = null;
  ts.exceptionBlame = null;
  for (const dts of ts.dependents.items) if (dts.code === State.erred) ctx.recs.set(dts, State.waiting);
  if (ts.erredOn !== null) {
    for (const address of ts.erredOn) freeOnWorker(ctx, address, ts);
    ts.erredOn = null;
  }
  const message = { op: "task-retried", key: ts.key as Value };
  for (const cs of ts.whoWants.items) sendToClient(ctx, cs, message);
  setState(ts, State.released);
}
