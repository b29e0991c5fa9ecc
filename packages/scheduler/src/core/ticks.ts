/** Periodic checks: idle timeout, tasks without workers, late workers. The shell calls them by its timers. */
import type { Value } from "@dask-ts/protocol";
import type { Context } from "./context.ts";
import { beginEvent } from "./event.ts";
import { formatKeys } from "./format.ts";
import { refreshNoWorkersSince } from "./handlers/worker-status.ts";
import { heartbeatInterval } from "./heartbeat-interval.ts";
import { queueSlotsMaybeOpened } from "./queue-slots.ts";
import { State } from "./task-status.ts";
import type { TaskState } from "./task-state.ts";
import { drain, transition } from "./transitions/engine.ts";

/** Scheduler.check_idle. */
export function checkIdle(ctx: Context, now: number): { idleSince: number | null; close: boolean } {
  const { state } = ctx;
  const busy =
    state.transitionCounter !== state.idleTransitionCounter ||
    state.activeGraphUpdates > 0 ||
    state.queued.size > 0 ||
    state.unrunnable.size > 0 ||
    someProcessing(ctx);
  if (busy) {
    state.idleTransitionCounter = state.transitionCounter;
    state.idleSince = null;
    return { idleSince: null, close: false };
  }
  if (state.idleSince === null) {
    state.idleSince = now;
    return { idleSince: now, close: false };
  }
  const timeout = ctx.config.idleTimeout;
  return { idleSince: state.idleSince, close: timeout !== null && now > state.idleSince + timeout };
}

function someProcessing(ctx: Context): boolean {
  if (ctx.state.processingTasks > 0) return true;
  for (const ws of ctx.state.workers.values()) if (ws.processing.size > 0) return true;
  return false;
}

/** Scheduler._check_no_workers: tasks that have waited too long for a worker fail. */
export function checkNoWorkers(ctx: Context, now: number): void {
  const timeout = ctx.config.noWorkersTimeout;
  if (timeout === null) return;
  const { state } = ctx;
  beginEvent(ctx, `check-no-workers-timeout-${now}`, now);
  refreshNoWorkersSince(ctx, now);
  const unsatisfied: TaskState[] = [];
  const noWorkers: TaskState[] = [];
  for (const [ts, since] of state.unrunnable) {
    if (now <= since + timeout) break;
    if (state.noWorkersSince === null || state.noWorkersSince >= since) unsatisfied.push(ts);
    else noWorkers.push(ts);
  }
  if (state.noWorkersSince !== null && now > state.noWorkersSince + timeout) noWorkers.push(...state.queued.values());
  if (unsatisfied.length === 0 && noWorkers.length === 0) return;

  for (const ts of unsatisfied) {
    const { restrictions } = ts;
    fail(
      ctx,
      ts,
      ctx.config.makeException({
        kind: "NoValidWorkerError",
        task: ts.key,
        hostRestrictions: [...(restrictions?.hosts ?? [])],
        workerRestrictions: [...(restrictions?.workers ?? [])],
        resourceRestrictions: new Map(restrictions?.resources ?? []),
        timeout,
      }),
    );
  }
  for (const ts of noWorkers) {
    fail(ctx, ts, ctx.config.makeException({ kind: "NoWorkerError", task: ts.key, timeout }));
  }
  drain(ctx);
  queueSlotsMaybeOpened(ctx);
  const affected = [...unsatisfied, ...noWorkers].map((ts) => ts.key);
  ctx.outbox.log("error", `Timed out waiting for a worker, marked as failed: ${formatKeys(affected)}`);
  ctx.outbox.event(
    "scheduler",
    new Map<Value, Value>([
      ["action", "no-workers-timeout-exceeded"],
      ["keys", new Set(affected as Value[])],
    ]),
  );
}

function fail(ctx: Context, ts: TaskState, exception: Value): void {
  transition(ctx, ts, State.erred, { exception, cause: ts });
}

/** Scheduler.check_worker_ttl, up to the restart. */
export function checkWorkerTtl(ctx: Context, now: number): string[] {
  const { workerTtl } = ctx.config;
  if (workerTtl === null) return [];
  const { state } = ctx;
  const ttl = Math.max(workerTtl, 10 * heartbeatInterval(state.workers.size));
  const late: string[] = [];
  for (const ws of state.workers.values()) {
    const silence = now - ws.lastSeen;
    if (silence <= ttl) continue;
    late.push(ws.address);
    const consequence = ws.nanny === null ? "removing" : "attempting restart";
    ctx.outbox.log("warn", `Worker failed to heartbeat for ${silence.toFixed(0)}s; ${consequence}: ${ws.address}`);
  }
  if (late.length > 0) {
    ctx.outbox.event(
      "scheduler",
      new Map<Value, Value>([
        ["action", "worker-ttl-timed-out"],
        ["workers", late],
        ["ttl", ttl],
      ]),
    );
  }
  return late;
}
