/** distributed.scheduler.SchedulerState: all that the scheduler knows, with the indexes that keep it cheap. */
import { type Key, keyId, keySplit, keySplitGroup, type Pickled, type Value } from "@dask-ts/protocol";
import { ClientState } from "./client-state.ts";
import type { Computation } from "./computation.ts";
import type { CoreConfig } from "./config.ts";
import { MetadataTree } from "./metadata.ts";
import { PriorityQueue } from "./priority-queue.ts";
import { SlotHeap } from "./slot-heap.ts";
import { TaskGroup } from "./task-group.ts";
import { TaskPrefix } from "./task-prefix.ts";
import { State, type StateCode } from "./task-status.ts";
import { TaskState } from "./task-state.ts";
import { WorkerOrder, type WorkerSubset } from "./worker-order.ts";
import type { WorkerState } from "./worker-state.ts";

export const FIRE_AND_FORGET = "fire-and-forget";

export interface HostInfo {
  readonly addresses: Set<string>;
  nthreads: number;
  /** Seconds. */
  lastSeen: number;
  readonly info: Map<Value, Value>;
}

/** What is left of an erred task (distributed.scheduler.ErredTask). */
export interface ErredTask {
  readonly key: Key;
  readonly timestamp: number;
  readonly erredOn: readonly string[];
  readonly exceptionText: string;
  readonly tracebackText: string;
}

export class SchedulerState {
  readonly config: CoreConfig;

  /** By keyId. */
  readonly tasks: Map<string, TaskState> = new Map();
  /** By keyId of the group's name. */
  readonly taskGroups: Map<string, TaskGroup> = new Map();
  readonly taskPrefixes: Map<string, TaskPrefix> = new Map();
  readonly clients: Map<string, ClientState> = new Map();
  readonly fireAndForget: ClientState;

  /** By address, in the order they came; `workerOrder.list` is sorted. */
  readonly workers: Map<string, WorkerState> = new Map();
  readonly workerOrder: WorkerOrder = new WorkerOrder();
  readonly running: WorkerSubset = this.workerOrder.subset();
  readonly idle: WorkerSubset = this.workerOrder.subset();
  readonly saturated: Set<WorkerState> = new Set();
  /** idle_task_count: running workers with open slots. */
  readonly slots: SlotHeap = new SlotHeap();
  /** Sum of their open slots. */
  openSlots = 0;
  /** keyId of the worker's name → address. */
  readonly aliases: Map<string, string> = new Map();
  readonly hostInfo: Map<string, HostInfo> = new Map();
  /** Resource → address → amount. */
  readonly resources: Map<string, Map<string, number>> = new Map();
  /** Counts every change that may change which workers are valid for a restricted task. */
  validEpoch = 0;

  readonly queued: PriorityQueue = new PriorityQueue();
  /** no-worker tasks → since when (seconds), oldest first. */
  readonly unrunnable: Map<TaskState, number> = new Map();
  /** Tasks with at least two replicas. */
  readonly replicatedTasks: Set<TaskState> = new Set();
  readonly erredTasks: ErredTask[] = [];
  /** The last ones (distributed.diagnostics.computations.max-history), oldest first. */
  readonly computations: Computation[] = [];
  computationsAdded = 0;
  /** `get_metadata`/`set_metadata`. */
  readonly taskMetadata: MetadataTree = new MetadataTree();

  totalNthreads = 0;
  /** Bytes. */
  totalMemory = 0;
  readonly totalNthreadsHistory: [time: number, nthreads: number][] = [];
  /** Bytes/s, running average over the workers' heartbeats. */
  bandwidth: number;
  /** Address → address of the other → bytes/s. */
  readonly bandwidthWorkers: Map<string, Map<string, number>> = new Map();
  /** Type name → bytes/s. */
  readonly bandwidthTypes: Map<string, number> = new Map();
  /** keyId of the metric's key → its key and sum, which is an int to Python as long as only ints came. */
  readonly cumulativeWorkerMetrics: Map<string, { readonly key: Value; sum: number; isFloat: boolean }> = new Map();

