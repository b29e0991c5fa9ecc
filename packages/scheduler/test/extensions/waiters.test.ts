import { type Comm, CommClosedError } from "@dask-ts/protocol";
import { beforeEach, describe, expect, test } from "vitest";
import { Waiters } from "../../src/extensions/waiters.ts";
import type { SchedulerContext } from "../../src/server/context.ts";

/** A caller whose connection can be closed. */
class Caller {
  #closed: (() => void)[] = [];
  readonly comm: Comm = {
    peerAddress: "tcp://caller:1",
    onClose: (listener: () => void) => this.#closed.push(listener),
  } as unknown as Comm;

  leave(): void {
    for (const listener of this.#closed) listener();
  }
}

describe("waiters", () => {
  let timers: (() => void)[];
  let waiters: Waiters;
  beforeEach(() => {
    timers = [];
    const context = {
      now: () => 100,
      after: (_ms: number, run: () => void) => {
        timers.push(run);
        return () => timers.splice(timers.indexOf(run), 1);
      },
    };
    waiters = new Waiters(context as unknown as SchedulerContext);
  });

  test("wakes the oldest first, and all at once", async () => {
    const woken: number[] = [];
    const { comm } = new Caller();
    const waits = [1, 2, 3].map((i) => waiters.wait(comm, null).then(() => woken.push(i)));
    waiters.wakeOne();
    await waits[0];
    expect([woken, waiters.size]).toEqual([[1], 2]);
    waiters.wake();
    await Promise.all(waits);
    expect(woken).toEqual([1, 2, 3]);
  });

  test("a timeout ends a wait, and a wait that is over has no timer", async () => {
    const { comm } = new Caller();
    const late = waiters.wait(comm, 101);
    timers[0]?.();
    expect(await late).toBe("timeout");
    const woken = waiters.wait(comm, 101);
    waiters.wakeOne();
    expect([await woken, timers.length]).toEqual(["woken", 0]);
  });

  test("a caller that has gone is passed over", async () => {
    const [gone, there] = [new Caller(), new Caller()];
    const lost = [waiters.wait(gone.comm, null), waiters.wait(gone.comm, 101)].map((wait) =>
      expect(wait).rejects.toThrow(CommClosedError),
    );
    const wait = waiters.wait(there.comm, null);
    gone.leave();
    await Promise.all(lost);
    expect([waiters.size, timers.length]).toEqual([1, 0]);
    waiters.wakeOne();
    expect(await wait).toBe("woken");
  });
});
