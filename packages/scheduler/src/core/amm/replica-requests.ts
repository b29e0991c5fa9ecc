/** What is sent to workers that get or lose replicas (Scheduler.request_acquire_replicas, request_remove_replicas). */
import type { Value } from "@dask-ts/protocol";
import { type Context, sendToWorker } from "../context.ts";
import { removeReplica } from "../occupancy.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";

/** The worker fetches the tasks' data from those that hold it. Nobody hears whether it could. */
export function requestAcquireReplicas(
  ctx: Context,
  ws: WorkerState,
  tasks: readonly TaskState[],
  stimulusId: string,
): void {
  const whoHas = new Map<Value, Value>();
  const nbytes = new Map<Value, Value>();
  for (const ts of tasks) {
    const holders = ts.whoHas.items.map((holder) => holder.address);
    whoHas.set(ts.key, holders);
    nbytes.set(ts.key, ts.nbytes);
  }
  sendToWorker(ctx, ws.address, { op: "acquire-replicas", who_has: whoHas, nbytes, stimulus_id: stimulusId });
}

/** The replicas are forgotten at once; a worker that needs one refuses, and says with `add-keys` that it has it. */
export function requestRemoveReplicas(
  ctx: Context,
  ws: WorkerState,
  tasks: readonly TaskState[],
  stimulusId: string,
): void {
  for (const ts of tasks) removeReplica(ctx.state, ts, ws);
  const keys = tasks.map((ts) => ts.key);
  sendToWorker(ctx, ws.address, { op: "remove-replicas", keys, stimulus_id: stimulusId });
}
