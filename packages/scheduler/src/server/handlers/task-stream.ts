/** RPC ops of the task stream: `get_task_stream`, `get_task_stream_index`. */
import { asNumber, parseTimedelta, type RpcHandlers, type Value } from "@dask-ts/protocol";
import type { SchedulerContext } from "../context.ts";
import { optionalNumber } from "../fields.ts";
import { taskStream } from "../task-stream.ts";

export function taskStreamHandlers(ctx: SchedulerContext): RpcHandlers {
  return {
    get_task_stream: (fields) =>
      taskStream(ctx).collect({
        start: moment(fields["start"] ?? null, ctx.now()),
        stop: moment(fields["stop"] ?? null, ctx.now()),
        count: optionalNumber(fields, "count"),
        startIndex: optionalNumber(fields, "start_index"),
      }),
    get_task_stream_index: () => taskStream(ctx).index,
  };
}

/** A time in seconds, or a text that says how long ago. */
function moment(value: Value, now: number): number | null {
  if (value === null) return null;
  return typeof value === "string" ? now - parseTimedelta(value) : asNumber(value, 0);
}
