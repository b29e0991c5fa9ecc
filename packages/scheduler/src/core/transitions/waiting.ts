/** Transitions from waiting. */
import type { Context } from "../context.ts";
import { emptySet } from "../few-set.ts";
import {
  decideWorkerNonRootish,
  decideWorkerRootishQueuingDisabled,
  decideWorkerRootishQueuingEnabled,
  isRootish,
} from "../placement.ts";
import { setState, type TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";
import { assign, leaveWaiters } from "./common.ts";

/** SchedulerState._transition_waiting_processing: where every ready task comes through. */
export function waitingProcessing(ctx: Context, ts: TaskState): void {
  const { state, recs } = ctx;
  if (isRootish(state, ts)) {
    if (state.config.workerSaturation === Number.POSITIVE_INFINITY || !ts.queueable) {
      const ws = decideWorkerRootishQueuingDisabled(state, ts);
      if (ws === undefined) recs.set(ts, State.noWorker);
      else assign(ctx, ts, ws);
    } else {
      const ws = decideWorkerRootishQueuingEnabled(state);
      if (ws === undefined) recs.set(ts, State.queued);
      else assign(ctx, ts, ws);
    }
    return;
  }
  const ws = decideWorkerNonRootish(state, ts);
  if (ws === undefined) recs.set(ts, State.noWorker);
  else assign(ctx, ts, ws);
}

/** SchedulerState._transition_waiting_released. */
export function waitingReleased(ctx: Context, ts: TaskState): void {
  const { recs } = ctx;
  for (const dts of ts.dependencies.items) {
    if (dts.waiters.has(ts)) leaveWaiters(ctx, ts, dts);
  }
  ts.waitingOn = emptySet();
  setState(ts, State.released);
  if (ts.hasLostDependencies) recs.set(ts, State.forgotten);
  else if (ts.exceptionBlame === null && (ts.whoWants.size > 0 || ts.waiters.size > 0)) recs.set(ts, State.waiting);
  else ts.waiters = emptySet();
}

/** SchedulerState._transition_waiting_queued. */
export function waitingQueued(ctx: Context, ts: TaskState): void {
  setState(ts, State.queued);
  ctx.state.queued.add(ts);
}

/** SchedulerState._transition_waiting_no_worker. */
export function waitingNoWorker(ctx: Context, ts: TaskState): void {
  setState(ts, State.noWorker);
  ctx.state.unrunnable.set(ts, ctx.now);
}

/**
 * SchedulerState._transition_waiting_memory: nothing. A task finished that the scheduler had sent back to waiting;
 * its cancellation reaches the worker shortly.
 */
export function waitingMemory(): void {}
