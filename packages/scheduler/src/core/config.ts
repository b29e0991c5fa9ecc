/** What the core is configured with: resolved numbers only. */
import type { Key, Value } from "@dask-ts/protocol";
import type { WorkerState } from "./worker-state.ts";

/** Exceptions that the scheduler itself raises on behalf of a task. */
export type ExceptionInfo =
  | {
      readonly kind: "KilledWorker";
      readonly task: Key;
      readonly lastWorker: WorkerState;
      readonly allowedFailures: number;
    }
  | {
      readonly kind: "NoValidWorkerError";
      readonly task: Key;
      readonly hostRestrictions: readonly string[];
      readonly workerRestrictions: readonly string[];
      readonly resourceRestrictions: ReadonlyMap<string, number>;
      readonly timeout: number;
    }
  | { readonly kind: "NoWorkerError"; readonly task: Key; readonly timeout: number }
  | { readonly kind: "MemoryError"; readonly message: string }
  | { readonly kind: "RuntimeError"; readonly message: string };

export interface CoreConfig {
  /** distributed.scheduler.allowed-failures */
  readonly allowedFailures: number;
  /** distributed.scheduler.default-data-size, bytes */
  readonly defaultDataSize: number;
  /** distributed.scheduler.unknown-task-duration, seconds */
  readonly unknownTaskDuration: number;
  /** distributed.scheduler.default-task-durations: prefix → seconds */
  readonly defaultTaskDurations: ReadonlyMap<string, number>;
  /** distributed.scheduler.bandwidth, bytes/s */
  readonly bandwidth: number;
  /** distributed.scheduler.worker-saturation; Infinity turns queuing off */
  readonly workerSaturation: number;
  /** distributed.scheduler.rootish-taskgroup */
  readonly rootishTaskgroup: number;
  /** distributed.scheduler.rootish-taskgroup-dependencies */
  readonly rootishTaskgroupDependencies: number;
  /** distributed.scheduler.no-workers-timeout, seconds; null for none */
  readonly noWorkersTimeout: number | null;
  /** distributed.scheduler.worker-ttl, seconds; null for none */
  readonly workerTtl: number | null;
  /** distributed.scheduler.idle-timeout, seconds; null for none */
  readonly idleTimeout: number | null;
  /** distributed.worker.memory.recent-to-old-time, seconds */
  readonly memoryRecentToOldTime: number;
  /** distributed.worker.memory.terminate is set: tasks whose input exceeds the worker's limit err */
  readonly memoryTerminate: boolean;
  /** distributed.admin.low-level-log-length */
  readonly logLength: number;
  /** distributed.diagnostics.erred-tasks.max-history */
  readonly erredTasksMaxHistory: number;
  /** distributed.diagnostics.computations.max-history */
  readonly computationsMaxHistory: number;
  /** distributed.scheduler.validate: check every invariant after each event (slow) */
  readonly validate: boolean;
  /** Tasks that update-graph handles between two yields. */
  readonly tasksPerYield: number;
  /** The pickled exception, as it goes into `task-erred`. */
  makeException(info: ExceptionInfo): Value;
  /**
   * coerce_address for annotations: the worker address that the text names, or null where it names none and so is
   * a host. Must not block; the core has tried aliases and known workers before it asks.
   */
  resolveAddress?(text: string): string | null;
}

/** Dask's own defaults. */
export const DEFAULT_CORE_CONFIG: Omit<CoreConfig, "makeException"> = {
  allowedFailures: 3,
  defaultDataSize: 1024,
  unknownTaskDuration: 0.5,
  defaultTaskDurations: new Map([
    ["rechunk-split", 1e-6],
    ["split-shuffle", 1e-6],
    ["split-taskshuffle", 1e-6],
    ["split-stage", 1e-6],
  ]),
  bandwidth: 100_000_000,
  workerSaturation: 1.1,
  rootishTaskgroup: 5,
  rootishTaskgroupDependencies: 5,
  noWorkersTimeout: null,
  workerTtl: 300,
  idleTimeout: null,
  memoryRecentToOldTime: 30,
  memoryTerminate: true,
  logLength: 1000,
  erredTasksMaxHistory: 100,
  computationsMaxHistory: 100,
  validate: false,
  tasksPerYield: 2000,
};
