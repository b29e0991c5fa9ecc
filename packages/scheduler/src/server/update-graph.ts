/** The stream op `update-graph`: closed bytes in, tasks in the core (Scheduler.update_graph, update-graph.md §3). */
import {
  ClosedMap,
  ClosedSet,
  isKey,
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
import { Graphs } from "./native-graphs.ts";
import { inSlices } from "./slices.ts";
import { keysField, optionalMap, optionalString } from "./fields.ts";

interface Intake {
  readonly graphs: Graphs;
  /** The core takes in one graph at a time; the next waits for this. */
  last: Promise<void> | undefined;
}

const intakes: WeakMap<SchedulerContext, Intake> = new WeakMap();

function intakeOf(ctx: SchedulerContext): Intake {
  let intake = intakes.get(ctx);
  if (intake === undefined) {
    intake = { graphs: new Graphs(ctx), last: undefined };
    intakes.set(ctx, intake);
  }
  return intake;
}

/**
 * Takes in the graph, or reports its failure to the client; at once where it is small and needs no Python. A promise
 * resolves when that is done.
 *
 * @throws {ProtocolError} where the message lacks its fields.
 */
export function onUpdateGraph(ctx: SchedulerContext, client: string, message: Message): Promise<void> | undefined {
  const start = ctx.now();
  const exprSer = message["expr_ser"];
  if (!(exprSer instanceof Serialized)) throw new ProtocolError("update-graph without expr_ser");
  const wanted = message["keys"];
  const priority = message["internal_priority"];
  if (!(wanted instanceof ClosedSet || priority instanceof ClosedMap)) {
    return open(ctx, client, message, exprSer, keysField(message, "keys"), start);
  }
  return inSlices(readLarge(message)).then(({ keys, open: opened }) => open(ctx, client, opened, exprSer, keys, start));
}

/** Decodes what is closed for its size, with pauses. */
function* readLarge(message: Message): Generator<undefined, { readonly keys: readonly Key[]; readonly open: Message }> {
  const wanted = message["keys"];
  const keys = wanted instanceof ClosedSet ? yield* readKeys(wanted) : keysField(message, "keys");
  const priority = message["internal_priority"];
  if (!(priority instanceof ClosedMap)) return { keys, open: message };
  const ranks = new Map<Value, Value>();
  for (const [key, rank] of priority) {
    ranks.set(key, rank);
    if (ranks.size % 256 === 0) yield;
  }
  return { keys, open: { ...message, internal_priority: ranks } };
}

function* readKeys(wanted: ClosedSet): Generator<undefined, readonly Key[]> {
  const keys: Key[] = [];
  for (const key of wanted) {
    if (!isKey(key)) throw new ProtocolError("'keys' holds something that is no task key");
    keys.push(key);
    if (keys.length % 256 === 0) yield;
  }
  return keys;
}

function open(
  ctx: SchedulerContext,
  client: string,
  message: Message,
  exprSer: Serialized,
  keys: readonly Key[],
  start: number,
): Promise<void> | undefined {
  const intake = intakeOf(ctx);
  const update: Update = {
    ctx,
    intake,
    client,
    keys,
    stimulusId: optionalString(message, "stimulus_id") ?? `update-graph-${start}`,
    start,
    fields: {
      internalPriority: optionalMap(message, "internal_priority"),
      submittingTask: (message["submitting_task"] ?? null) as Key | null,
      fifoTimeout: duration(message["fifo_timeout"] ?? 0),
      actors: actorsOf(message["actors"] ?? null),
      userPriority: userPriorityOf(message["user_priority"] ?? 0),
    },
  };
  let opened: Graph | Promise<Graph>;
  try {
    opened = intake.graphs.open(client, {
      exprSer,
      keys,
      code: message["code"] ?? null,
      annotations: message["annotations"] ?? null,
      spanMetadata: message["span_metadata"] ?? null,
    });
  } catch (error) {
    fail(ctx, client, keys, update.stimulusId, error);
    return undefined;
  }
  return opened instanceof Promise ? openedLater(update, opened) : takeIn(update, opened);
}

/** One `update-graph`. */
interface Update {
  readonly ctx: SchedulerContext;
  readonly intake: Intake;
  readonly client: string;
  readonly keys: readonly Key[];
  readonly stimulusId: string;
  /** When it came. The generation of its tasks goes by this, not by when the graph was opened. */
  readonly start: number;
  readonly fields: Omit<UpdateGraphRequest, "client" | "graph" | "keys">;
}

async function openedLater(update: Update, opened: Promise<Graph>): Promise<void> {
  const { ctx, client, keys, stimulusId } = update;
  let graph: Graph;
  ctx.core.state.activeGraphUpdates++;
  try {
    graph = await opened;
  } catch (error) {
    fail(ctx, client, keys, stimulusId, error);
    return;
  } finally {
    ctx.core.state.activeGraphUpdates--;
  }
  await takeIn(update, graph);
}

/** Gives the graph to the core, when those before it are in. */
function takeIn(update: Update, graph: Graph): Promise<void> | undefined {
  const { intake } = update;
  const before = intake.last;
  const materialized = update.ctx.now();
  const next = (): Promise<void> | undefined => drive(update, graph, materialized);
  const turn = before === undefined ? next() : before.then(next, next);
  if (turn === undefined) return undefined;
  const last = turn.then(() => {
    if (intake.last === last) intake.last = undefined;
  });
  intake.last = last;
  return last;
}

/** Drives the core's generator; other peers have their turn between two steps. */
function drive(update: Update, graph: Graph, materialized: number): Promise<void> | undefined {
  const { ctx, client, keys, stimulusId, start, fields } = update;
  ctx.measures.graphTasks.observe(graph.keys.length);
  try {
    const request: UpdateGraphRequest = { ...fields, client, graph, keys, stimulusId, start, materialized };
    const steps = ctx.apply((core, now) => core.updateGraph(request, now));
    if (ctx.apply((_core, now) => steps.next(now)).done) return undefined;
    return goOn(update, steps);
  } catch (error) {
    fail(ctx, client, keys, stimulusId, error);
    return undefined;
  }
}

async function goOn(update: Update, steps: Generator<unknown, unknown, number>): Promise<void> {
  const { ctx } = update;
  try {
    do await new Promise((resolve) => setImmediate(resolve));
    while (!ctx.apply((_core, now) => steps.next(now)).done);
  } catch (error) {
    fail(ctx, update.client, update.keys, update.stimulusId, error);
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
