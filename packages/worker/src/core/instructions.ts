/**
 * What the state machine wants done, in order. Mirrors `Instruction` and its subclasses; `drop` and
 * `transition` exist because values and plugins live in the executor. A task in a thread is never stopped: it may be
 * wanted again before it ends.
 */
import type { Key, Message, Value } from "@dask-ts/protocol";
import type { TaskStateName } from "./task-state.ts";

/** Run a task. Ended by `execute-success`, `execute-failure` or `reschedule`. */
export interface ExecuteInstruction {
  readonly kind: "execute";
  readonly key: Key;
  readonly runId: number;
  /** As it came in `compute-task`. */
  readonly runSpec: Value;
  readonly dependencies: readonly Key[];
  readonly annotations: Value;
  readonly actor: boolean;
  readonly priority: readonly number[];
  readonly spanId: string | null;
  readonly stimulusId: string;
}

/** Fetch values from a peer (one transfer per peer at a time). Ended by one of the `gather-*` events. */
export interface GatherInstruction {
  readonly kind: "gather";
  readonly worker: string;
  readonly keys: readonly Key[];
  readonly totalNbytes: number;
  readonly stimulusId: string;
}

/** Report `retry-busy-worker` for this peer after 150 ms. */
export interface RetryBusyWorkerLaterInstruction {
  readonly kind: "retry-busy-worker-later";
  readonly worker: string;
  readonly stimulusId: string;
}

/** Send on the scheduler stream. */
export interface SendInstruction {
  readonly kind: "send";
  readonly message: Message;
}

/** Forget these values in the executor's store. Its order relative to `execute` matters. */
export interface DropInstruction {
  readonly kind: "drop";
  readonly keys: readonly Key[];
}

/**
 * Nobody wants the result of this running task any more: where it is a coroutine it gets a `CancelledError`. It ends as
 * any other; by `reschedule` where the error comes through. Stock lets it run, but for a worker that closes.
 */
export interface CancelInstruction {
  readonly kind: "cancel";
  readonly key: Key;
}

/** For `WorkerPlugin.transition`; only where `reportTransitions` is on. */
export interface TransitionInstruction {
  readonly kind: "transition";
  readonly key: Key;
  readonly start: TaskStateName;
  readonly finish: TaskStateName;
}

/**
 * The state is broken, or the scheduler has sent what cannot be understood: log the event `message` under `topic`, then
 * close the worker, so that its tasks run elsewhere. The machine takes no more events.
 */
export interface FailInstruction {
  readonly kind: "fail";
  readonly reason: string;
  /** `invalid-worker-transition`, `invalid-worker-task-state`, or null where stock logs no event. */
  readonly topic: string | null;
  readonly message: Value;
  /** What was thrown, for the log. */
  readonly error: unknown;
}

export type Instruction =
  | ExecuteInstruction
  | GatherInstruction
  | RetryBusyWorkerLaterInstruction
  | SendInstruction
  | DropInstruction
  | CancelInstruction
  | TransitionInstruction
  | FailInstruction;
