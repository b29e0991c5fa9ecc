/**
 * What the state machine is told. Ops of the scheduler stream keep their Dask names and carry the message as it was
 * decoded; everything else is reported by the shell. Mirrors `StateMachineEvent` and its subclasses.
 *
 * `stimulusId` stands where the event has no message; where it has one, its `stimulus_id` field is used.
 */
import type { Key, Message, Value } from "@dask-ts/protocol";

/** A value that now lies in the executor's store: its size in bytes and its (pickled) type. */
export interface StoredValue {
  readonly key: Key;
  readonly nbytes: number;
  readonly type: Uint8Array;
  readonly typename: string;
}

/** `exception`, `traceback`, `exception_text`, `traceback_text` as `error_message()` makes them. */
export interface ErrorFields {
  readonly exception: Value;
  readonly traceback: Value;
  readonly exceptionText: string;
  readonly tracebackText: string;
}

/** The ops of the scheduler stream that change task states. */
export type SchedulerOp =
  | "compute-task"
  | "free-keys"
  | "remove-replicas"
  | "acquire-replicas"
  | "steal-request"
  | "refresh-who-has"
  | "remove-worker"
  | "cancel-compute";

/** A message of the scheduler stream, unchanged. A malformed one changes nothing and ends in `fail`. */
export interface SchedulerEvent {
  readonly kind: SchedulerOp;
  readonly message: Message;
}

/** Ends a `gather` instruction; exactly one of the four kinds follows each. */
export interface GatherSuccessEvent {
  readonly kind: "gather-success";
  readonly worker: string;
  /** As in the instruction. */
  readonly totalNbytes: number;
  /** Values that were received and put into the executor's store; may be fewer than asked for. */
  readonly received: readonly StoredValue[];
  /** Values that were received and could not be opened (stock fails the whole transfer; here only these err). */
  readonly failed?: readonly { readonly key: Key; readonly error: ErrorFields }[];
  /** Start and end of the transfer, scheduler time in seconds; absent: no `transfer` entry in startstops. */
  readonly start?: number;
  readonly stop?: number;
  readonly stimulusId: string;
}
export interface GatherBusyEvent {
  readonly kind: "gather-busy";
  readonly worker: string;
  readonly totalNbytes: number;
  readonly stimulusId: string;
}
/** The peer could not be reached or went away: it is taken for dead. */
export interface GatherNetworkFailureEvent {
  readonly kind: "gather-network-failure";
  readonly worker: string;
  readonly totalNbytes: number;
  readonly stimulusId: string;
}
/** Any other failure; none of the values is in the store. All keys of the transfer err. */
export interface GatherFailureEvent {
  readonly kind: "gather-failure";
  readonly worker: string;
  readonly totalNbytes: number;
  readonly error: ErrorFields;
  readonly stimulusId: string;
}

/** Ends an `execute` instruction; exactly one of the three kinds follows each, or `recalled`. Times are scheduler time in seconds. */
export interface ExecuteSuccessEvent {
  readonly kind: "execute-success";
  readonly key: Key;
  readonly runId: number;
  readonly nbytes: number;
  readonly type: Uint8Array;
  readonly typename: string;
  readonly start: number;
  readonly stop: number;
  readonly thread: number | null;
  /** Further entries beside the `compute` one that `start` and `stop` make (`disk-read`, `deserialize`). */
  readonly startstops: readonly Value[];
  /** A map, or nil where the task stored none. */
  readonly metadata: Value;
  readonly stimulusId: string;
}
export interface ExecuteFailureEvent {
  readonly kind: "execute-failure";
  readonly key: Key;
  readonly runId: number;
  readonly error: ErrorFields;
  readonly start: number | null;
  readonly stop: number | null;
  readonly thread: number | null;
  readonly startstops: readonly Value[];
  readonly stimulusId: string;
}
/** The task raised `Reschedule`. */
export interface RescheduleEvent {
  readonly kind: "reschedule";
  readonly key: Key;
  readonly stimulusId: string;
}

/** Tasks that the executor had and that no thread had begun; it has given them back. Not in the original. */
export interface RecalledEvent {
  readonly kind: "recalled";
  readonly keys: readonly Key[];
  readonly stimulusId: string;
}

/** The task called `secede()` after `computeDuration` seconds. */
export interface SecedeEvent {
  readonly kind: "secede";
  readonly key: Key;
  readonly computeDuration: number;
  readonly stimulusId: string;
}

/** Values put into the executor's store by `update_data`. */
export interface UpdateDataEvent {
  readonly kind: "update-data";
  readonly entries: readonly StoredValue[];
  readonly stimulusId: string;
}

/** `free_keys` called as an RPC rather than sent on the stream. */
export interface FreeKeysEvent {
  readonly kind: "free-keys-rpc";
  readonly keys: readonly Key[];
  readonly stimulusId: string;
}

/** No new executions or transfers until `unpause`; what runs goes on. */
export interface PauseEvent {
  readonly kind: "pause";
  readonly stimulusId: string;
}
export interface UnpauseEvent {
  readonly kind: "unpause";
  readonly stimulusId: string;
}
/** The answer to `retry-busy-worker-later`, 150 ms later. */
export interface RetryBusyWorkerEvent {
  readonly kind: "retry-busy-worker";
  readonly worker: string;
  readonly stimulusId: string;
}
/** Periodic (1 s): asks the scheduler where the missing keys are. */
export interface FindMissingEvent {
  readonly kind: "find-missing";
  readonly stimulusId: string;
}

export type WorkerEvent =
  | SchedulerEvent
  | GatherSuccessEvent
  | GatherBusyEvent
  | GatherNetworkFailureEvent
  | GatherFailureEvent
  | ExecuteSuccessEvent
  | ExecuteFailureEvent
  | RescheduleEvent
  | RecalledEvent
  | SecedeEvent
  | UpdateDataEvent
  | FreeKeysEvent
  | PauseEvent
  | UnpauseEvent
  | RetryBusyWorkerEvent
  | FindMissingEvent;

/** Ops of the scheduler stream that are handed to the machine as `{kind: op, message}`. */
export const SCHEDULER_OPS: ReadonlySet<string> = new Set<SchedulerOp>([
  "compute-task",
  "free-keys",
  "remove-replicas",
  "acquire-replicas",
  "steal-request",
  "refresh-who-has",
  "remove-worker",
  "cancel-compute",
]);
