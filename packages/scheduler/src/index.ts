/** Dask's scheduler: {@link Scheduler} runs inside the command's process. */
export type { SchedulerContext, SchedulerExtension, StreamHandler } from "./server/context.ts";
export type { SchedulerOptions } from "./server/options.ts";
export { Scheduler } from "./server/scheduler.ts";
export { DEFAULT_PORT } from "./server/addresses.ts";
export { PreloadUsageError } from "./plugin-host/plugin-host.ts";
export { GraphPickles, type GraphReading, KnownGlobals } from "./graph-reader/index.ts";
