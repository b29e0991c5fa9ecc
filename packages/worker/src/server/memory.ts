/** When the worker pauses for lack of memory (distributed.worker_memory.WorkerMemoryManager). */
import { formatBytes, type Logger } from "@dask-ts/protocol";

/** What a {@link MemoryMonitor} watches and moves. */
export interface MonitoredWorker {
  /** Resident bytes of the process that runs the tasks. */
  processMemory(): number;
  status(): string;
  setStatus(status: "running" | "paused"): void;
}

/** Pauses the worker above `distributed.worker.memory.pause` and lets it go on below (WorkerMemoryManager). */
export class MemoryMonitor {
  readonly #worker: MonitoredWorker;
  readonly #limit: number;
  readonly #pauseFraction: number;
  readonly #log: Logger;

  constructor(worker: MonitoredWorker, limit: number, pauseFraction: number, log: Logger) {
    this.#worker = worker;
    this.#limit = limit;
    this.#pauseFraction = pauseFraction;
    this.#log = log.child("memory");
  }

  /** One check; called every `distributed.worker.memory.monitor-interval`. */
  check(): void {
    const memory = this.#worker.processMemory();
    const fraction = memory / this.#limit;
    const figures = `Process memory: ${formatBytes(memory)} -- Worker memory limit: ${formatBytes(this.#limit)}`;
    const percent = Math.floor(fraction * 100);
    if (fraction > this.#pauseFraction) {
      if (this.#worker.status() !== "running") return;
      this.#log.warning(`Worker is at ${percent}% memory usage. Pausing worker.  ${figures}`);
      this.#worker.setStatus("paused");
    } else if (this.#worker.status() === "paused") {
      this.#log.warning(`Worker is at ${percent}% memory usage. Resuming worker. ${figures}`);
      this.#worker.setStatus("running");
    }
  }
}
