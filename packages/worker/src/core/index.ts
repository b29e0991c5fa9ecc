/** The worker's state machine: events in, instructions out. Nothing here does IO, reads a clock or draws a random number. */
export * from "./events.ts";
export * from "./instructions.ts";
export { type MemoryLimits, pauseOrGoOn, TerminationPolicy } from "./memory-policy.ts";
export { TaskState, type TaskStateName } from "./task-state.ts";
export { WorkerMachine } from "./worker-machine.ts";
export type { WorkerMachineConfig } from "./worker-state.ts";
