export * from "./core/index.ts";
export type { SchedulerContext, SchedulerExtension, StreamHandler } from "./server/context.ts";
export { formatRecord, type LevelName, type LogRecord, type LogSink } from "./server/log.ts";
export { Scheduler, type SchedulerOptions } from "./server/scheduler.ts";
