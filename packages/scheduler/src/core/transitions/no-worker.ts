/** Transitions from no-worker. */
import type { Context, TransitionArgs } from "../context.ts";
import { decideWorkerNonRootish } from "../placement.ts";
import type { TaskState } from "../task-state.ts";
import { assign, propagateErred, propagateReleased } from "./common.ts";

/** SchedulerState._transition_no_worker_processing. */
export function noWorkerProcessing(ctx: Context, ts: TaskState): void {
  const ws = decideWorkerNonRootish(ctx.state, ts);
  if (ws === undefined) return;
  ctx.state.unrunnable.delete(ts);
  assign(ctx, ts, ws);
}

/** SchedulerState._transition_no_worker_erred. */
export function noWorkerErred(ctx: Context, ts: TaskState, args: TransitionArgs | undefined): void {
  ctx.state.unrunnable.delete(ts);
  propagateErred(ctx, ts, args ?? {});
}

/** SchedulerState._transition_no_worker_released. */
export function noWorkerReleased(ctx: Context, ts: TaskState): void {
  ctx.state.unrunnable.delete(ts);
  propagateReleased(ctx, ts);
}
