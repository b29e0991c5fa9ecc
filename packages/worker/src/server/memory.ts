/** When the worker pauses for lack of memory (distributed.worker_memory.WorkerMemoryManager). */
import { formatBytes, type Logger } from "@dask-ts/protocol";
import { type MemoryLimits, pauseOrGoOn } from "../core/memory-policy.ts";

/** What a {@link MemoryMonitor} watches and moves. */
export interface MonitoredWorker {
  /** Resident bytes of the process that runs the tasks. */
  processMemory(): number;
  status(): string;
  setStatus(status: "running" | "paused"): void;
}

/** A worker that stays paused for so many seconds says so, and again each time that this has doubled. */
const LONG_PAUSE_S = 60;

/** Pauses the worker above `distributed.worker.memory.pause` and lets it go on below (WorkerMemoryManager). */
export class MemoryMonitor {
  readonly limits: MemoryLimits;
  readonly #worker: MonitoredWorker;
  readonly #log: Logger;
  #pausedAt: number | undefined;
  #sayAfterS = LONG_PAUSE_S;

  constructor(worker: MonitoredWorker, limits: MemoryLimits, log: Logger) {
    this.#worker = worker;
    this.limits = { ...limits };
    this.#log = log.child("memory");
  }

  /** One check, every `distributed.worker.memory.monitor-interval`. @param now seconds, of a clock that never jumps */
  check(now: number): void {
    const { limit, pause } = this.limits;
    const paused = this.#worker.status() === "paused";
    if (!paused) this.#pausedAt = undefined;
    if (limit === null || pause === false) return;
    const memory = this.#worker.processMemory();
    const figures = `Process memory: ${formatBytes(memory)} -- Worker memory limit: ${formatBytes(limit)}`;
    const usage = `${Math.floor((memory / limit) * 100)}% memory usage`;
    const status = pauseOrGoOn(memory, this.limits, this.#worker.status());
    if (status === undefined) {
      if (paused) this.#sayLong(now, usage, figures);
      return;
    }
    if (status === "running") {
      this.#log.warning(`Worker is at ${usage}. Resuming worker. ${figures}`);
      this.#pausedAt = undefined;
    } else {
      this.#log.warning(`Worker is at ${usage}. Pausing worker.  ${figures}`);
      this.#pausedAt = now;
      this.#sayAfterS = LONG_PAUSE_S;
    }
    this.#worker.setStatus(status);
  }

  #sayLong(now: number, usage: string, figures: string): void {
    // Paused by somebody else, a moment ago for all that is known.
    this.#pausedAt ??= now;
    if (now - this.#pausedAt < this.#sayAfterS) return;
    this.#log.warning(
      `Worker is still at ${usage} after ${this.#sayAfterS} s; its tasks wait until memory is released. ${figures}`,
    );
    this.#sayAfterS *= 2;
  }
}
