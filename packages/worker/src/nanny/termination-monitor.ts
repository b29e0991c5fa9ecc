/** Ends an executor that uses too much memory (distributed.worker_memory.NannyMemoryManager). */
import type { Logger, Value } from "@dask-ts/protocol";
import { TerminationPolicy } from "../core/memory-policy.ts";
import { residentBytes } from "../server/system.ts";

export class TerminationMonitor {
  readonly #policy: TerminationPolicy;
  readonly #fraction: number;
  readonly #log: Logger;
  readonly #report: (event: Value) => void;
  readonly #process: ProcessControl;

  /**
   * @param limit bytes, @param fraction of it beyond which the process is ended.
   * @param report told of each process that is ended, for the topic `worker-restart-memory`.
   */
  constructor(
    limit: number,
    fraction: number,
    log: Logger,
    report: (event: Value) => void,
    process: ProcessControl = OPERATING_SYSTEM,
  ) {
    this.#policy = new TerminationPolicy(limit, fraction);
    this.#fraction = fraction;
    this.#log = log.child("memory");
    this.#report = report;
    this.#process = process;
  }

  /** One check: SIGTERM first, SIGKILL where the process is still there at the next. */
  check(worker: string, pid: number | undefined): void {
    if (pid === undefined) return;
    const memory = this.#process.residentBytes(pid);
    if (memory === undefined) return;
    const signal = this.#policy.look(pid, memory);
    if (signal === undefined) return;
    if (signal === "SIGKILL") {
      this.#log.warning(`Worker ${worker} (pid=${pid}) is slow to accept SIGTERM; sending SIGKILL`);
      this.#process.signal(pid, signal);
      return;
    }
    const percent = Math.round(this.#fraction * 100);
    this.#log.warning(`Worker ${worker} (pid=${pid}) exceeded ${percent}% memory budget. Restarting...`);
    this.#report(
      new Map<Value, Value>([
        ["worker", worker],
        ["pid", pid],
        ["rss", memory],
      ]),
    );
    this.#process.signal(pid, signal);
  }
}

/** What a monitor needs of the operating system. */
export interface ProcessControl {
  residentBytes(pid: number): number | undefined;
  signal(pid: number, signal: NodeJS.Signals): void;
}

const OPERATING_SYSTEM: ProcessControl = {
  residentBytes,
  signal: (pid, signal) => {
    try {
      process.kill(pid, signal);
    } catch {
      // It ended by itself in the meantime.
    }
  },
};
