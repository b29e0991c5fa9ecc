/** A worker for the core's benchmarks, which is there only as numbers. */
import type { SchedulerCore } from "@dask-ts/scheduler/internal";

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
