/** A worker that the core believes in; nothing listens at its address. */
import type { Scheduler } from "../../src/server/scheduler.ts";

/** @param httpPort its `dashboard` service on 127.0.0.1 */
export function addWorker(scheduler: Scheduler, httpPort: number): void {
  const address = "tcp://127.0.0.1:1";
  scheduler.apply((core, now) =>
    core.addWorker(
      {
        address,
        host: "127.0.0.1",
        status: "running",
        serverId: "Worker-1",
        name: "alice",
        nthreads: 1,
        memoryLimit: 0,
        localDirectory: "",
        nanny: null,
        pid: 1,
        services: new Map([["dashboard", httpPort]]),
        versions: new Map(),
        metrics: new Map(),
        extra: new Map(),
        resources: new Map(),
        workerNow: now,
        stimulusId: "test",
      },
      now,
    ),
  );
}
