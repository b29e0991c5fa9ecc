/**
 * Scheduler.retire_workers: the workers take no more tasks, the active memory manager copies data that only they hold
 * to others, then they are let go.
 */
import type { Value } from "@dask-ts/protocol";
import { RetireWorker } from "../core/amm/retire-worker.ts";
import type { WorkerState } from "../core/worker-state.ts";
import { ActiveMemory } from "../extensions/active-memory.ts";
import type { SchedulerContext } from "./context.ts";
import { type Identity, workerIdentity } from "./identity.ts";
import { removeWorker } from "./worker-stream.ts";

export interface RetireRequest {
  readonly workers: readonly WorkerState[];
  /** Tell the workers to close. */
  readonly closeWorkers: boolean;
  /** Forget the workers at once. */
  readonly remove: boolean;
  readonly stimulusId: string;
}

/** How often a worker's data is looked at: from a few keys to 200 and more. */
const MIN_POLL_MS = 10;
const MAX_POLL_MS = 500;
const POLL_MS_PER_KEY = 2.5;

/** @returns identities of the workers that were retired; those whose data found no place are left out. */
export async function retireWorkers(ctx: SchedulerContext, request: RetireRequest): Promise<Map<Value, Value>> {
  const { workers, stimulusId } = request;
  if (workers.length === 0) return new Map();
  const manager = ActiveMemory.of(ctx).forRetirement();
  const retired = new Map<Value, Value>();
  const aborted: string[] = [];
  try {
    const tracked = workers.map((ws) => {
      const policy = new RetireWorker(ws.address);
      manager.policies.add(policy);
      // Where another retirement is under way, its answer must not be that the worker goes on retiring for ever.
      return { ws, policy, previous: ws.status === "closing_gracefully" ? "running" : ws.status };
    });
    // Here at once and not when the worker says so: nothing more is to be sent to it.
    ctx.apply((core, now) => {
      for (const { address } of workers) {
        const status = "closing_gracefully";
        core.workerStatusChange(address, status, stimulusId, now);
        core.outbox.worker(address, { op: "worker-status-change", status, stimulus_id: stimulusId });
      }
    });
    manager.runOnce();
    await Promise.all(
      tracked.map(async ({ ws, policy, previous }) => {
        const identity = await retire(ctx, ws, policy, previous, request);
        if (identity === null) aborted.push(ws.address);
        else retired.set(ws.address, identity);
      }),
    );
  } finally {
    manager.release();
  }
  logRetirement(ctx, [...retired.keys()] as string[], aborted, stimulusId);
  return retired;
}

/** Scheduler._track_retire_worker. @returns null where the worker stays. */
async function retire(
  ctx: SchedulerContext,
  ws: WorkerState,
  policy: RetireWorker,
  previous: string,
  { remove, closeWorkers, stimulusId }: RetireRequest,
): Promise<Identity | null> {
  while (!policy.done(ctx.core.state)) {
    await ctx.sleep(Math.max(MIN_POLL_MS, Math.min(MAX_POLL_MS, ws.hasWhat.size * POLL_MS_PER_KEY)));
  }
  const here = ctx.core.state.workers.get(ws.address) === ws;
  if (policy.noRecipients) {
    // The worker takes its status back and says so on its stream.
    const message = { op: "worker-status-change", status: previous, stimulus_id: stimulusId };
    if (here) ctx.streams.toWorker(ws.address, [message]);
    ctx.log.warning(
      `Could not retire worker '${ws.address}': unique data could not be moved to any other worker ` +
        `(stimulus_id='${stimulusId}')`,
    );
    return null;
  }
  if (here && remove) removeWorker(ctx, ws.address, { stimulusId, expected: true, close: closeWorkers });
  else if (here && closeWorkers) ctx.apply((core) => core.closeWorker(ws.address));
  ctx.log.info(`Retired worker '${ws.address}' (stimulus_id='${stimulusId}')`);
  return workerIdentity(ws);
}

function logRetirement(
  ctx: SchedulerContext,
  retired: readonly string[],
  aborted: readonly string[],
  stimulusId: string,
): void {
  const event = (action: string, ...fields: [string, Value][]): Value =>
    new Map<Value, Value>([["action", action], ...fields, ["stimulus_id", stimulusId]]);
  ctx.logEvent("all", event("retire-workers", ["retired", retired], ["could-not-retire", aborted]));
  ctx.logEvent(retired, event("retired"));
  ctx.logEvent(aborted, event("could-not-retire"));
}
