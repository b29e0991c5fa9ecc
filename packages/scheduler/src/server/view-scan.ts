/** Collections that code beside the scheduler walks through: a page of keys at a time, however long they are. */
import type { Value } from "@dask-ts/protocol";
import type { Transition } from "../core/transition-log.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "./context.ts";
import { transitionRow } from "./transition-row.ts";

/** Keys of one page. */
const PAGE = 5_000;
/** Walks under way; the one that was begun first is given up for another. */
const MAX_WALKS = 64;

export interface Page {
  readonly keys: readonly Value[];
  /** Null where that was the last page. */
  readonly cursor: number | null;
}

export class Scans {
  readonly #walks: Map<number, Iterator<Value>> = new Map();
  #last = 0;

  /**
   * The first page of a collection, or with a cursor the next one. Iterators of sets and maps go on where they were,
   * whatever is added or removed meanwhile.
   *
   * @throws {RangeError} for an unknown collection, an unknown key, or a walk that was given up.
   */
  page(ctx: SchedulerContext, what: string, key: Value, cursor: number | null): Page {
    const walk = cursor === null ? keysOf(ctx, what, key)[Symbol.iterator]() : this.#walks.get(cursor);
    if (walk === undefined) throw new RangeError(`too many walks through '${what}' at once: this one was given up`);
    const keys: Value[] = [];
    while (keys.length < PAGE) {
      const next = walk.next();
      if (next.done === true) {
        if (cursor !== null) this.#walks.delete(cursor);
        return { keys, cursor: null };
      }
      keys.push(next.value);
    }
    if (cursor !== null) return { keys, cursor };
    const number = ++this.#last;
    this.#walks.set(number, walk);
    if (this.#walks.size > MAX_WALKS) this.#walks.delete(this.#walks.keys().next().value as number);
    return { keys, cursor: number };
  }
}

/** @throws {RangeError} for an unknown collection. */
export function countOf({ core: { state }, streams }: SchedulerContext, what: string): number {
  switch (what) {
    case "workers":
      return state.workers.size;
    case "tasks":
      return state.tasks.size;
    case "clients":
      return state.clients.size;
    case "task_groups":
      return state.taskGroups.size;
    case "task_prefixes":
      return state.taskPrefixes.size;
    case "client_comms":
      return streams.clients.size;
    case "stream_comms":
      return streams.workers.size;
    default:
      throw new RangeError(`the scheduler does not count '${what}'`);
  }
}

function keysOf(ctx: SchedulerContext, what: string, key: Value): Iterable<Value> {
  const { state, log } = ctx.core;
  switch (what) {
    case "workers":
      return addresses(state.workerOrder.list);
    case "idle":
      return addresses(state.idle);
    case "idle_task_count":
      return addresses([...state.running].filter((ws) => ws.openSlots > 0));
    case "running":
      return addresses(state.running);
    case "saturated":
      return addresses(state.saturated);
    case "tasks":
      return keys(state.tasks.values());
    case "queued":
      return keys(state.queued.values());
    case "replicated_tasks":
      return keys(state.replicatedTasks);
    case "clients":
      return state.clients.keys();
    case "task_groups":
      return names(state.taskGroups.values());
    case "task_prefixes":
      return state.taskPrefixes.keys();
    case "client_comms":
      return ctx.streams.clients.keys();
    case "stream_comms":
      return ctx.streams.workers.keys();
    case "transition_log":
      return rows(log.walk());
  }
  const [kind, field] = what.split(".");
  if (kind === "worker") {
    const ws = state.workers.get(String(key)) ?? unknown("worker", key);
    if (field === "processing") return keys(ws.processing);
    if (field === "long_running") return keys(ws.longRunning);
    if (field === "has_what") return keys(ws.hasWhat);
    if (field === "actors") return keys(ws.actors);
  } else if (kind === "task") {
    const ts = state.taskOf(key) ?? unknown("task", key);
    if (field === "dependencies") return keys(ts.dependencies.items);
    if (field === "dependents") return keys(ts.dependents.items);
    if (field === "waiting_on") return keys(ts.waitingOn.items);
    if (field === "waiters") return keys(ts.waiters.items);
  } else if (what === "client.wants_what") {
    return keys((state.clients.get(String(key)) ?? unknown("client", key)).wantsWhat);
  } else if (what === "prefix.groups") {
    return names((state.taskPrefixes.get(String(key)) ?? unknown("prefix", key)).groups);
  }
  throw new RangeError(`the scheduler has no collection '${what}'`);
}

function* rows(entries: Iterable<Transition>): Generator<Value> {
  for (const entry of entries) yield transitionRow(entry);
}

function* addresses(workers: Iterable<WorkerState>): Generator<Value> {
  for (const ws of workers) yield ws.address;
}

function* keys(tasks: Iterable<{ readonly key: unknown }>): Generator<Value> {
  for (const ts of tasks) yield ts.key as Value;
}

function* names(groups: Iterable<{ readonly name: unknown }>): Generator<Value> {
  for (const group of groups) yield group.name as Value;
}

function unknown(kind: string, key: Value): never {
  throw new RangeError(`the scheduler knows no ${kind} ${String(key)} any more`);
}
