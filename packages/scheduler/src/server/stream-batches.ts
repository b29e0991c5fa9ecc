/** What the streams of clients and of workers have in common: batches of messages, and what happens where one is bad. */
import { isMessage, ProtocolError, type Value } from "@dask-ts/protocol";
import type { SchedulerContext, SchedulerExtension, StreamHandler } from "./context.ts";

/** The elements of a batch: an array, or a single message. */
export function batchOf(batch: Value, peer: string): readonly Value[] {
  if (Array.isArray(batch)) return batch;
  if (isMessage(batch)) return [batch];
  throw new ProtocolError(`a batch of ${peer} that is neither an array nor a map`);
}

/** Runs a listener; what it throws closes the peer's stream, after a line in the log. */
export function logged(
  ctx: SchedulerContext,
  peer: string,
  work: () => Promise<void> | undefined,
): Promise<void> | undefined {
  const report = (error: unknown): never => {
    ctx.log.error(`A message from ${peer} could not be handled; its stream is closed`, error);
    throw error;
  };
  try {
    return work()?.catch(report);
  } catch (error) {
    return report(error);
  }
}

/** The extensions' handlers of one kind of stream, by op. */
export function streamHandlers(
  ctx: SchedulerContext,
  side: keyof Pick<SchedulerExtension, "clientStreamHandlers" | "workerStreamHandlers">,
): ReadonlyMap<string, StreamHandler> {
  return new Map(ctx.extensions.flatMap((extension) => Object.entries(extension[side] ?? {})));
}
