/** How many workers there should be, and which may go; the same for RPC, HTTP and metrics. */
import { adaptiveTarget as targetOf, workersToClose as toClose, type WorkersToCloseOptions } from "../core/adaptive.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "./context.ts";

/** Scheduler.adaptive_target. @param duration seconds in which the work at hand shall be done. */
export async function adaptiveTarget(
  ctx: SchedulerContext,
  duration: number = ctx.settings.targetDuration,
): Promise<number> {
  const { state } = ctx.core;
  const wanted = targetOf(state, duration, () => []);
  // Plugins are asked only where workers could go.
  if (wanted > state.workers.size || state.workers.size === 0) return wanted;
  const keep = await keeps(ctx);
  return targetOf(state, duration, () => toClose(state, { keep }));
}

/** Scheduler.workers_to_close. */
export async function workersToClose(
  ctx: SchedulerContext,
  options: Omit<WorkersToCloseOptions, "keep">,
): Promise<WorkerState[]> {
  const keep = await keeps(ctx);
  return toClose(ctx.core.state, { ...options, keep });
}

/** SchedulerPlugin.valid_workers_downscaling of all extensions, and of users' plugins: the workers that must stay. */
async function keeps(ctx: SchedulerContext): Promise<(ws: WorkerState) => boolean> {
  const candidates = [...ctx.core.state.workers.values()].filter((ws) => ws.longRunning.size === 0);
  const valid = await ctx.pluginHost.validWorkers(candidates.map((ws) => ws.address));
  return (ws) => !valid.has(ws.address) || ctx.extensions.some((extension) => extension.keepsWorker?.(ws.address));
}
