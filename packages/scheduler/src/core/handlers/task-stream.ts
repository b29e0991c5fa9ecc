/** What workers say about tasks they compute: task-finished, task-erred, reschedule, long-running. */
import { asNumber, type Key, keyId, type Message } from "@dask-ts/protocol";
import type { Context, TransitionArgs } from "../context.ts";
import { sendToWorker } from "../context.ts";
import { beginEvent } from "../event.ts";
import { keep, keyField, numberField, textField } from "../fields.ts";
import { freeKeys } from "../messages.ts";
import { addDurationSample } from "../occupancy.ts";
import { addToLongRunning } from "../occupancy.ts";
import { checkIdleSaturated } from "../placement.ts";
import { queueSlotsMaybeOpened } from "../queue-slots.ts";
import { State } from "../task-status.ts";
import { drain, transition } from "../transitions/engine.ts";
import { addKeys } from "./replicas.ts";

/** Scheduler.handle_task_finished and stimulus_task_finished. */
export function onTaskFinished(ctx: Context, worker: string, message: Message, now: number): void {
  const { state } = ctx;
  const key = keyField(message, "key");
  const runId = numberField(message, "run_id");
  const nbytes = numberField(message, "nbytes");
  const typename = textField(message, "typename");
  const stimulusId = textField(message, "stimulus_id");
  if (!state.workers.has(worker)) return;
  beginEvent(ctx, stimulusId, now);
  const ts = state.tasks.get(keyId(key));
  if (
    ts === undefined ||
    ts.code === State.released ||
    ts.code === State.queued ||
    ts.code === State.noWorker ||
    ts.code === State.erred
  ) {
    sendToWorker(ctx, worker, freeKeys([key], stimulusId));
  } else if (ts.runId !== runId) {
    if (ts.processingOn === null || ts.processingOn.address !== worker) {
      sendToWorker(ctx, worker, freeKeys([key], stimulusId));
    } else {
      ctx.recs.set(ts, State.released);
    }
  } else if (ts.code === State.memory) {
    addKeys(ctx, worker, [key], stimulusId);
  } else {
    const metadata = message.metadata;
    if (metadata instanceof Map && metadata.size > 0) {
      ts.metadata ??= new Map();
      for (const [name, value] of metadata) ts.metadata.set(name, keep(value));
    }
    const startstops = message.startstops;
    const args: TransitionArgs = {
      worker,
      nbytes,
      type: message.type ?? null,
      typename,
      startstops: Array.isArray(startstops) ? startstops : [],
      message,
    };
    transition(ctx, ts, State.memory, args);
  }
  drain(ctx);
  queueSlotsMaybeOpened(ctx);
}

/** Scheduler.handle_task_erred and stimulus_task_erred. */
export function onTaskErred(ctx: Context, worker: string, message: Message, now: number): void {
  const key = keyField(message, "key");
  const runId = numberField(message, "run_id");
  beginEvent(ctx, textField(message, "stimulus_id"), now);
  const ts = ctx.state.tasks.get(keyId(key));
  if (ts !== undefined && ts.code === State.processing) {
    if (ts.runId !== runId) {
      if (ts.processingOn?.address === worker) transition(ctx, ts, State.released);
    } else if (ts.retries > 0) {
      ts.retries--;
      transition(ctx, ts, State.waiting);
    } else {
      transition(ctx, ts, State.erred, {
        cause: ts,
        worker,
        exception: keep(message.exception),
        traceback: keep(message.traceback),
        exceptionText: textField(message, "exception_text", ""),
        tracebackText: textField(message, "traceback_text", ""),
        message,
      });
    }
  }
  drain(ctx);
  queueSlotsMaybeOpened(ctx);
}

/** Stream op `reschedule`: the task raised Reschedule. */
export function onReschedule(ctx: Context, worker: string, message: Message, now: number): void {
  reschedule(ctx, keyField(message, "key"), worker, textField(message, "stimulus_id"), now);
}

/** Scheduler._reschedule: the task has been released on its worker already. */
export function reschedule(ctx: Context, key: Key, worker: string | null, stimulusId: string, now: number): void {
  beginEvent(ctx, stimulusId, now);
  const ts = ctx.state.tasks.get(keyId(key));
  if (ts === undefined) {
    ctx.outbox.log("warn", "attempt to reschedule a task that is not known");
    return;
  }
  if (ts.code !== State.processing) return;
  if (worker !== null && ts.processingOn !== null && ts.processingOn.address !== worker) return;
  ctx.recs.set(ts, State.released);
  drain(ctx);
  queueSlotsMaybeOpened(ctx);
}

/** Scheduler.handle_long_running: the task has seceded; it no longer counts for occupancy and slots. */
export function onLongRunning(ctx: Context, worker: string, message: Message, now: number): void {
  const { state } = ctx;
  const key = keyField(message, "key");
  const runId = numberField(message, "run_id");
  beginEvent(ctx, textField(message, "stimulus_id"), now);
  if (!state.workers.has(worker)) return;
  const ts = state.tasks.get(keyId(key));
  const ws = ts?.processingOn;
  if (ts === undefined || !ws || ws.address !== worker || ts.runId !== runId) return;
  if (ws.longRunning.has(ts)) return;
  ctx.stealing?.removeKeyFromStealable(ts);
  const duration = message.compute_duration;
  if (duration !== null && duration !== undefined) addDurationSample(state, ts.prefix, asNumber(duration, 0));
  addToLongRunning(state, ws, ts);
  checkIdleSaturated(state, ws);
  queueSlotsMaybeOpened(ctx);
}
