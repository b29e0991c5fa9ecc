/** Scheduler.restart, up to the restart of the workers. */
import type { Context } from "./context.ts";
import { beginEvent } from "./event.ts";
import { queueSlotsMaybeOpened } from "./queue-slots.ts";
import { State } from "./task-status.ts";
import { clientReleases } from "./transitions/common.ts";
import { drain } from "./transitions/engine.ts";
import { reportToAll } from "./report.ts";

export function restart(ctx: Context, now: number, stimulusId: string): void {
  const { state } = ctx;
  beginEvent(ctx, stimulusId, now);
  ctx.outbox.log("info", `Restarting workers and releasing all keys (stimulus_id='${stimulusId}')`);
  for (const cs of state.clients.values()) {
    for (const ts of Array.from(cs.wantsWhat)) clientReleases(ctx, ts, cs);
    drain(ctx);
  }
  // Graphs that came before end at their next step; what they have touched is forgotten then.
  state.restartedAt = now;
  // Data that nobody wanted (scattered without a client).
  for (const ts of Array.from(state.tasks.values())) if (ts.pins === 0) ctx.recs.set(ts, State.forgotten);
  drain(ctx);
  queueSlotsMaybeOpened(ctx);
  state.erredTasks.length = 0;
  state.computations.length = 0;
  for (const [name, prefix] of state.taskPrefixes) if (prefix.groups.size === 0) state.taskPrefixes.delete(name);
  state.taskMetadata.clear();
  reportToAll(ctx, { op: "restart" });
  for (const listener of ctx.listeners.restart) listener(now);
}
