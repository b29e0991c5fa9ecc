import { expect, test } from "vitest";
import { type GroupMember, WorkerGroup } from "../../src/nanny/worker-group.ts";
import type { WorkerExit } from "../../src/server/options.ts";

class Member implements GroupMember {
  finish: (exit: WorkerExit) => void = () => undefined;
  readonly finished: Promise<WorkerExit> = new Promise((resolve) => {
    this.finish = resolve;
  });
  closedBy: string | undefined;
  readonly #start: () => Promise<void>;
  constructor(start: () => Promise<void> = async () => undefined) {
    this.#start = start;
  }
  start(): Promise<void> {
    return this.#start();
  }
  async close({ reason }: { reason: string }): Promise<void> {
    this.closedBy = reason;
    this.finish({ reason, exitCode: 0 });
  }
}

test("ends with its last member, with the code of the one that failed", async () => {
  const members = [new Member(), new Member()];
  const running = new WorkerGroup(members).run();
  members[0]?.finish({ reason: "a", exitCode: 1 });
  members[1]?.finish({ reason: "b", exitCode: 0 });
  expect(await running).toBe(1);
});

test("a member that cannot start takes the others with it", async () => {
  const other = new Member();
  const group = new WorkerGroup([new Member(() => Promise.reject(new Error("port taken"))), other]);
  await expect(group.run()).rejects.toThrow("port taken");
  expect(other.closedBy).toBe("worker-start-failed");
});

test("a signal while starting is no failure", async () => {
  let fail: (error: Error) => void = () => undefined;
  const starting = new Promise<void>((_, reject) => {
    fail = reject;
  });
  const group = new WorkerGroup([new Member(() => starting)]);
  const running = group.run();
  await group.close("signal-15");
  fail(new Error("the worker closes"));
  expect(await running).toBe(0);
});
