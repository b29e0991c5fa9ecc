/** For the benchmarks: the state machine and the executor without the shell around them. */
export * from "./core/index.ts";
export type { ExecuteRequest } from "./executor/executor.ts";
export { PythonExecutor } from "./executor/python-executor.ts";
