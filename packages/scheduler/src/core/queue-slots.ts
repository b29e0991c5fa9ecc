/** Scheduler.stimulus_queue_slots_maybe_opened. */
import type { Context } from "./context.ts";
import { State } from "./task-status.ts";
import { drain } from "./transitions/engine.ts";

/**
 * Sends as many queued tasks to workers as there are open slots. To be called when all other transitions of the
 * event are done, so that tasks which became runnable meanwhile have gone first.
 */
export function queueSlotsMaybeOpened(ctx: Context): void {
  const { queued } = ctx.state;
  if (queued.size === 0) return;
  for (let slots = ctx.state.openSlots; slots > 0; slots--) {
    const ts = queued.peek();
    if (ts === undefined) return;
    ctx.recs.set(ts, State.processing);
    drain(ctx);
    if (queued.peek() === ts) return;
  }
}
