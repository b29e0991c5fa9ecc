/** Requests that wait for something to change: resolved in the order in which they came, or given up on in time. */
import type { SchedulerContext } from "../server/context.ts";

/** Why a wait ended. */
export type WaitResult = "woken" | "timeout";

export class Waiters {
  readonly #context: SchedulerContext;
  readonly #waiting: Set<(result: WaitResult) => void> = new Set();

  constructor(context: SchedulerContext) {
    this.#context = context;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /**
   * Waits until {@link wake} or {@link wakeOne}.
   *
   * @param deadline seconds since the epoch; null waits for ever. One that has passed still gives what is already due a
   *   turn of the event loop, as asyncio does.
   */
  wait(deadline: number | null): Promise<WaitResult> {
    return new Promise((resolve) => {
      let stop: (() => void) | undefined;
      const end = (result: WaitResult): void => {
        stop?.();
        this.#waiting.delete(end);
        resolve(result);
      };
      this.#waiting.add(end);
      if (deadline !== null) {
        const ms = Math.max(0, (deadline - this.#context.now()) * 1000);
        stop = this.#context.after(ms, () => end("timeout"));
      }
    });
  }

  /** Ends all waits. */
  wake(): void {
    for (const end of this.#waiting) end("woken");
  }

  /** Ends the oldest wait. */
  wakeOne(): void {
    for (const end of this.#waiting) {
      end("woken");
      return;
    }
  }
}

/** The time at which a timeout in seconds is over; null for none. */
export function deadlineOf(context: SchedulerContext, timeout: number | null): number | null {
  return timeout === null ? null : context.now() + timeout;
}
