/** Scheduler.handle_worker_status_change and what follows when a worker starts to run. */
import type { Message } from "@dask-ts/protocol";
import type { Context } from "../context.ts";
import { BadMessageError } from "../errors.ts";
import { beginEvent } from "../event.ts";
import { textField } from "../fields.ts";
import { checkIdleSaturated, leaveSlots, validWorkers } from "../placement.ts";
import { queueSlotsMaybeOpened } from "../queue-slots.ts";
import { byPriorityDescending, type TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";
import { drain } from "../transitions/engine.ts";
import type { WorkerState, WorkerStatus } from "../worker-state.ts";

const STATUSES: ReadonlySet<string> = new Set<WorkerStatus>([
  "undefined",
  "created",
  "init",
  "starting",
  "running",
  "paused",
  "stopping",
  "stopped",
  "closing",
  "closing_gracefully",
  "closed",
  "failed",
  "dont_reply",
]);

/** distributed.core.Status by name. @throws {BadMessageError} */
export function workerStatus(status: string): WorkerStatus {
  if (!STATUSES.has(status)) throw new BadMessageError(`unknown worker status ${JSON.stringify(status)}`);
  return status as WorkerStatus;
}

/** Stream op `worker-status-change`. */
export function onWorkerStatusChange(ctx: Context, worker: string, message: Message, now: number): void {
  changeStatus(ctx, worker, workerStatus(textField(message, "status")), textField(message, "stimulus_id"), now);
}

export function changeStatus(
  ctx: Context,
  address: string,
  status: WorkerStatus,
  stimulusId: string,
  now: number,
): void {
  const { state } = ctx;
  beginEvent(ctx, stimulusId, now);
  const ws = state.workers.get(address);
  if (ws === undefined) return;
  const previous = ws.status;
  if (status === previous) return;
  ws.status = status;
  state.validEpoch++;
  ctx.outbox.event(
    address,
    new Map([
      ["action", "worker-status-change"],
      ["prev-status", previous],
      ["status", status],
      ["stimulus_id", stimulusId],
    ]),
  );
  if (status === "running") {
    startRunning(ctx, ws);
  } else {
    state.running.delete(ws);
    state.idle.delete(ws);
    leaveSlots(state, ws);
    state.saturated.delete(ws);
  }
  refreshNoWorkersSince(ctx, now);
}

/** The worker takes tasks from now on: those that waited for one like it, then queued ones. */
export function startRunning(ctx: Context, ws: WorkerState): void {
  const { state } = ctx;
  state.running.add(ws);
  checkIdleSaturated(state, ws);
  scheduleUnrunnable(ctx, ws);
  queueSlotsMaybeOpened(ctx);
}

/** SchedulerState.bulk_schedule_unrunnable_after_adding_worker, and the transitions. */
function scheduleUnrunnable(ctx: Context, ws: WorkerState): void {
  const { state } = ctx;
  if (state.unrunnable.size === 0) return;
  const runnable: TaskState[] = [];
  for (const ts of state.unrunnable.keys()) {
    const valid = validWorkers(state, ts);
    if (valid === null || valid.has(ws) || (valid.size === 0 && ts.restrictions?.loose)) runnable.push(ts);
  }
  runnable.sort(byPriorityDescending);
  for (const ts of runnable) ctx.recs.set(ts, State.processing);
  drain(ctx);
}

/** Scheduler._refresh_no_workers_since. */
export function refreshNoWorkersSince(ctx: Context, timestamp: number): void {
  const { state } = ctx;
  if (state.running.size > 0 || (state.queued.size === 0 && state.unrunnable.size === 0)) state.noWorkersSince = null;
  else state.noWorkersSince ??= timestamp;
}
