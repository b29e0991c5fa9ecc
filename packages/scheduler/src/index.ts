/** Dask's scheduler: {@link Scheduler} runs inside the command's process. */
export type { SchedulerContext, SchedulerExtension, StreamHandler } from "./server/context.ts";
export type { SchedulerOptions } from "./server/options.ts";
export { Scheduler } from "./server/scheduler.ts";
