/** A worker and a request for the core's benchmarks, which are there only as numbers. */
import type { SchedulerCore } from "@dask-ts/scheduler/internal";
import type { benchGraph } from "./core-graphs.ts";

/** Adds a worker at `tcp://10.0.0.1:<name>`; its address. */
export function addBenchWorker(core: SchedulerCore, name: string, nthreads: number, now: number): string {
  const address = `tcp://10.0.0.1:${name}`;
  core.addWorker(
    {
      address,
      host: "10.0.0.1",
      status: "running",
      serverId: name,
      name,
      nthreads,
      memoryLimit: 1e10,
      localDirectory: "",
      nanny: null,
      pid: 1,
      services: new Map(),
      versions: new Map(),
      metrics: new Map(),
      extra: new Map(),
      resources: new Map(),
      workerNow: now,
      stimulusId: "bench",
    },
    now,
  );
  return address;
}

/** `update-graph` of client `c`, with nothing out of the ordinary. */
export function benchRequest({
  graph,
  keys,
}: ReturnType<typeof benchGraph>): Parameters<SchedulerCore["updateGraph"]>[0] {
  return {
    client: "c",
    graph,
    keys,
    internalPriority: null,
    submittingTask: null,
    fifoTimeout: 0.1,
    actors: null,
    userPriority: 0,
  };
}
