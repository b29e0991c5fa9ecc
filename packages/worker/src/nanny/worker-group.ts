/** `--nworkers N`: one process serves N workers, each with a nanny, an executor and addresses of its own. */
import type { WorkerExit } from "../server/options.ts";

/** A {@link Worker} or a {@link Nanny}. */
export interface GroupMember {
  start(): Promise<void>;
  close(options: { reason: string; timeoutMs?: number }): Promise<void>;
  readonly finished: Promise<WorkerExit>;
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
}
