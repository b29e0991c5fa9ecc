/** All workers of one command, in one process: each with a nanny, an executor and addresses of its own. */
import type { Logger, Message, Value } from "@dask-ts/protocol";
import type { WorkerExit } from "../server/options.ts";

/** A {@link Worker} or a {@link Nanny}. */
export interface GroupMember {
  start(): Promise<void>;
  close(options: { reason: string; timeoutMs?: number }): Promise<void>;
  readonly finished: Promise<WorkerExit>;
  readonly log: Logger;
  /** Address of its worker; undefined while none is registered. */
  readonly workerAddress: string | undefined;
  /** From here on its worker is not started again when it ends. */
  endWithWorker(reason: string): void;
  callScheduler(op: string, fields: Message, timeoutMs: number): Promise<Value>;
}

export class WorkerGroup {
  readonly #members: readonly GroupMember[];
  #closing = false;

  constructor(members: readonly GroupMember[]) {
    this.#members = members;
  }

  /**
   * Starts all and waits until all have ended.
   *
   * @returns the exit code of the command: 0, or that of a member that failed.
   * @throws what the first member threw that could not be started; the others are closed then.
   */
  async run(): Promise<number> {
    try {
      await Promise.all(this.#members.map((member) => member.start()));
    } catch (error) {
      // Told to stop while starting: that is no failure.
      if (this.#closing) return 0;
      await this.close("worker-start-failed");
      throw error;
    }
    const exits = await Promise.all(this.#members.map((member) => member.finished));
    return Math.max(0, ...exits.map((exit) => exit.exitCode));
  }

  /** Ends all members. */
  async close(reason: string, timeoutMs = 10_000): Promise<void> {
    this.#closing = true;
    await Promise.all(this.#members.map((member) => member.close({ reason, timeoutMs })));
  }

  /**
   * Hands the results of all members over to workers elsewhere, then ends the members. Stock's nanny kills its worker at
   * a SIGTERM, and what only that worker held is computed again.
   *
   * @param graceMs for handing over; whoever sent the signal kills the process after some time of their own.
   */
  async retire(reason: string, graceMs: number): Promise<void> {
    this.#closing = true;
    for (const member of this.#members) member.endWithWorker(reason);
    // All at once: none hands its data to one that goes as well.
    const going = this.#members.filter((member) => member.workerAddress !== undefined);
    const [speaker] = going;
    if (speaker !== undefined && graceMs > 0) await handOver(speaker, going, graceMs);
    await this.close(reason);
  }
}

/** Has the scheduler retire the workers of `members`; never rejects. */
async function handOver(speaker: GroupMember, members: readonly GroupMember[], graceMs: number): Promise<void> {
  const { log } = speaker;
  const workers = members.map((member) => member.workerAddress ?? "");
  const seconds = graceMs / 1000;
  log.info(
    `Handing the data of ${workers.join(", ")} over to other workers, within ${seconds} s ` +
      "(--termination-grace; Fargate kills 30 s after SIGTERM where stopTimeout says nothing else, Spot 120 s)",
  );
  const start = performance.now();
  try {
    const retired = await speaker.callScheduler(
      "retire_workers",
      {
        workers,
        close_workers: false,
        remove: true,
        stimulus_id: `worker-close-gracefully-${Date.now() / 1000}`,
      },
      graceMs,
    );
    const count = retired instanceof Map ? retired.size : Object.keys(retired ?? {}).length;
    const took = ((performance.now() - start) / 1000).toFixed(1);
    if (count === workers.length) log.info(`The data is handed over, after ${took} s`);
    else
      log.warning(`No other worker can take the data of ${workers.length - count} workers; it will be computed again`);
  } catch (error) {
    log.warning(`Could not hand the data over: ${error instanceof Error ? error.message : String(error)}`);
  }
}
