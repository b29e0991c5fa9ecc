/** Transitions from released. */
import { type Context, sendToClient } from "../context.ts";
import { emptySet, FewSet } from "../few-set.ts";
import { taskErred } from "../messages.ts";
import { setState, type TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";
import { forget, settleErred } from "./common.ts";

/** SchedulerState._transition_released_waiting. */
export function releasedWaiting(ctx: Context, ts: TaskState): void {
  const { recs } = ctx;
  if (ts.hasLostDependencies) {
    recs.set(ts, State.forgotten);
    return;
  }
  // Pure data, or a task whose graph is still being taken in.
  if (ts.runSpec === null) return;
  setState(ts, State.waiting);

  const dependencies = ts.dependencies.items;
  let missing: TaskState[] | undefined;
  for (let i = 0; i < dependencies.length; i++) {
    const dts = dependencies[i] as TaskState;
    if (dts.whoHas.size === 0) {
      if (missing === undefined) missing = [dts];
      else missing.push(dts);
    }
    if (dts.code === State.released) {
      // Lost for good: it will be forgotten, and this one with it. (In Dask it would wait for ever.)
      if (dts.recommended !== State.forgotten) recs.set(dts, State.waiting);
    } else {
      dts.waiters = dts.waiters.plus(ts);
      if (dts.code === State.erred) recs.waitingOnErred.push(ts);
    }
  }
  ts.waitingOn = missing === undefined ? emptySet() : new FewSet(missing);

  const dependents = ts.dependents.items;
  let waiters: TaskState[] | undefined;
  for (let i = 0; i < dependents.length; i++) {
    const dts = dependents[i] as TaskState;
    if (dts.code !== State.waiting) continue;
    if (waiters === undefined) waiters = [dts];
    else waiters.push(dts);
  }
  ts.waiters = waiters === undefined ? emptySet() : new FewSet(waiters);

  if (missing === undefined) recs.set(ts, State.processing);
}

/** SchedulerState._transition_released_erred. */
export function releasedErred(ctx: Context, ts: TaskState): void {
  const failing = ts.exceptionBlame ?? ts;
  for (const dts of ts.dependents.items) {
    if (dts.whoHas.size > 0) continue;
    dts.exceptionBlame = failing;
    ctx.recs.set(dts, State.erred);
  }
  const message = taskErred(ts, failing);
  for (const cs of ts.whoWants.items) sendToClient(ctx, cs, message);
  setState(ts, State.erred);
  settleErred(ctx, ts);
}

/** SchedulerState._transition_released_forgotten. */
export function releasedForgotten(ctx: Context, ts: TaskState): void {
  forget(ctx, ts);
}
