/** How scheduler and workers describe themselves (Scheduler.identity, WorkerState.identity). */
import { float, type Value } from "@dask-ts/protocol";
import type { WorkerState } from "../core/worker-state.ts";

export type Identity = Map<Value, Value>;

/** @param live false leaves out `metrics` and `last_seen`, as `subscribe_worker_status` does. */
export function workerIdentity(ws: WorkerState, live = true): Identity {
  const identity: Identity = new Map<Value, Value>([
    ["type", "Worker"],
    ["id", ws.name],
    ["host", ws.host],
    ["resources", new Map([...ws.resources].map(([name, amount]) => [name, float(amount)] as [Value, Value]))],
    ["local_directory", ws.localDirectory],
    ["name", ws.name],
    ["nthreads", ws.nthreads],
    ["memory_limit", ws.memoryLimit],
  ]);
  if (live) identity.set("last_seen", float(ws.lastSeen));
  identity.set("services", ws.services);
  if (live) identity.set("metrics", ws.metrics);
  identity.set("status", ws.status);
  identity.set("nanny", ws.nanny);
  for (const [field, value] of ws.extra) identity.set(field, value);
  return identity;
}

export interface SchedulerIdentityFacts {
  readonly id: string;
  readonly address: string;
  readonly services: ReadonlyMap<string, number>;
  /** Seconds. */
  readonly started: number;
  readonly totalNthreads: number;
  readonly totalMemory: number;
  readonly workers: ReadonlyMap<string, WorkerState>;
}

/** @param nWorkers workers in the map at most; -1 for all. The totals always cover all. */
export function schedulerIdentity(facts: SchedulerIdentityFacts, nWorkers = -1, live = true): Identity {
  const workers = new Map<Value, Value>();
  const limit = nWorkers === -1 ? facts.workers.size : Math.max(0, nWorkers);
  for (const ws of facts.workers.values()) {
    if (workers.size >= limit) break;
    workers.set(ws.address, workerIdentity(ws, live));
  }
  return new Map<Value, Value>([
    ["type", "Scheduler"],
    ["id", facts.id],
    ["address", facts.address],
    ["services", facts.services],
    ["started", float(facts.started)],
    ["n_workers", facts.workers.size],
    ["total_threads", facts.totalNthreads],
    ["total_memory", facts.totalMemory],
    ["workers", workers],
  ]);
}
