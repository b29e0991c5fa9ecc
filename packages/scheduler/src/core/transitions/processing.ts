/** Transitions from processing. */
import { asNumber, formatKey } from "@dask-ts/protocol";
import { type Context, freeOnWorker, type TransitionArgs } from "../context.ts";
import { InvalidTransitionError } from "../errors.ts";
import { addDuration, setNbytes } from "../occupancy.ts";
import type { TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";
import { addToMemory, exitProcessing, propagateErred, propagateReleased } from "./common.ts";

/** SchedulerState._transition_processing_memory. */
export function processingMemory(ctx: Context, ts: TaskState, args: TransitionArgs | undefined): void {
  const { state } = ctx;
  const ws = args?.worker === undefined ? undefined : state.workers.get(args.worker);
  if (args === undefined || ws === undefined) {
    ctx.recs.set(ts, State.released);
    return;
  }
  if (ws !== ts.processingOn) {
    throw new InvalidTransitionError(
      `Task ${formatKey(ts.key)} transitioned from processing to memory on worker ${ws.address}, while it was ` +
        `expected from ${ts.processingOn?.address}`,
      ctx.log.story([ts.key]),
    );
  }
  if (args.startstops !== undefined) {
    for (const startstop of args.startstops) {
      if (!(startstop instanceof Map)) continue;
      const action = startstop.get("action");
      if (typeof action !== "string") continue;
      addDuration(state, ts.group, action, asNumber(startstop.get("start"), 0), asNumber(startstop.get("stop"), 0));
    }
  }
  setNbytes(state, ts, args.nbytes ?? state.config.defaultDataSize);
  exitProcessing(ctx, ts);
  addToMemory(ctx, ts, ws, args);
}

/** SchedulerState._transition_processing_erred. */
export function processingErred(ctx: Context, ts: TaskState, args: TransitionArgs | undefined): void {
  if (ts.actor) ts.processingOn?.actors.delete(ts);
  const ws = exitProcessing(ctx, ts);
  // Not by its own error, but as an actor is lost that it needs: its worker does not know. Dask does not tell it.
  if (ws !== undefined && ws.address !== args?.worker) freeOnWorker(ctx, ws.address, ts);
  propagateErred(ctx, ts, args ?? {});
}

/** SchedulerState._transition_processing_released. */
export function processingReleased(ctx: Context, ts: TaskState): void {
  const ws = exitProcessing(ctx, ts);
  if (ws !== undefined) freeOnWorker(ctx, ws.address, ts);
  if (ts.actor) ws?.actors.delete(ts);
  propagateReleased(ctx, ts);
}
