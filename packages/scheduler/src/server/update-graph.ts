/** The stream op `update-graph`: closed bytes in, tasks in the core (Scheduler.update_graph, update-graph.md §3). */
import {
  type Key,
  type Message,
  parseTimedelta,
  ProtocolError,
  RemoteError,
  Serialized,
  asNumber,
  type Value,
} from "@dask-ts/protocol";
import type { GraphFailure, UpdateGraphRequest } from "../core/api.ts";
import type { Graph } from "../core/graph.ts";
import type { SchedulerContext } from "./context.ts";
import { pickledException } from "./exceptions.ts";
import { keysField, optionalMap, optionalString } from "./fields.ts";

/** The core takes in one graph at a time; the next waits here. */
const turns: WeakMap<SchedulerContext, Promise<void>> = new WeakMap();

/**
 * Resolves when the graph is in the core, or its failure was reported to the client.
 *
 * @throws {ProtocolError} where the message lacks its fields.
 */
export async function onUpdateGraph(ctx: SchedulerContext, client: string, message: Message): Promise<void> {
  const start = ctx.now();
  const exprSer = message["expr_ser"];
  if (!(exprSer instanceof Serialized)) throw new ProtocolError("update-graph without expr_ser");
  const keys = keysField(message, "keys");
  const stimulusId = optionalString(message, "stimulus_id") ?? `update-graph-${start}`;
  let graph: Graph;
  ctx.core.state.activeGraphUpdates++;
  try {
    const graphHost = await ctx.graphHost();
    graph = await graphHost.openGraph({
      exprSer,
      keys,
      code: message["code"] ?? null,
      annotations: message["annotations"] ?? null,
      spanMetadata: message["span_metadata"] ?? null,
    });
  } catch (error) {
    fail(ctx, client, keys, stimulusId, error);
    return;
  } finally {
    ctx.core.state.activeGraphUpdates--;
  }
  const request: UpdateGraphRequest = {
    client,
    graph,
    keys,
    internalPriority: optionalMap(message, "internal_priority"),
    submittingTask: (message["submitting_task"] ?? null) as Key | null,
    fifoTimeout: duration(message["fifo_timeout"] ?? 0),
    actors: actorsOf(message["actors"] ?? null),
    userPriority: userPriorityOf(message["user_priority"] ?? 0),
    stimulusId,
    // The generation of the tasks goes by when the graph came, not by when Python was done with it.
    start,
    materialized: ctx.now(),
  };
  const before = turns.get(ctx) ?? Promise.resolve();
  const turn = before.then(() => takeIn(ctx, client, keys, stimulusId, request));
  turns.set(ctx, turn);
  await turn;
}

/** Drives the core's generator; other peers have their turn between two steps. */
async function takeIn(
  ctx: SchedulerContext,
  client: string,
  keys: readonly Key[],
  stimulusId: string,
  request: UpdateGraphRequest,
): Promise<void> {
  try {
    const steps = ctx.apply((core, now) => core.updateGraph(request, now));
    while (!ctx.apply((_core, now) => steps.next(now)).done) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  } catch (error) {
    fail(ctx, client, keys, stimulusId, error);
  }
}

function fail(ctx: SchedulerContext, client: string, keys: readonly Key[], stimulusId: string, error: unknown): void {
  // Expected errors are in the core's line; others need their stack.
  if (!(error instanceof Error && "code" in error))
    ctx.log.error(`A task graph of ${client} could not be taken in`, error);
  const failure = failureOf(error, stimulusId);
  ctx.apply((core, now) => core.graphFailed(client, keys, failure, now));
}

function failureOf(error: unknown, stimulusId: string): GraphFailure {
  if (error instanceof RemoteError) {
    return { exception: error.exception, traceback: error.traceback, message: error.exceptionText, stimulusId };
  }
  const text = error instanceof Error ? error.message : String(error);
  return { exception: pickledException("RuntimeError", text), traceback: null, message: text, stimulusId };
}

function duration(value: Value): number {
  if (typeof value === "string") return parseTimedelta(value);
  return asNumber(value, 0);
}

function actorsOf(value: Value): boolean | readonly Key[] | null {
  if (typeof value === "boolean" || value === null) return value;
  if (Array.isArray(value)) return value as readonly Key[];
  return value instanceof Set ? ([...value] as Key[]) : null;
}

function userPriorityOf(value: Value): number | ReadonlyMap<Value, Value> {
  return value instanceof Map ? value : asNumber(value, 0);
}
