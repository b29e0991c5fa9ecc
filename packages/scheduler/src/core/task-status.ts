/** The states of a task on the scheduler (distributed.scheduler.ALL_TASK_STATES). */

/** Dask's names, in the order of their codes. */
export const TASK_STATES = [
  "released",
  "waiting",
  "no-worker",
  "queued",
  "processing",
  "memory",
  "erred",
  "forgotten",
] as const;

export type TaskStateName = (typeof TASK_STATES)[number];

/** The code of each state: what transitions and recommendations are written with. */
export const State = {
  released: 0,
  waiting: 1,
  noWorker: 2,
  queued: 3,
  processing: 4,
  memory: 5,
  erred: 6,
  forgotten: 7,
} as const;

export type StateCode = (typeof State)[keyof typeof State];

export const STATE_COUNT = 8;

/** Counts by state, all 0. */
export function noTasks(): number[] {
  return [0, 0, 0, 0, 0, 0, 0, 0];
}

export function stateName(code: StateCode): TaskStateName {
  return TASK_STATES[code];
}
