/** The end of Scheduler.update_graph where the graph could not be opened. */
import { type Key, keyId, type Value } from "@dask-ts/protocol";
import type { GraphFailure } from "./api.ts";
import type { Context } from "./context.ts";
import { beginEvent } from "./event.ts";
import { reportToClient, reportToWanting } from "./report.ts";

export function graphFailed(
  ctx: Context,
  client: string,
  keys: readonly Key[],
  failure: GraphFailure,
  now: number,
): void {
  const stimulusId = failure.stimulusId ?? `update-graph-${now}`;
  beginEvent(ctx, stimulusId, now);
  const event = new Map<Value, Value>([
    ["action", "update-graph"],
    ["stimulus_id", stimulusId],
    ["status", "error"],
  ]);
  ctx.outbox.event("scheduler", event);
  ctx.outbox.event(client, event);
  ctx.outbox.log("error", failure.message);
  for (const key of keys) {
    const message = {
      op: "task-erred",
      key: key as Value,
      exception: failure.exception,
      traceback: failure.traceback,
    };
    const ts = ctx.state.tasks.get(keyId(key));
    if (ts === undefined) reportToClient(ctx, client, message);
    else reportToWanting(ctx, ts, message, client);
  }
}
