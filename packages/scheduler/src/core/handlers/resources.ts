/** Scheduler.add_resources and remove_resources. */
import type { Context } from "../context.ts";
import type { WorkerState } from "../worker-state.ts";

/** Adds to (or changes) what the worker declares, and starts the count of what is used anew. */
export function setResources(ctx: Context, ws: WorkerState, resources: ReadonlyMap<string, number>): void {
  const { state } = ctx;
  for (const [name, amount] of resources) ws.resources.set(name, amount);
  ws.usedResources.clear();
  for (const [name, amount] of ws.resources) {
    ws.usedResources.set(name, 0);
    let supplied = state.resources.get(name);
    if (supplied === undefined) {
      supplied = new Map();
      state.resources.set(name, supplied);
    }
    supplied.set(ws.address, amount);
  }
  // Dask forgets what running tasks hold; they would then be given back below zero.
  for (const ts of ws.processing) {
    for (const [name, amount] of ts.restrictions?.resources ?? []) {
      ws.usedResources.set(name, (ws.usedResources.get(name) ?? 0) + amount);
    }
  }
  state.validEpoch++;
}

export function removeResources(ctx: Context, ws: WorkerState): void {
  for (const name of ws.resources.keys()) {
    const supplied = ctx.state.resources.get(name);
    supplied?.delete(ws.address);
    if (supplied?.size === 0) ctx.state.resources.delete(name);
  }
}
