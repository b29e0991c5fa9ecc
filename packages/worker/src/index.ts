/** Dask's worker: {@link Worker} and {@link Nanny} run inside the command's process. */
export type { Executor, ExecutorEvents } from "./executor/executor.ts";
export type { ExecutorSpec, NannyLink, StartExecutor, WorkerExit, WorkerOptions } from "./server/options.ts";
export { DEFAULT_WORKER_SETTINGS, type WorkerSettings, workerSettings } from "./server/settings.ts";
export { pythonStarter, type PythonStarterOptions } from "./server/python-starter.ts";
export { cpuCount, systemMemoryLimit } from "./server/system.ts";
export { type CloseOptions, Worker } from "./server/worker.ts";
export { Nanny, type NannyOptions } from "./nanny/nanny.ts";
export { WorkerGroup } from "./nanny/worker-group.ts";
