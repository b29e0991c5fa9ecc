/** distributed.scheduler.TaskGroup. */
import type { Key } from "@dask-ts/protocol";
import type { TaskPrefix } from "./task-prefix.ts";
import { noTasks, State } from "./task-status.ts";
import type { WorkerState } from "./worker-state.ts";

export class TaskGroup {
  /** key_split_group(key): the raw first element of a tuple key, which need not be a str. */
  readonly name: Key;
  readonly id: string;
  readonly prefix: TaskPrefix;
  /** Number of tasks in each state, by code; includes forgotten ones. */
  readonly states: number[];
  readonly dependencies: Set<TaskGroup> = new Set();
  readonly allDurationsUs: Map<string, number> = new Map();
  readonly types: Map<string, number> = new Map();
  durationUs = 0;
  nbytesTotal = 0;
  /** All tasks ever added (`len(group)`). */
  size = 0;
  /** Seconds; 0 while no task has finished. */
  start = 0;
  stop = 0;
  lastWorker: WorkerState | null = null;
  lastWorkerTasksLeft = 0;
  spanId: string | null = null;
  /** Removed from the scheduler: all its tasks were forgotten. */
  removed = false;

  constructor(name: Key, id: string, prefix: TaskPrefix) {
    this.name = name;
    this.id = id;
    this.prefix = prefix;
    this.states = noTasks();
    prefix.groups.add(this);
  }

  /** TaskGroup.done: no task of the group is on its way. */
  get done(): boolean {
    const states = this.states;
    return (
      states[State.waiting] === 0 &&
      states[State.noWorker] === 0 &&
      states[State.queued] === 0 &&
      states[State.processing] === 0
    );
  }

  /** Every task was forgotten. */
  get forgotten(): boolean {
    return this.size === this.states[State.forgotten];
  }
}
