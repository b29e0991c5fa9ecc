/** Scheduler.add_worker. */
import { keyId, type Value } from "@dask-ts/protocol";
import type { AddWorkerResult } from "../api.ts";
import type { Context } from "../context.ts";
import { beginEvent } from "../event.ts";
import { checkIdleSaturated } from "../placement.ts";
import { type WorkerRegistration, WorkerState } from "../worker-state.ts";
import { heartbeat } from "./heartbeat.ts";
import { setResources } from "./resources.ts";
import { refreshNoWorkersSince, startRunning } from "./worker-status.ts";

export function addWorker(ctx: Context, registration: WorkerRegistration, now: number): AddWorkerResult {
  const { state, outbox } = ctx;
  const { address } = registration;
  beginEvent(ctx, registration.stimulusId, now);
  if (state.workers.has(address)) {
    return { status: "error", reason: "exists", message: `Worker already exists ${address}` };
  }
  let nameId: string;
  try {
    nameId = keyId(registration.name);
  } catch {
    return { status: "error", reason: "name", message: "a worker's name must be hashable" };
  }
  if (state.aliases.has(nameId)) {
    outbox.log("warn", `Worker tried to connect with a duplicate name: ${nameText(registration.name)}`);
    return { status: "error", reason: "name", message: `name taken, ${nameText(registration.name)}` };
  }
  outbox.event(address, new Map([["action", "add-worker"]]));
  outbox.event(
    "all",
    new Map([
      ["action", "add-worker"],
      ["worker", address],
    ]),
  );

  const ws = new WorkerState(registration, now);
  state.workers.set(address, ws);
  state.workerOrder.add(ws);
  state.workersAdded++;
  state.validEpoch++;
  let host = state.hostInfo.get(ws.host);
  if (host === undefined) {
    host = { addresses: new Set(), nthreads: 0, lastSeen: now, info: new Map() };
    state.hostInfo.set(ws.host, host);
  }
  host.addresses.add(address);
  host.nthreads += ws.nthreads;
  state.totalMemory += ws.memoryLimit;
  state.totalNthreads += ws.nthreads;
  state.totalNthreadsHistory.push([now, state.totalNthreads]);
  state.aliases.set(nameId, address);
  if (ws.status === "running") {
    state.running.add(ws);
    refreshNoWorkersSince(ctx, now);
  }
  heartbeat(
    ctx,
    {
      address,
      workerNow: registration.workerNow,
      metrics: registration.metrics,
      executing: null,
      resources: null,
      hostInfo: null,
    },
    now,
  );
  setResources(ctx, ws, registration.resources);
  checkIdleSaturated(state, ws);
  for (const listener of ctx.listeners.addWorker) listener(ws, now);
  if (ws.status === "running") startRunning(ctx, ws);
  outbox.log("info", `Register worker addr: ${address} name: ${nameText(registration.name)}`);
  return { status: "OK" };
}

function nameText(name: Value): string {
  return typeof name === "string" ? name : String(name);
}
