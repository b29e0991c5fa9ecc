import { ConnectionPool, Logger } from "@dask-ts/protocol";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Nanny } from "../../src/nanny/nanny.ts";
import { TerminationMonitor } from "../../src/nanny/termination-monitor.ts";
import { fakeExecutors } from "../server/support/fake-executor.ts";
import { FakeScheduler } from "../server/support/fake-scheduler.ts";
import { until } from "../server/support/until.ts";

let scheduler: FakeScheduler;
let nanny: Nanny;
const pool = new ConnectionPool();
let executors = fakeExecutors();

beforeEach(async () => {
  scheduler = await FakeScheduler.start();
  executors = fakeExecutors();
  nanny = await Nanny.start({
    scheduler: scheduler.address,
    startExecutor: executors.start,
    name: "alice",
    nthreads: 1,
    memoryLimit: null,
    dashboardAddress: null,
  });
});

afterEach(async () => {
  pool.remove(nanny.address);
  await nanny.close();
  await scheduler.close();
});

test("the worker names its nanny, whose variables its executor gets", () => {
  expect(scheduler.registrations[0]).toMatchObject({ nanny: nanny.address, name: "alice" });
  expect(executors.made[0]?.spec.environment).toMatchObject({ OMP_NUM_THREADS: "1", PYTHONHASHSEED: "6640" });
});

test("kill ends the worker; another one comes from a new address", async () => {
  const first = nanny.worker?.address;
  expect(await pool.call(nanny.address, "kill", { reason: "test" })).toBe(null);
  await until(
    "a new worker is there",
    () => scheduler.registrations.length === 2 && nanny.worker?.status === "running",
  );
  expect(nanny.worker?.address).not.toBe(first);
  expect(scheduler.calls.find((call) => call.op === "unregister")?.fields["address"]).toBe(first);
  expect(executors.made[0]?.closed).toBe(true);
});

test("restart answers when the new worker runs", async () => {
  const first = nanny.worker?.address;
  expect(await pool.call(nanny.address, "restart", { timeout: 10 })).toBe("OK");
  expect(nanny.worker?.status).toBe("running");
  expect(nanny.worker?.address).not.toBe(first);
  expect(scheduler.registrations).toHaveLength(2);
});

test("a worker that the scheduler closes takes the nanny with it", async () => {
  scheduler.send({ op: "close", reason: "scheduler-close" });
  expect(await nanny.finished).toEqual({ reason: "nanny-close-gracefully", exitCode: 0 });
  expect(nanny.status).toBe("closed");
});

test("close ends both", async () => {
  await nanny.close({ reason: "signal-15" });
  expect(await nanny.finished).toEqual({ reason: "signal-15", exitCode: 0 });
  expect(executors.made[0]?.closed).toBe(true);
  const lines = nanny.logs.lines().join("\n");
  expect(lines).toMatch(/Start Nanny at: 'tcp:\/\/127\.0\.0\.1:\d+'/);
  expect(lines).toMatch(/Closing Nanny at 'tcp:.*Reason: signal-15/);
});

test("a nanny plugin is refused by its name", async () => {
  const reply = await pool.call(nanny.address, "plugin_add", { plugin: Buffer.from("x"), name: "Environ" });
  expect(reply).toMatchObject({ status: "error" });
  expect(String((reply as Record<string, unknown>)["exception_text"])).toContain("Environ");
});

test("too much memory: SIGTERM first, SIGKILL where that did not help", () => {
  const signals: string[] = [];
  const events: unknown[] = [];
  let rss = 90;
  const monitor = new TerminationMonitor(100, 0.95, new Logger("test"), (event) => events.push(event), {
    residentBytes: () => rss,
    signal: (pid, signal) => signals.push(`${pid} ${signal}`),
  });
  monitor.check("tcp://a:1", 7);
  expect(signals).toEqual([]);
  rss = 96;
  monitor.check("tcp://a:1", 7);
  monitor.check("tcp://a:1", 7);
  monitor.check("tcp://a:1", 8);
  expect(signals).toEqual(["7 SIGTERM", "7 SIGKILL", "8 SIGTERM"]);
  expect(events).toHaveLength(2);
});
