/** The edges of the scheduler's state diagram (SchedulerState._TRANSITIONS_TABLE). */
import type { Context, TransitionArgs } from "../context.ts";
import { STATE_COUNT, TASK_STATES, type TaskStateName } from "../task-status.ts";
import type { TaskState } from "../task-state.ts";
import { erredReleased } from "./erred.ts";
import { memoryErred, memoryForgotten, memoryReleased } from "./memory.ts";
import { noWorkerErred, noWorkerProcessing, noWorkerReleased } from "./no-worker.ts";
import { processingErred, processingMemory, processingReleased } from "./processing.ts";
import { queuedErred, queuedProcessing, queuedReleased } from "./queued.ts";
import { releasedErred, releasedForgotten, releasedWaiting } from "./released.ts";
import { waitingMemory, waitingNoWorker, waitingProcessing, waitingQueued, waitingReleased } from "./waiting.ts";

/** Changes the task, recommends into `ctx.recs`, sends through `ctx.outbox`. */
export type TransitionFunction = (ctx: Context, ts: TaskState, args: TransitionArgs | undefined) => void;

const TRANSITION_TABLE: ReadonlyMap<`${TaskStateName},${TaskStateName}`, TransitionFunction> = new Map<
  `${TaskStateName},${TaskStateName}`,
  TransitionFunction
>([
  ["released,waiting", releasedWaiting],
  ["waiting,released", waitingReleased],
  ["waiting,processing", waitingProcessing],
  ["waiting,no-worker", waitingNoWorker],
  ["waiting,queued", waitingQueued],
  ["waiting,memory", waitingMemory],
  ["queued,released", queuedReleased],
  ["queued,processing", queuedProcessing],
  ["queued,erred", queuedErred],
  ["processing,released", processingReleased],
  ["processing,memory", processingMemory],
  ["processing,erred", processingErred],
  ["no-worker,released", noWorkerReleased],
  ["no-worker,processing", noWorkerProcessing],
  ["no-worker,erred", noWorkerErred],
  ["released,forgotten", releasedForgotten],
  ["memory,erred", memoryErred],
  ["memory,forgotten", memoryForgotten],
  ["erred,released", erredReleased],
  ["memory,released", memoryReleased],
  ["released,erred", releasedErred],
]);

/** The same by `start * STATE_COUNT + finish`. */
export const TRANSITIONS: readonly (TransitionFunction | undefined)[] = TASK_STATES.flatMap((start) =>
  TASK_STATES.map((finish) => TRANSITION_TABLE.get(`${start},${finish}`)),
);
if (TRANSITIONS.length !== STATE_COUNT * STATE_COUNT) throw new Error("transition table is incomplete");
