/** One run of a P2P shuffle, as the scheduler sees it (distributed.shuffle._core.SchedulerShuffleState). */
import { type Key, type Pickled, PythonError, type Value } from "@dask-ts/protocol";
import type { TaskGroup } from "../core/task-group.ts";
import type { TaskState } from "../core/task-state.ts";

/** Output partition: a number for dataframes, a tuple of numbers for arrays. */
export type Partition = Value;

export interface ShuffleRun {
  readonly id: string;
  readonly runId: number;
  readonly barrier: TaskState;
  /** The pickled ShuffleRunSpec, as workers get it. */
  readonly runSpec: Pickled;
  /** Which worker holds which output partition. */
  readonly workerFor: readonly (readonly [Partition, string])[];
  /** Addresses. Includes workers that hold no output but have asked for the run. */
  readonly participants: Set<string>;
  /** Groups of the tasks that have asked for the run: those that send data. */
  readonly transferGroups: Set<TaskGroup>;
  /** Statistics of the workers' heartbeats, by address. */
  readonly heartbeats: Map<string, Map<Value, Value>>;
  /** Cause of the event that ended the run; null while it is active. */
  archivedBy: string | null;
  /** Aborted when the run ends: who still waits for its participants need not. */
  readonly ended: AbortController;
  /** Its failure was reported already. */
  failed: boolean;
}

/** `str(SchedulerShuffleState)`; part of texts that users and workers see. */
export function describeRun(run: ShuffleRun): string {
  return `SchedulerShuffleState<${run.id}[${run.runId}]>`;
}

/** distributed.shuffle._core.barrier_key. */
export function barrierKey(id: string): Key {
  return `shuffle-barrier-${id}`;
}

/** A worker asked for something that is out of date; workers raise it in the task, so its class matters. */
export function consistencyError(text: string): PythonError {
  return new PythonError("P2PConsistencyError", text);
}

/** What should not be able to happen, as stock says it. */
export function illegalStateError(text: string): PythonError {
  return new PythonError("P2PIllegalStateError", text);
}
