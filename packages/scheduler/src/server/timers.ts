/** Timers of the scheduler: all end together when it closes. */
import { CommClosedError } from "@dask-ts/protocol";

export class Timers {
  readonly #active: Set<() => void> = new Set();
  readonly #onError: (error: unknown) => void;
  #stopped = false;

  constructor(onError: (error: unknown) => void) {
    this.#onError = onError;
  }

  /** Calls again and again; a call that is still under way when its time comes is not joined by another. */
  every(intervalMs: number, work: () => void | Promise<void>): () => void {
    let busy = false;
    const tick = async (): Promise<void> => {
      if (busy) return;
      busy = true;
      try {
        await work();
      } catch (error) {
        if (!this.#stopped) this.#onError(error);
      } finally {
        busy = false;
      }
    };
    // Node turns a delay beyond 2^31 ms into 1 ms.
    const timer = setInterval(() => void tick(), Math.min(Math.max(intervalMs, 1), 2 ** 31 - 1));
    return this.#track(() => clearInterval(timer));
  }

  after(delayMs: number, work: () => void): () => void {
    let stop: () => void = () => undefined;
    const timer = setTimeout(
      () => {
        stop();
        try {
          work();
        } catch (error) {
          this.#onError(error);
        }
      },
      Math.min(delayMs, 2 ** 31 - 1),
    );
    timer.unref();
    stop = this.#track(() => clearTimeout(timer));
    return stop;
  }

  /** @throws {CommClosedError} where the scheduler closes first. */
  sleep(ms: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#stopped) {
        reject(new CommClosedError("the scheduler is closing"));
        return;
      }
      let done = false;
      const timer = setTimeout(() => {
        done = true;
        stop();
        resolve();
      }, ms);
      const stop = this.#track(() => {
        clearTimeout(timer);
        if (!done) reject(new CommClosedError("the scheduler is closing"));
      });
    });
  }

  stop(): void {
    this.#stopped = true;
    for (const stop of this.#active) stop();
  }

  #track(cancel: () => void): () => void {
    const stop = (): void => {
      if (this.#active.delete(stop)) cancel();
    };
    this.#active.add(stop);
    return stop;
  }
}
