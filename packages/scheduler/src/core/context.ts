/** What transitions and handlers work on. SchedulerCore is the one implementation. */
import type { Message, Value } from "@dask-ts/protocol";
import type { ClientState } from "./client-state.ts";
import type { CoreConfig } from "./config.ts";
import type { Listeners, SpansHook, StealingHook } from "./hooks.ts";
import type { Outbox } from "./outbox.ts";
import type { Recommendations } from "./recommendations.ts";
import type { SchedulerState } from "./state.ts";
import type { TaskState } from "./task-state.ts";
import type { TransitionLog } from "./transition-log.ts";

export interface Context {
  readonly config: CoreConfig;
  readonly state: SchedulerState;
  readonly outbox: Outbox;
  readonly recs: Recommendations;
  readonly log: TransitionLog;
  readonly listeners: Listeners;
  stealing: StealingHook | null;
  spans: SpansHook | null;
  /** Time of the event under way, seconds. */
  now: number;
  /** Cause of the event under way. */
  stimulusId: string;
}

/** Keyword arguments of a transition: fields of the message that caused it. */
export interface TransitionArgs {
  /** Address of the worker that sent it. */
  readonly worker?: string;
  /** The task that failed. */
  readonly cause?: TaskState;
  readonly exception?: Value;
  readonly traceback?: Value;
  readonly exceptionText?: string;
  readonly tracebackText?: string;
  /** task-finished: bytes, pickled type, its name. */
  readonly nbytes?: number;
  readonly type?: Value;
  readonly typename?: string;
  readonly startstops?: readonly Value[];
  readonly message?: Message;
}

/** Scheduler.worker_send: nothing goes to a worker that is gone. */
export function sendToWorker(ctx: Context, address: string, message: Message): void {
  if (ctx.state.workers.has(address)) ctx.outbox.worker(address, message);
}

/** Scheduler.client_send: pseudo clients have no stream. */
export function sendToClient(ctx: Context, cs: ClientState, message: Message): void {
  if (cs.connected) ctx.outbox.client(cs.client, message);
}

/** `free-keys` of one task to whoever holds its data. */
export function freeOnHolders(ctx: Context, ts: TaskState): void {
  for (const ws of ts.whoHas.items) freeOnWorker(ctx, ws.address, ts);
}

export function freeOnWorker(ctx: Context, address: string, ts: TaskState): void {
  if (ctx.state.workers.has(address)) ctx.outbox.freeKey(address, ts.key, ctx.stimulusId);
}
