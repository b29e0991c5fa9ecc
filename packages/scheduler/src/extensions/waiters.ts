/** Requests that wait for something to change: resolved in the order in which they came, or given up on in time. */
import { type Comm, CommClosedError } from "@dask-ts/protocol";
import type { SchedulerContext } from "../server/context.ts";

/** Why a wait ended. */
export type WaitResult = "woken" | "timeout";

/** Ends a wait; with null where the asker is gone. */
type End = (result: WaitResult | null) => void;

/** The waits of each comm, to be ended when it is closed. */
const waitsOf: WeakMap<Comm, Set<End>> = new WeakMap();

export class Waiters {
  readonly #context: SchedulerContext;
  readonly #waiting: Set<End> = new Set();

  constructor(context: SchedulerContext) {
    this.#context = context;
  }

  get size(): number {
    return this.#waiting.size;
  }

  /**
   * Waits until {@link wake} or {@link wakeOne}.
   *
   * Where the asker's connection closes meanwhile (its process was killed, the call was cancelled) the wait is over, and
   * whatever it waited for goes to the next one. Dask serves the dead: an item of a queue is lost, a MultiLock never free
   * again.
   *
   * @param comm the asker's.
   * @param deadline seconds since the epoch; null waits for ever. One that has passed still gives what is already due a
   *   turn of the event loop, as asyncio does.
   * @throws {CommClosedError} where the asker is gone.
   */
  wait(comm: Comm, deadline: number | null): Promise<WaitResult> {
    const { peerAddress } = comm;
    return new Promise((resolve, reject) => {
      const waits = openWaits(comm);
      let stop: (() => void) | undefined;
      const end: End = (result) => {
        stop?.();
        waits.delete(end);
        this.#waiting.delete(end);
        if (result !== null) resolve(result);
        else reject(new CommClosedError(`${peerAddress} is gone; it was waiting`));
      };
      waits.add(end);
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

function openWaits(comm: Comm): Set<End> {
  let waits = waitsOf.get(comm);
  if (waits === undefined) {
    const added = new Set<End>();
    comm.onClose(() => {
      for (const end of added) end(null);
    });
    waitsOf.set(comm, added);
    waits = added;
  }
  return waits;
}
