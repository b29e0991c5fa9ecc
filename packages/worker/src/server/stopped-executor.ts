/**
 * An executor that was stopped (SIGSTOP) and not continued. This process goes on to send heartbeats, so that the
 * scheduler's `worker-ttl`, which ends a stock worker's tasks in such a case, never runs out.
 */
import { readFileSync } from "node:fs";
import type { Logger } from "@dask-ts/protocol";

/** What is asked of the system; replaced in tests. */
export interface ProcessControl {
  /** `T` for stopped; undefined where it cannot be known. */
  state(pid: number): string | undefined;
  kill(pid: number): void;
}

const LINUX: ProcessControl = {
  state: (pid) => {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
      return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
    } catch {
      return undefined;
    }
  },
  kill: (pid) => {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It is gone.
    }
  },
};

export class StoppedExecutorWatch {
  readonly #limitMs: number;
  readonly #log: Logger;
  readonly #system: ProcessControl;
  #pid: number | undefined;
  #since = 0;

  /** @param limitMs that an executor may be stopped: the scheduler's `worker-ttl`. */
  constructor(limitMs: number, log: Logger, system: ProcessControl = LINUX) {
    this.#limitMs = limitMs;
    this.#log = log;
    this.#system = system;
  }

  /**
   * Looks at the executor, and kills it where it has been stopped all the time since a look that lies far enough back.
   *
   * @param now milliseconds, any steady clock.
   */
  check(pid: number | undefined, now: number): void {
    if (pid === undefined || this.#system.state(pid) !== "T") {
      this.#pid = undefined;
      return;
    }
    if (this.#pid !== pid) {
      this.#pid = pid;
      this.#since = now;
    } else if (now - this.#since >= this.#limitMs) {
      const seconds = Math.round((now - this.#since) / 1000);
      this.#log.error(`The executor ${pid} has been stopped for ${seconds} s; it is killed`);
      this.#pid = undefined;
      this.#system.kill(pid);
    }
  }
}