  /** Σ over prefixes of processing × estimate, seconds; see occupancy.ts. */
  computeOccupancy = 0;
  /** Processing, not long-running tasks. */
  processingTasks = 0;
  /** Bytes that processing tasks still need to fetch. */
  networkOcc = 0;

  /** Number of transitions so far. */
  transitionCounter = 0;
  /** `n_tasks`: number of assignments so far. */
  assignments = 0;
  lastRunId = 0;
  generation = 0;
  lastGenerationTime = 0;
  /** Of the last restart, seconds; 0 for none. */
  restartedAt = 0;
  /** Graphs being opened or taken in; the shell counts those that are with a graph host. */
  activeGraphUpdates = 0;
  /** A graph is being taken in; there is at most one. */
  graphUnderWay = false;
  idleSince: number | null;
  idleTransitionCounter = 0;
  noWorkersSince: number | null = null;

  clientsAdded = 0;
  clientsRemoved = 0;
  workersAdded = 0;
  workersRemoved = 0;

  private readonly typenames: Map<string, string> = new Map();

  constructor(config: CoreConfig, now: number) {
    this.config = config;
    this.bandwidth = config.bandwidth;
    this.idleSince = now;
    this.totalNthreadsHistory.push([now, 0]);
    this.fireAndForget = new ClientState(FIRE_AND_FORGET, false, now);
    this.clients.set(FIRE_AND_FORGET, this.fireAndForget);
  }

  /** SchedulerState.new_task. */
  newTask(key: Key, id: string, runSpec: Pickled | null, code: StateCode, computation: Computation | null): TaskState {
    const group = this.groupOf(key, computation);
    const ts = new TaskState(key, id, runSpec, code, group);
    group.size++;
    group.prefix.size++;
    group.states[code] = (group.states[code] as number) + 1;
    group.prefix.states[code] = (group.prefix.states[code] as number) + 1;
    this.tasks.set(id, ts);
    return ts;
  }

  private groupOf(key: Key, computation: Computation | null): TaskGroup {
    const name = keySplitGroup(key);
    const id = keyId(name);
    let group = this.taskGroups.get(id);
    if (group === undefined) {
      const prefixName = keySplit(key);
      let prefix = this.taskPrefixes.get(prefixName);
      if (prefix === undefined) {
        const preset = this.config.defaultTaskDurations.get(prefixName) ?? -1;
        prefix = new TaskPrefix(prefixName, preset, this.config.unknownTaskDuration);
        this.taskPrefixes.set(prefixName, prefix);
      }
      group = new TaskGroup(name, id, prefix);
      this.taskGroups.set(id, group);
      computation?.groups.add(group);
    }
    return group;
  }

  /** @throws {TypeError} where the value cannot be a key. */
  taskOf(key: Value | undefined): TaskState | undefined {
    return this.tasks.get(keyId(key));
  }

  /** One copy of each type name, however many tasks have it. */
  internTypename(typename: string): string {
    const known = this.typenames.get(typename);
    if (known !== undefined) return known;
    this.typenames.set(typename, typename);
    return typename;
  }

  /** SchedulerState.is_idle: no task is under way. */
  get isIdle(): boolean {
    if (this.processingTasks > 0 || this.queued.size > 0 || this.unrunnable.size > 0) return false;
    for (const prefix of this.taskPrefixes.values()) {
      const { states } = prefix;
      for (let code = State.waiting; code <= State.processing; code++) if ((states[code] as number) > 0) return false;
    }
    return true;
  }

  /** TaskState.get_nbytes: bytes, or the default where unknown. */
  nbytesOf(ts: TaskState): number {
    return ts.nbytes >= 0 ? ts.nbytes : this.config.defaultDataSize;
  }
}
