export { Logger as Log, type LogRecord } from "@dask-ts/protocol";
