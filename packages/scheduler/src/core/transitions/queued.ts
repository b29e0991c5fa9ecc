/** Transitions from queued. */
import type { Context, TransitionArgs } from "../context.ts";
import { decideWorkerRootishQueuingEnabled } from "../placement.ts";
import type { TaskState } from "../task-state.ts";
import { assign, propagateErred, propagateReleased } from "./common.ts";

/** SchedulerState._transition_queued_processing. */
export function queuedProcessing(ctx: Context, ts: TaskState): void {
  const ws = decideWorkerRootishQueuingEnabled(ctx.state);
  if (ws === undefined) return;
  ctx.state.queued.delete(ts);
  assign(ctx, ts, ws);
}

/** SchedulerState._transition_queued_erred. */
export function queuedErred(ctx: Context, ts: TaskState, args: TransitionArgs | undefined): void {
  ctx.state.queued.delete(ts);
  propagateErred(ctx, ts, args ?? {});
}

/** SchedulerState._transition_queued_released. */
export function queuedReleased(ctx: Context, ts: TaskState): void {
  ctx.state.queued.delete(ts);
  propagateReleased(ctx, ts);
}
