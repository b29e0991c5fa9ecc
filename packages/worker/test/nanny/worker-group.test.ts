import { Logger, LogRing, type Message, type Value } from "@dask-ts/protocol";
import { expect, test } from "vitest";
import { type GroupMember, WorkerGroup } from "../../src/nanny/worker-group.ts";
import type { WorkerExit } from "../../src/server/options.ts";

class Member implements GroupMember {
  finish: (exit: WorkerExit) => void = () => undefined;
  readonly finished: Promise<WorkerExit> = new Promise((resolve) => {
    this.finish = resolve;
  });
  closedBy: string | undefined;
  endsWithWorker = false;
  workerAddress: string | undefined;
  readonly logs = new LogRing(100);
  readonly log = new Logger("distributed.nanny", this.logs.sink);
  readonly calls: [op: string, fields: Message, timeoutMs: number][] = [];
  reply: Promise<Value> = Promise.resolve(new Map());
  readonly #start: () => Promise<void>;
  constructor(start: () => Promise<void> = async () => undefined) {
    this.#start = start;
  }
  start(): Promise<void> {
    return this.#start();
  }
  endWithWorker(): void {
    this.endsWithWorker = true;
  }
  callScheduler(op: string, fields: Message, timeoutMs: number): Promise<Value> {
    this.calls.push([op, fields, timeoutMs]);
    return this.reply;
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

test("one request retires all that are registered, and none comes back", async () => {
  const members = [new Member(), new Member(), new Member()];
  const [starting, first, second] = members as [Member, Member, Member];
  first.workerAddress = "tcp://a:1";
  second.workerAddress = "tcp://a:2";
  first.reply = Promise.resolve(new Map([["tcp://a:1", new Map()]]));
  await new WorkerGroup(members).retire("signal-15", 7000);
  expect(members.map((member) => member.calls.length)).toEqual([0, 1, 0]);
  expect(first.calls[0]).toMatchObject([
    "retire_workers",
    { workers: ["tcp://a:1", "tcp://a:2"], close_workers: false, remove: true },
    7000,
  ]);
  expect(members.every((member) => member.endsWithWorker && member.closedBy === "signal-15")).toBe(true);
  expect(first.logs.lines().join()).toMatch(/within 7 s .*No other worker can take the data of 1 workers/s);
  expect(starting.logs.lines()).toEqual([]);
});

test("a scheduler that does not answer, and no grace", async () => {
  const member = new Member();
  member.workerAddress = "tcp://a:1";
  member.reply = Promise.reject(new Error("timed out"));
  await new WorkerGroup([member]).retire("signal-15", 100);
  expect(member.closedBy).toBe("signal-15");
  expect(member.logs.lines().join()).toMatch(/Could not hand the data over: timed out/);
  const other = new Member();
  other.workerAddress = "tcp://a:1";
  await new WorkerGroup([other]).retire("signal-2", 0);
  expect([other.calls.length, other.closedBy]).toEqual([0, "signal-2"]);
});
