/** Transitions from memory. */
import type { Value } from "@dask-ts/protocol";
import { type Context, freeOnHolders, sendToClient } from "../context.ts";
import { emptySet } from "../few-set.ts";
import { removeAllReplicas } from "../occupancy.ts";
import { setState, type TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";
import { forget, propagateErred } from "./common.ts";
import { releasedErred } from "./released.ts";

const ACTOR_LOST = "Worker holding Actor was lost";

/** SchedulerState._transition_memory_released. */
export function memoryReleased(ctx: Context, ts: TaskState): void {
  const { state, recs } = ctx;
  if (ts.actor) {
    leaveActors(ts);
    if (ts.whoWants.size > 0) {
      // An actor is not computed again.
      ts.exceptionBlame = ts;
      recs.set(ts, State.erred);
      return;
    }
  }
  if (ts.whoHas.size > 0) {
    freeOnHolders(ctx, ts);
    removeAllReplicas(state, ts);
  }
  setState(ts, State.released);
  if (ts.whoWants.size > 0) {
    const message = { op: "lost-data", key: ts.key as Value };
    for (const cs of ts.whoWants.items) sendToClient(ctx, cs, message);
  }
  if (ts.runSpec === null || ts.hasLostDependencies) {
    recs.set(ts, State.forgotten);
  } else if (ts.whoWants.size > 0 || ts.waiters.size > 0) {
    const erred = erredDependency(ts);
    if (erred === undefined) {
      recs.set(ts, State.waiting);
    } else {
      // It cannot be computed again. Dask leaves it released, and the client waiting.
      ts.exceptionBlame = erred.exceptionBlame;
      recs.set(ts, State.erred);
    }
  }
  for (const dts of ts.waiters.items) {
    if (dts.code === State.waiting) dts.waitingOn = dts.waitingOn.plus(ts);
    else if (dts.code === State.noWorker || dts.code === State.processing || dts.code === State.queued) {
      // Not where it is to leave anyway: it may not be needed any more, and would be computed for nobody.
      const { recommended } = dts;
      const leaves = recommended === State.released || recommended === State.forgotten || recommended === State.erred;
      if (!leaves) recs.set(dts, State.waiting);
    }
  }
}

function erredDependency(ts: TaskState): TaskState | undefined {
  for (const dts of ts.dependencies.items) if (dts.code === State.erred) return dts;
  return undefined;
}

/**
 * SchedulerState._transition_memory_erred: the worker that held an actor was lost. Or the last holder of a result was, and in
 * the same event something that it would have to be computed from again has erred; Dask then says that an actor was lost.
 */
export function memoryErred(ctx: Context, ts: TaskState): void {
  freeOnHolders(ctx, ts);
  leaveActors(ts);
  removeAllReplicas(ctx.state, ts);
  if (!ts.actor && ts.exceptionBlame !== null) {
    ts.waiters = emptySet();
    releasedErred(ctx, ts);
    return;
  }
  for (const dts of ts.dependents.items) {
    if (dts.whoHas.size > 0) continue;
    dts.exceptionBlame = ts;
    ctx.recs.set(dts, State.erred);
  }
  propagateErred(ctx, ts, {
    cause: ts,
    exception: ctx.config.makeException({ kind: "RuntimeError", message: ACTOR_LOST }),
  });
}

/** SchedulerState._transition_memory_forgotten. */
export function memoryForgotten(ctx: Context, ts: TaskState): void {
  if (ts.actor) leaveActors(ts);
  forget(ctx, ts);
}

function leaveActors(ts: TaskState): void {
  for (const ws of ts.whoHas.items) ws.actors.delete(ts);
}
