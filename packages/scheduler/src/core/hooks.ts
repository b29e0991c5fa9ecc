/** What policies (stealing, spans, shuffle, task stream) may listen to. All hooks run inside the event: no IO. */
import type { Key, Message, Value } from "@dask-ts/protocol";
import type { TaskState } from "./task-state.ts";
import type { StateCode } from "./task-status.ts";
import type { WorkerState } from "./worker-state.ts";

/** Fields of the message that caused a transition (`task-finished`, `task-erred`), where one did. */
export interface TransitionExtra {
  readonly stimulusId: string;
  readonly now: number;
  readonly message: Message | undefined;
}

/**
 * SchedulerPlugin.transition: called after each transition with the actual finish. A forgotten task has lost its
 * dependencies by then. Must not start transitions.
 */
export type TransitionListener = (ts: TaskState, start: StateCode, finish: StateCode, extra: TransitionExtra) => void;

export type AddWorkerListener = (ws: WorkerState, now: number) => void;
export type RemoveWorkerListener = (ws: WorkerState, stimulusId: string, now: number) => void;
/** SchedulerPlugin.update_graph, before the first transition. `touched` is not to be changed. */
export type UpdateGraphListener = (client: string, keys: readonly Key[], touched: readonly TaskState[]) => void;
export type RemoveClientListener = (client: string, now: number) => void;

export interface Listeners {
  readonly transition: TransitionListener[];
  readonly addWorker: AddWorkerListener[];
  readonly removeWorker: RemoveWorkerListener[];
  readonly updateGraph: UpdateGraphListener[];
  readonly addClient: ((client: string, now: number) => void)[];
  readonly removeClient: RemoveClientListener[];
  readonly restart: ((now: number) => void)[];
}

/** What the core asks of work stealing. */
export interface StealingHook {
  enterProcessing(ts: TaskState, ws: WorkerState): void;
  /** Called while the task is still with the worker, which may be gone already. */
  leaveProcessing(ts: TaskState, ws: WorkerState): void;
  removeKeyFromStealable(ts: TaskState): void;
  /** stream op `steal-response` */
  moveTaskConfirm(worker: string, message: Message, now: number): void;
  /** Checks its invariants (validate mode). */
  check(check: (condition: boolean, text: string) => void): void;
}

/** What the core asks of spans. */
export interface SpansHook {
  /**
   * SpansSchedulerExtension.observe_tasks for the tasks of one graph: the function is called with each of them, before
   * any of them is sent to a worker. It sets `group.spanId` and the annotation `span` of the task.
   */
  observer(spanMetadata: ReadonlyMap<Value, Value>, code: readonly Value[], now: number): (ts: TaskState) => void;
  /** Name of a span as progress bars show it; its id where it is not known. */
  labelOf(spanId: string): string;
}
