/** One task as the worker knows it. Mirrors `distributed.worker_state_machine.TaskState`. */
import type { Key, Value } from "@dask-ts/protocol";
import type { Peer } from "./peer.ts";
import type { PrefixCounts } from "./task-counter.ts";

export const STATES = [
  "released",
  "waiting",
  "ready",
  "constrained",
  "executing",
  "long-running",
  "memory",
  "error",
  "fetch",
  "flight",
  "missing",
  "cancelled",
  "resumed",
  "rescheduled",
  "forgotten",
] as const;

export type TaskStateName = (typeof STATES)[number];

/** `run_id` of a task that was never asked to be computed. */
export const NO_RUN_ID = -1;

/** Stands for every set that has nothing in it yet. */
class EmptySet extends Set<never> {
  override add(): never {
    throw new TypeError("the empty set is shared: use withItem");
  }
}
const EMPTY = new EmptySet();

function emptySet<T>(): Set<T> {
  return EMPTY as Set<unknown> as Set<T>;
}

/** The set with the item in it: `ts.waiters = withItem(ts.waiters, other)`. */
export function withItem<T>(set: Set<T>, item: T): Set<T> {
  if (set === (EMPTY as Set<unknown>)) return new Set<T>().add(item);
  return set.add(item);
}

export class TaskState {
  /** The key as it came; sent back unchanged. */
  readonly key: Key;
  /** `keyId(key)`. */
  readonly id: string;
  readonly prefix: PrefixCounts;
  runId: number = NO_RUN_ID;
  /** As it came in `compute-task`; null for a key that is only a dependency. */
  runSpec: Value = null;

  // Most tasks have few relations or none: a set is made when something is put into it (`withItem`).
  dependencies: Set<TaskState> = emptySet();
  /** Tasks that use this one. */
  dependents: Set<TaskState> = emptySet();
  /** Dependencies that are not in memory. */
  waitingForData: Set<TaskState> = emptySet();
  /** Dependents that wait for this one. */
  waiters: Set<TaskState> = emptySet();

  /** Written by `WorkerState.setState` only, so that the counts stay right. */
  state: TaskStateName = "released";
  /** What a cancelled or resumed task was doing (and does still). */
  previous: "executing" | "long-running" | "flight" | null = null;
  /** What a resumed task is wanted for. */
  next: "fetch" | "waiting" | null = null;
  /** The execution or transfer has ended. */
  done = false;

  /** Lower runs first; compared as Python compares tuples. Null until known. */
  priority: readonly number[] | null = null;
  /** Peers that are believed to hold the value. */
  whoHas: Set<Peer> = emptySet();
  comingFrom: Peer | null = null;
  resourceRestrictions: ReadonlyMap<string, number> | null = null;

  exception: Value = null;
  traceback: Value = null;
  exceptionText = "";
  tracebackText = "";

  /** The executor's store holds a value for this key. */
  stored = false;
  actor = false;
  /** Bytes: measured where in memory, as told by the scheduler before; null where unknown. */
  nbytes: number | null = null;
  type: Uint8Array | null = null;
  typename = "";

  startstops: Value[] = [];
  /** Scheduler time in seconds at which the last execution began. */
  startTime = 0;
  thread: number | null = null;
  metadata: Value = null;
  annotations: Value = null;
  spanId: string | null = null;

  /** Place in the recommendations that are being worked off; see `Recommendations`. */
  slot = 0;

  constructor(key: Key, id: string, prefix: PrefixCounts) {
    this.key = key;
    this.id = id;
    this.prefix = prefix;
  }
}
