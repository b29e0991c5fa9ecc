/** What queues and variables hold: a value as it came, or a future by its key. */
import { type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { SchedulerContext } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";

export type FutureRecord =
  | { readonly type: "Future"; readonly value: Key }
  | { readonly type: "msgpack"; readonly value: Value };

const POLL_MS = 10;

/** The record for a reply, with the state of the task where it is a future. */
export function describeRecord(context: SchedulerContext, record: FutureRecord): Message {
  if (record.type === "msgpack") return { type: record.type, value: record.value };
  const ts = context.core.state.tasks.get(keyId(record.value));
  const reply: Message = { type: record.type, value: record.value, state: ts?.state ?? "lost" };
  if (ts?.state === "erred") {
    const failure = ts.exceptionBlame?.error;
    reply["exception"] = failure?.exception ?? null;
    reply["traceback"] = failure?.traceback ?? null;
  }
  return reply;
}

/**
 * A client may name a future before its graph has arrived: waits until the scheduler knows the key.
 *
 * @throws a TimeoutError after the deadline.
 */
export async function waitForKey(context: SchedulerContext, key: Key, deadline: number | null): Promise<void> {
  const id = keyId(key);
  while (!context.core.state.tasks.has(id)) {
    await context.sleep(POLL_MS);
    if (deadline !== null && context.now() > deadline) {
      throw pythonError("TimeoutError", `Task ${String(key)} unknown to scheduler.`);
    }
  }
}
