/** Scheduler.restart, up to the restart of the workers. */
import type { Context } from "./context.ts";
import { beginEvent } from "./event.ts";
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
  // Data that nobody wanted (scattered without a client).
  for (const ts of Array.from(state.tasks.values())) if (ts.pins === 0) ctx.recs.set(ts, State.forgotten);
  drain(ctx);
  state.unrunnable.clear();
  state.erredTasks.length = 0;
  state.computations.length = 0;
  state.taskPrefixes.clear();
  state.taskGroups.clear();
  state.taskMetadata.clear();
  state.replicatedTasks.clear();
  reportToAll(ctx, { op: "restart" });
  for (const listener of ctx.listeners.restart) listener(now);
}
