/**
 * What is done about the memory of the process that runs a worker's tasks
 * (distributed.worker_memory.WorkerMemoryManager, NannyMemoryManager). Spilling is the executor's own.
 */

/** May be changed while the worker runs: plugins set `worker.memory_manager`. */
export interface MemoryLimits {
  /** Bytes; null for none. */
  limit: number | null;
  /** `distributed.worker.memory.pause`, a fraction of it. */
  pause: number | false;
}

/**
 * What a worker becomes that uses so much; undefined where it stays as it is. One that closes or starts is left alone.
 *
 * @param memory bytes in use.
 */
export function pauseOrGoOn(memory: number, { limit, pause }: MemoryLimits, status: string): MemoryStatus | undefined {
  if (limit === null || pause === false) return undefined;
  if (memory / limit > pause) return status === "running" ? "paused" : undefined;
  return status === "paused" ? "running" : undefined;
}

/** What memory makes of a worker. */
export type MemoryStatus = "running" | "paused";

/** Ends a process that uses more than a fraction of the limit: asks it first, and at the next look does not ask. */
export class TerminationPolicy {
  readonly #threshold: number;
  #asked: number | undefined;

  /** @param limit bytes, @param fraction of it: `distributed.worker.memory.terminate`. */
  constructor(limit: number, fraction: number) {
    this.#threshold = limit * fraction;
  }

  /** @param process its number, @param memory bytes. */
  look(process: number, memory: number): "SIGTERM" | "SIGKILL" | undefined {
    if (memory <= this.#threshold) return undefined;
    if (this.#asked === process) return "SIGKILL";
    this.#asked = process;
    return "SIGTERM";
  }
}
