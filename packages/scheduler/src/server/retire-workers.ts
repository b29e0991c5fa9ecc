/**
 * Scheduler.retire_workers: the workers take no more tasks, data that only they hold is copied to others, then they are
 * let go.
 */
import { type Key, keyId, type Value } from "@dask-ts/protocol";
import type { TaskState } from "../core/task-state.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "./context.ts";
import { workerIdentity } from "./identity.ts";
import { gatherOnWorker } from "./peer-calls.ts";
import { removeWorker } from "./worker-stream.ts";

export interface RetireRequest {
  readonly workers: readonly WorkerState[];
  /** Tell the workers to close. */
  readonly closeWorkers: boolean;
  /** Forget the workers at once. */
  readonly remove: boolean;
  readonly stimulusId: string;
}

/** A copy that failed is tried again, elsewhere, after this. */
const RETRY_MS = 100;
/** Rounds of copying without any progress until a worker is given up. */
const MAX_IDLE_ROUNDS = 20;

/** @returns identities of the workers that were retired; those whose data found no place are left out. */
export async function retireWorkers(ctx: SchedulerContext, request: RetireRequest): Promise<Map<Value, Value>> {
  const { stimulusId } = request;
  const retired = new Map<Value, Value>();
  const aborted: string[] = [];
  if (request.workers.length === 0) return retired;
  const previous = request.workers.map((ws) => ws.status);
  ctx.apply((core, now) => {
    for (const ws of request.workers) {
      core.workerStatusChange(ws.address, "closing_gracefully", stimulusId, now);
      core.outbox.worker(ws.address, {
        op: "worker-status-change",
        status: "closing_gracefully",
        stimulus_id: stimulusId,
      });
    }
  });
  await Promise.all(
    request.workers.map(async (ws, i) => {
      const identity = workerIdentity(ws);
      if (await moveUniqueData(ctx, ws)) {
        letGo(ctx, ws, request);
        ctx.log.info(`Retired worker '${ws.address}' (stimulus_id='${stimulusId}')`);
        retired.set(ws.address, identity);
        return;
      }
      aborted.push(ws.address);
      const status = previous[i] as string;
      // The worker takes its status back and says so on its stream.
      ctx.streams.toWorker(ws.address, [{ op: "worker-status-change", status, stimulus_id: stimulusId }]);
      ctx.log.warning(
        `Could not retire worker '${ws.address}': unique data could not be moved to any other worker ` +
          `(stimulus_id='${stimulusId}')`,
      );
    }),
  );
  const names = [...retired.keys()] as string[];
  ctx.logEvent(
    "all",
    new Map<Value, Value>([
      ["action", "retire-workers"],
      ["retired", names],
      ["could-not-retire", aborted],
      ["stimulus_id", stimulusId],
    ]),
  );
  ctx.logEvent(names, actionEvent("retired", stimulusId));
  ctx.logEvent(aborted, actionEvent("could-not-retire", stimulusId));
  return retired;
}

function letGo(ctx: SchedulerContext, ws: WorkerState, { remove, closeWorkers, stimulusId }: RetireRequest): void {
  if (ctx.core.state.workers.get(ws.address) !== ws) return;
  if (remove) removeWorker(ctx, ws.address, { stimulusId, expected: true, close: closeWorkers });
  else if (closeWorkers) ctx.apply((core) => core.closeWorker(ws.address));
}

/** False where something that only this worker holds has no other place. True also where the worker is gone. */
async function moveUniqueData(ctx: SchedulerContext, ws: WorkerState): Promise<boolean> {
  for (let idle = 0; idle < MAX_IDLE_ROUNDS; ) {
    if (ctx.core.state.workers.get(ws.address) !== ws) return true;
    // Actors cannot be copied.
    if (ws.actors.size > 0) return false;
    const unique = [...ws.hasWhat].filter((ts) => ts.whoHas.size === 1);
    if (unique.length === 0) return true;
    const plan = planCopies(ctx, ws, unique);
    if (plan === null) return false;
    const failures = await Promise.all(
      [...plan].map(async ([address, keys]) => {
        const failed = await gatherOnWorker(ctx, address, new Map(keys.map((key) => [key, [ws.address]])));
        return keys.filter((key) => failed.has(keyId(key as Value))).length;
      }),
    );
    const copies = [...plan.values()].reduce((n, keys) => n + keys.length, 0);
    if (failures.reduce((a, b) => a + b, 0) < copies) {
      idle = 0;
    } else {
      idle++;
      await ctx.sleep(RETRY_MS);
    }
  }
  return false;
}

/** Each task goes to the running worker that has the least memory in use by then; null where there is none. */
function planCopies(ctx: SchedulerContext, from: WorkerState, tasks: readonly TaskState[]): Map<string, Key[]> | null {
  const recipients = [...ctx.core.state.running].filter((ws) => ws !== from);
  if (recipients.length === 0) return null;
  const used = new Map(recipients.map((ws) => [ws, ws.nbytes]));
  const plan = new Map<string, Key[]>();
  for (const ts of tasks) {
    let best = recipients[0] as WorkerState;
    for (const ws of recipients) if ((used.get(ws) ?? 0) < (used.get(best) ?? 0)) best = ws;
    used.set(best, (used.get(best) ?? 0) + Math.max(ts.nbytes, 0));
    const keys = plan.get(best.address);
    if (keys === undefined) plan.set(best.address, [ts.key]);
    else keys.push(ts.key);
  }
  return plan;
}

function actionEvent(action: string, stimulusId: string): Value {
  return new Map<Value, Value>([
    ["action", action],
    ["stimulus_id", stimulusId],
  ]);
}
