/** distributed.scheduler.TaskState. */
import type { Key, Pickled, Value } from "@dask-ts/protocol";
import type { ClientState } from "./client-state.ts";
import { emptySet, type FewSet } from "./few-set.ts";
import type { Restrictions } from "./restrictions.ts";
import type { TaskGroup } from "./task-group.ts";
import type { TaskPrefix } from "./task-prefix.ts";
import { State, type StateCode, TASK_STATES, type TaskStateName } from "./task-status.ts";
import type { WorkerState } from "./worker-state.ts";

/** What an erred task knows about its error. The exception itself stays closed. */
export interface TaskError {
  exception: Value;
  traceback: Value;
  exceptionText: string;
  tracebackText: string;
}

/** Fields are assigned once, in this order, so that all tasks share one hidden class. */
export class TaskState {
  readonly key: Key;
  /** keyId(key). */
  readonly id: string;
  /** The pickled GraphNode; null for pure data and for tasks whose graph has not come yet. */
  runSpec: Pickled | null;
  /** {@link State}; change it with `setState` only, which keeps the counts of group and prefix. */
  code: StateCode;
  readonly group: TaskGroup;
  /** Priority is the tuple (p0, p1, p2) = (-user priority, generation, rank); see hasPriority. */
  hasPriority: boolean;
  p0: number;
  p1: number;
  p2: number;
  dependencies: FewSet<TaskState>;
  dependents: FewSet<TaskState>;
  /** Dependencies without data, while waiting. */
  waitingOn: FewSet<TaskState>;
  /** Dependents in waiting, queued, processing or no-worker. */
  waiters: FewSet<TaskState>;
  whoHas: FewSet<WorkerState>;
  whoWants: FewSet<ClientState>;
  processingOn: WorkerState | null;
  /** Bytes; -1 where unknown. */
  nbytes: number;
  /** Of the last send to a worker; 0 before the first. */
  runId: number;
  retries: number;
  suspicious: number;
  /** GraphNode.data_producer. */
  dataProducer: boolean;
  actor: boolean;
  hasLostDependencies: boolean;
  /** False where the rootish task must not wait in the queue (P2P). */
  queueable: boolean;
  restrictions: Restrictions | null;
  annotations: ReadonlyMap<Value, Value> | null;
  /** Name of the result's type. */
  typename: string | null;
  metadata: Map<Value, Value> | null;
  /** The task whose exception made this one err. */
  exceptionBlame: TaskState | null;
  error: TaskError | null;
  /** Addresses of the workers it erred on. */
  erredOn: Set<string> | null;
  /** Not 0 while an update-graph under way is about to use this task; counts as being wanted. */
  pins: number;
  /** Position in the queue of ready rootish tasks; -1 where it is not queued. */
  heapIndex: number;
  /** Where it is among the stealable tasks of its worker; -1 where it is not there. */
  stealSlot: number;
  /** Recommended state while transitions are drained; -1 for none. */
  recommended: number;

  constructor(key: Key, id: string, runSpec: Pickled | null, code: StateCode, group: TaskGroup) {
    this.key = key;
    this.id = id;
    this.runSpec = runSpec;
    this.code = code;
    this.group = group;
    this.hasPriority = false;
    this.p0 = 0;
    this.p1 = 0;
    this.p2 = 0;
    this.dependencies = emptySet();
    this.dependents = emptySet();
    this.waitingOn = emptySet();
    this.waiters = emptySet();
    this.whoHas = emptySet();
    this.whoWants = emptySet();
    this.processingOn = null;
    this.nbytes = -1;
    this.runId = 0;
    this.retries = 0;
    this.suspicious = 0;
    this.dataProducer = false;
    this.actor = false;
    this.hasLostDependencies = false;
    this.queueable = true;
    this.restrictions = null;
    this.annotations = null;
    this.typename = null;
    this.metadata = null;
    this.exceptionBlame = null;
    this.error = null;
    this.erredOn = null;
    this.pins = 0;
    this.heapIndex = -1;
    this.stealSlot = -1;
    this.recommended = -1;
  }

  get state(): TaskStateName {
    return TASK_STATES[this.code];
  }

  get prefix(): TaskPrefix {
    return this.group.prefix;
  }

  /** Some client, or an update-graph under way, needs the task itself. */
  get wanted(): boolean {
    return this.whoWants.items.length > 0 || this.pins > 0;
  }

  /** The priority as it is sent. */
  get priority(): readonly number[] | null {
    return this.hasPriority ? [this.p0, this.p1, this.p2] : null;
  }
}

/** TaskState.state setter: keeps the counts of group and prefix. */
export function setState(ts: TaskState, code: StateCode): void {
  const old = ts.code;
  const group = ts.group;
  const groupStates = group.states;
  groupStates[old] = (groupStates[old] as number) - 1;
  groupStates[code] = (groupStates[code] as number) + 1;
  const prefix = group.prefix;
  const prefixStates = prefix.states;
  prefixStates[old] = (prefixStates[old] as number) - 1;
  prefixStates[code] = (prefixStates[code] as number) + 1;
  prefix.stateCounts[code] = (prefix.stateCounts[code] as number) + 1;
  ts.code = code;
}

/** Orders by priority, most urgent first. Tasks without priority come last. */
export function comparePriority(a: TaskState, b: TaskState): number {
  if (a.p0 !== b.p0) return a.p0 - b.p0;
  if (a.p1 !== b.p1) return a.p1 - b.p1;
  if (a.p2 !== b.p2) return a.p2 - b.p2;
  return a.hasPriority === b.hasPriority ? 0 : a.hasPriority ? -1 : 1;
}

/** For `sort`: least urgent first, as recommendations are taken from the end. */
export function byPriorityDescending(a: TaskState, b: TaskState): number {
  return comparePriority(b, a);
}

/** True for the states in which a task keeps its dependencies (validate_task_state's "in play"). */
export function isInPlay(code: StateCode): boolean {
  return code >= State.waiting && code <= State.processing;
}
