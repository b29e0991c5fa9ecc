/** distributed.scheduler.WorkerState. */
import type { Value } from "@dask-ts/protocol";
import { newStealable, type StealableTasks } from "./stealing/stealable.ts";
import type { TaskPrefix } from "./task-prefix.ts";
import type { TaskState } from "./task-state.ts";

/** distributed.core.Status, by name. */
export type WorkerStatus =
  | "undefined"
  | "created"
  | "init"
  | "starting"
  | "running"
  | "paused"
  | "stopping"
  | "stopped"
  | "closing"
  | "closing_gracefully"
  | "closed"
  | "failed"
  | "dont_reply";

/** What `register-worker` says, resolved and typed by the shell. */
export interface WorkerRegistration {
  /** Resolved and normalised. */
  readonly address: string;
  /** Host part of the address. */
  readonly host: string;
  readonly status: WorkerStatus;
  readonly serverId: string;
  readonly name: Value;
  readonly nthreads: number;
  /** Bytes; 0 for none. */
  readonly memoryLimit: number;
  readonly localDirectory: string;
  readonly nanny: string | null;
  readonly pid: number;
  readonly services: ReadonlyMap<Value, Value>;
  readonly versions: ReadonlyMap<Value, Value>;
  readonly metrics: ReadonlyMap<Value, Value>;
  readonly extra: ReadonlyMap<Value, Value>;
  readonly resources: ReadonlyMap<string, number>;
  /** The worker's clock, seconds. */
  readonly workerNow: number;
  readonly stimulusId: string;
}

/** Memory readings, bytes (distributed.scheduler.MemoryState). */
export interface MemoryState {
  readonly process: number;
  readonly unmanagedOld: number;
  readonly managed: number;
  readonly spilled: number;
}

export class WorkerState {
  readonly address: string;
  readonly host: string;
  readonly name: Value;
  readonly nthreads: number;
  readonly memoryLimit: number;
  readonly localDirectory: string;
  readonly nanny: string | null;
  readonly serverId: string;
  readonly pid: number;
  readonly services: ReadonlyMap<Value, Value>;
  readonly versions: ReadonlyMap<Value, Value>;
  readonly extra: ReadonlyMap<Value, Value>;
  status: WorkerStatus;
  /** Position among the workers sorted by address; kept by WorkerOrder. */
  rank = -1;
  /** Position in the heap of workers with open slots; -1 where it is not there. */
  slotHeapIndex = -1;
  /** Task slots open while running (`_task_slots_available`, never below 0). */
  openSlots = 0;
  /** Scratch of placement.decideWorker. */
  candidateToken = 0;
  candidateBytes = 0;
  processing: Set<TaskState> = new Set();
  longRunning: Set<TaskState> = new Set();
  /** Processing tasks that may be stolen, by level; kept by stealing/stealable.ts. */
  readonly stealable: readonly StealableTasks[] = newStealable();
  /** From heartbeats: task → seconds it has been running. */
  executing: Map<TaskState, number> = new Map();
  hasWhat: Set<TaskState> = new Set();
  /** Data that processing tasks need and that is elsewhere → number of those tasks. */
  needsWhat: Map<TaskState, number> = new Map();
  /** Processing, not long-running tasks by prefix (task_prefix_count). */
  prefixCounts: Map<TaskPrefix, number> = new Map();
  /** Bytes of needsWhat. */
  networkOcc = 0;
  /** Sum of the bytes of hasWhat. */
  nbytes = 0;
  readonly resources: Map<string, number> = new Map();
  readonly usedResources: Map<string, number> = new Map();
  readonly actors: Set<TaskState> = new Set();
  metrics: ReadonlyMap<Value, Value>;
  /** Seconds, of the last heartbeat. */
  lastSeen: number;
  /** Scheduler's clock minus the worker's, seconds. */
  timeDelay = 0;
  memoryUnmanagedOld = 0;
  readonly memoryUnmanagedHistory: [time: number, nbytes: number][] = [];

  constructor(registration: WorkerRegistration, now: number) {
    this.address = registration.address;
    this.host = registration.host;
    this.name = registration.name;
    this.nthreads = registration.nthreads;
    this.memoryLimit = registration.memoryLimit;
    this.localDirectory = registration.localDirectory;
    this.nanny = registration.nanny;
    this.serverId = registration.serverId;
    this.pid = registration.pid;
    this.services = registration.services;
    this.versions = registration.versions;
    this.extra = registration.extra;
    this.status = registration.status;
    this.metrics = registration.metrics;
    this.lastSeen = now;
  }
}
