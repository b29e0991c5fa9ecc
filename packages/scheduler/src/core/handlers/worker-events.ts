/** Scheduler.log_worker_event. */
import { isMessage, type Message, type Value } from "@dask-ts/protocol";
import type { Context } from "../context.ts";
import { keep } from "../fields.ts";

/** Stream op `log-event`: `worker` is added to maps, unless the topic is the worker itself. */
export function onLogEvent(ctx: Context, worker: string, message: Message): void {
  const { topic } = message;
  const topics = Array.isArray(topic) ? (topic as readonly Value[]) : [topic ?? ""];
  for (const name of topics) {
    if (typeof name !== "string") continue;
    let content: Value = message.msg ?? null;
    if (name !== worker) {
      if (content instanceof Map)
        content = new Map<Value, Value>([...(content as Map<Value, Value>), ["worker", worker]]);
      else if (isMessage(content)) content = { ...content, worker };
    }
    ctx.outbox.event(name, keep(content));
  }
}
