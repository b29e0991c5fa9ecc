/** distributed.scheduler.TaskPrefix. */
import type { TaskGroup } from "./task-group.ts";
import { noTasks, STATE_COUNT } from "./task-status.ts";

export class TaskPrefix {
  readonly name: string;
  /** Number of tasks in each state, by code. */
  readonly states: number[];
  /** Number of times a task entered each state, by code. */
  readonly stateCounts: number[];
  readonly groups: Set<TaskGroup> = new Set();
  /** Seconds, running average; -1 unknown. Change it with `setDurationAverage` only. */
  durationAverage: number;
  /** Longest execution seen in heartbeats, seconds; -1 none. Change it with `addExecTime` only. */
  maxExecTime = -1;
  suspicious = 0;
  nbytesTotal = 0;
  durationUs = 0;
  readonly allDurationsUs: Map<string, number> = new Map();
  readonly types: Map<string, number> = new Map();
  size = 0;
  /** Tasks of this prefix that are processing and not long-running, on all workers. */
  processing = 0;
  /** Estimate of one task, seconds (SchedulerState._get_prefix_duration), kept by occupancy.ts. */
  estimate: number;

  constructor(name: string, durationAverage: number, unknownTaskDuration: number) {
    this.name = name;
    this.states = noTasks();
    this.stateCounts = noTasks();
    this.durationAverage = durationAverage;
    this.estimate = durationAverage >= 0 ? durationAverage : unknownTaskDuration;
  }

  /** TaskPrefix.remove_group: what the group counted is taken out. */
  removeGroup(group: TaskGroup): void {
    this.groups.delete(group);
    for (let code = 0; code < STATE_COUNT; code++) {
      const count = group.states[code] as number;
      this.states[code] = (this.states[code] as number) - count;
      this.size -= count;
    }
    this.durationUs -= group.durationUs;
    this.nbytesTotal -= group.nbytesTotal;
    for (const [typename, count] of group.types) {
      const left = (this.types.get(typename) ?? 0) - count;
      if (left > 0) this.types.set(typename, left);
      else this.types.delete(typename);
    }
  }
}
