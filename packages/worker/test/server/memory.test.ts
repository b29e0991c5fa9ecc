import { Logger } from "@dask-ts/protocol";
import { expect, test } from "vitest";
import type { MemoryLimits } from "../../src/core/memory-policy.ts";
import { MemoryMonitor } from "../../src/server/memory.ts";

/** A worker whose process uses `memory` bytes of 100. */
class FakeWorker {
  memory = 50;
  readonly statuses: string[] = ["running"];
  readonly lines: string[] = [];

  processMemory(): number {
    return this.memory;
  }
  status(): string {
    return this.statuses.at(-1) ?? "";
  }
  setStatus(status: string): void {
    this.statuses.push(status);
  }
  monitor(limits: MemoryLimits = { limit: 100, pause: 0.8 }): MemoryMonitor {
    return new MemoryMonitor(this, limits, new Logger("w", (record) => this.lines.push(record.message)));
  }
}

test("pauses above the threshold, once, and goes on at or below it", () => {
  const worker = new FakeWorker();
  const monitor = worker.monitor();
  for (const memory of [50, 80, 81, 95, 81, 80, 10, 90]) {
    worker.memory = memory;
    monitor.check(0);
  }
  expect(worker.statuses).toEqual(["running", "paused", "running", "paused"]);
  expect(worker.lines).toEqual([
    "Worker is at 81% memory usage. Pausing worker.  Process memory: 81 B -- Worker memory limit: 100 B",
    "Worker is at 80% memory usage. Resuming worker. Process memory: 80 B -- Worker memory limit: 100 B",
    "Worker is at 90% memory usage. Pausing worker.  Process memory: 90 B -- Worker memory limit: 100 B",
  ]);
});

test("a worker that closes or starts is left alone", () => {
  const worker = new FakeWorker();
  worker.memory = 99;
  for (const status of ["init", "closing_gracefully", "closing"]) {
    worker.setStatus(status);
    worker.monitor().check(0);
    expect(worker.status()).toBe(status);
  }
});

test("a long pause is said again, more and more rarely", () => {
  const worker = new FakeWorker();
  const monitor = worker.monitor();
  worker.memory = 90;
  for (let now = 1000; now < 1300; now++) monitor.check(now);
  expect(worker.lines.slice(1)).toEqual([
    "Worker is still at 90% memory usage after 60 s; its tasks wait until memory is released. " +
      "Process memory: 90 B -- Worker memory limit: 100 B",
    expect.stringContaining("after 120 s"),
    expect.stringContaining("after 240 s"),
  ]);
  // The next pause counts anew.
  worker.memory = 10;
  monitor.check(1300);
  worker.memory = 90;
  monitor.check(1301);
  worker.lines.length = 0;
  monitor.check(1360);
  expect(worker.lines).toEqual([]);
  monitor.check(1361);
  expect(worker.lines).toHaveLength(1);
});

test("the limits may change while it runs", () => {
  const worker = new FakeWorker();
  const monitor = worker.monitor({ limit: 100, pause: false });
  worker.memory = 90;
  monitor.check(0);
  expect(worker.status()).toBe("running");
  monitor.limits.pause = 0.5;
  monitor.check(0);
  expect(worker.status()).toBe("paused");
  monitor.limits.limit = 1000;
  monitor.check(0);
  expect(worker.status()).toBe("running");
  monitor.limits.limit = null;
  monitor.check(0);
  expect(worker.statuses).toEqual(["running", "paused", "running"]);
});
