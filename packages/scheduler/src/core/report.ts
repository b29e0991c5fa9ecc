/** Scheduler.report and report_on_key: telling clients. */
import { type Key, keyId, type Message } from "@dask-ts/protocol";
import { type Context, sendToClient } from "./context.ts";
import { taskReport } from "./messages.ts";
import type { TaskState } from "./task-state.ts";

/** To all who want the task, and to `client`, who may not be among them yet. */
export function reportToWanting(ctx: Context, ts: TaskState, message: Message, client: string | null): void {
  for (const cs of ts.whoWants.items) if (cs.client !== client) sendToClient(ctx, cs, message);
  if (client !== null) reportToClient(ctx, client, message);
}

export function reportToClient(ctx: Context, client: string, message: Message): void {
  const cs = ctx.state.clients.get(client);
  if (cs !== undefined) sendToClient(ctx, cs, message);
}

export function reportToAll(ctx: Context, message: Message): void {
  for (const cs of ctx.state.clients.values()) sendToClient(ctx, cs, message);
}

/** Resends the state of a task that is in memory or erred. */
export function reportTask(ctx: Context, ts: TaskState, client: string | null): void {
  const message = taskReport(ts);
  if (message !== undefined) reportToWanting(ctx, ts, message, client);
}

export function reportKey(ctx: Context, key: Key, client: string | null): void {
  const ts = ctx.state.tasks.get(keyId(key));
  if (ts !== undefined) reportTask(ctx, ts, client);
  else {
    const message: Message = { op: "cancelled-keys", keys: [key] };
    if (client === null) reportToAll(ctx, message);
    else reportToClient(ctx, client, message);
  }
}
