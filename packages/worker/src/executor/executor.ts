/**
 * The executor as the worker sees it: a Python child that runs tasks in threads and holds their results. The worker
 * never sees a Python object; it sees keys, sizes, and closed sub-messages.
 */
import type { Socket } from "node:net";
import type { Key, Message, Pickled, Value } from "@dask-ts/protocol";

/** One task to run. Its dependencies are in the executor's store when this is sent. */
export interface ExecuteRequest {
  readonly key: Key;
  readonly runId: number;
  readonly runSpec: Pickled;
  /** Keys of the dependencies. */
  readonly dependencies: readonly Key[];
  readonly annotations: ReadonlyMap<Value, Value>;
  readonly actor: boolean;
  /** Priority, span id, … as `get_worker().state.tasks[key]` and task contexts show them. */
  readonly priority: Value;
  readonly spanId: string | null;
}

/** How a task spent its time, and what its own code metered (distributed.metrics.context_meter). */
export interface TaskMeter {
  /** CPU seconds of the task's thread; null where it had none of its own. */
  readonly cpuS: number | null;
  /** Seconds in the task's function, without CPU time and without what it metered itself. */
  readonly nonCpuS: number;
  /** (label, value, unit) */
  readonly metrics: readonly (readonly [label: Value, value: Value, unit: string])[];
}

/** What became of a task; `type` is the pickled type, times are the executor's clock in seconds. */
export type ExecuteOutcome =
  | {
      readonly kind: "success";
      readonly key: Key;
      readonly runId: number;
      readonly nbytes: number;
      readonly type: Uint8Array;
      readonly typename: string;
      readonly start: number;
      readonly stop: number;
      readonly thread: number | null;
      /** Further startstops (`disk-read`, `deserialize`) and metadata: as `task-finished` carries them. */
      readonly startstops: readonly Value[];
      readonly metadata: Value;
      readonly meter: TaskMeter | null;
      /** The result itself, where it is small and plain. */
      readonly value?: Value;
    }
  | {
      readonly kind: "failure";
      readonly key: Key;
      readonly runId: number;
      /** `exception`, `traceback`, `exception_text`, `traceback_text` in the shapes of wire-protocol.md §9. */
      readonly error: Message;
      readonly start: number | null;
      readonly stop: number | null;
      readonly thread: number | null;
      readonly startstops: readonly Value[];
      readonly meter: TaskMeter | null;
    }
  | { readonly kind: "reschedule"; readonly key: Key; readonly runId: number };

/** A value put into the store: its size and type, or why it could not be opened. */
export type PutOutcome =
  | { readonly ok: true; readonly nbytes: number; readonly type: Uint8Array; readonly typename: string }
  | { readonly ok: false; readonly error: Message };

/** What a peer answered to `get_data`: the values are held already. */
export type FetchOutcome =
  | ({ readonly kind: "fetched"; readonly keys: readonly Key[]; readonly outcomes: readonly PutOutcome[] } & {
      readonly networkS: number;
      readonly deserializeS: number;
    })
  /** `busy`, or an error of its own. */
  | { readonly kind: "refused"; readonly reply: Message }
  | { readonly kind: "unreachable"; readonly reason: string };

/** What was written to a peer: which keys were there, and how long it took to serialize them. */
export type SendOutcome =
  | { readonly kind: "sent"; readonly keys: readonly Key[]; readonly serializeS: number }
  /** The peer has a part of the message. */
  | { readonly kind: "broken"; readonly reason: string };

export interface ExecutorEvents {
  /** A task ended. Several may be reported in one turn. */
  outcome(outcome: ExecuteOutcome): void;
  /** A task called `secede()`: it keeps its thread, frees its slot; seconds it has run. */
  seceded(key: Key, computeDuration: number): void;
  /** `log_event`, `print`, `warn` from a task: for the scheduler stream. */
  logEvent(topic: Value, message: Value): void;
  /** The facade asks the worker for something (an RPC to a peer, the scheduler, worker facts). */
  request(op: string, fields: Message): Promise<Value>;
  /** A record of distributed's loggers in the child, formatted; for the worker's log ring. It is on stderr already. */
  log(level: string, logger: string, text: string): void;
  /** The child is gone. Everything that it held is lost. */
  exit(code: number | null, signal: string | null): void;
}

export interface Executor {
  readonly pid: number;
  /** `versions` of the child's environment, as `register-worker` carries them. */
  readonly versions: Value;
  /** `extra` of `register-worker`: what `worker.startup_information` gave. */
  readonly startupInformation?: Value;
  execute(requests: readonly ExecuteRequest[]): void;
  /** Asks a running async task to stop; a no-op for tasks in threads. */
  cancel(key: Key): void;
  /** Takes back the tasks that no thread has begun; resolves with their keys. */
  recall(): Promise<readonly Key[]>;
  /** Opens values into the store, each as it came from a peer or a client. */
  put(entries: readonly { readonly key: Key; readonly data: Value }[]): Promise<PutOutcome[]>;
  /** Serializes values out of the store; keys that are not there are left out. The result is in order of `keys`. */
  get(keys: readonly Key[], serializers: Value): Promise<{ readonly key: Key; readonly data: Value }[]>;
  /** Resolves when the child has read this, whatever else it does; rejects where it is gone. */
  ping?(): Promise<void>;
  /** Asks a peer for values over a connection of the child's own, for large ones. */
  fetch?(address: string, keys: readonly Key[], who: string): Promise<FetchOutcome>;
  /**
   * Answers a peer's `get_data` on its own socket, for large values; undefined where sockets cannot be lent. Where it
   * rejects, nothing was written.
   */
  send?(keys: readonly Key[], serializers: Value, socket: Socket): Promise<SendOutcome> | undefined;
  /** Breaks the child's connections to a worker that has left. */
  forgetPeer?(address: string): void;
  /** Forgets values. */
  drop(keys: readonly Key[]): void;
  /**
   * Everything else, by Dask's op name: `run`, `run_coroutine`, `plugin-add`, `plugin-remove`, `actor_execute`,
   * `actor_attribute`, `upload_file`, `call_stack`, `profile`, `profile_metadata`, `get_logs`, `shuffle_receive`, ….
   *
   * @returns the reply in the shape of wire-protocol.md §20.
   */
  call(op: string, fields: Message): Promise<Value>;
  /** Figures for heartbeats: memory (RSS, bytes), managed and spilled bytes, cpu percent, num_fds. */
  readonly metrics: ReadonlyMap<string, number>;
  /** Ends the child: politely, then by SIGKILL after `timeoutMs`. */
  close(timeoutMs: number): Promise<void>;
}
