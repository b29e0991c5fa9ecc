import {
  CommClosedError,
  ConnectionPool,
  Float,
  Pickled,
  pickled,
  PythonChildError,
  type Value,
} from "@dask-ts/protocol";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { WorkerOptions } from "../../src/server/options.ts";
import { Worker } from "../../src/server/worker.ts";
import { fakeExecutors } from "./support/fake-executor.ts";
import { FakeScheduler } from "./support/fake-scheduler.ts";
import { until } from "./support/until.ts";

let scheduler: FakeScheduler;
let workers: Worker[] = [];
let executors = fakeExecutors();

beforeEach(async () => {
  scheduler = await FakeScheduler.start();
  executors = fakeExecutors();
});

afterEach(async () => {
  await Promise.all(workers.map((worker) => worker.close({ reason: "test" })));
  workers = [];
  await scheduler.close();
});

function makeWorker(options: Partial<WorkerOptions> = {}): Worker {
  const worker = new Worker({
    scheduler: scheduler.address,
    startExecutor: executors.start,
    nthreads: 2,
    memoryLimit: null,
    dashboardAddress: null,
    ...options,
  });
  workers.push(worker);
  return worker;
}

function computeTask(key: string, runSpec: Pickled = pickled(Buffer.from("spec"))): Record<string, Value> {
  return {
    op: "compute-task",
    key,
    run_id: 1,
    priority: [0, 1],
    stimulus_id: "test",
    who_has: new Map(),
    nbytes: new Map(),
    run_spec: runSpec,
    resource_restrictions: null,
    actor: false,
    annotations: new Map(),
    span_id: null,
  };
}

describe("registration", () => {
  test("says everything that a stock scheduler asks for, then that it runs", async () => {
    const worker = makeWorker({ name: "alice", resources: new Map([["GPU", 2]]) });
    await worker.start();
    const [message] = scheduler.registrations;
    expect(Object.keys(message ?? {}).sort()).toEqual(
      [
        ..."address extra local_directory memory_limit metrics name nanny nthreads now pid resources".split(" "),
        ..."server_id services status stimulus_id versions".split(" "),
      ].sort(),
    );
    expect(message).toMatchObject({ status: "init", nthreads: 2, name: "alice", address: worker.address, nanny: null });
    expect(message?.["resources"]).toEqual(new Map([["GPU", new Float(2)]]));
    const metrics = message?.["metrics"] as Map<string, Map<string, Value>>;
    expect([...(metrics.get("bandwidth")?.keys() ?? [])]).toEqual(["total", "workers", "types"]);
    expect([...(metrics.get("spilled_bytes")?.keys() ?? [])]).toEqual(["memory", "disk"]);
    expect(metrics.has("memory")).toBe(true);
    await until("the status arrives", () => scheduler.stream.length > 0);
    expect(scheduler.stream[0]).toMatchObject({ op: "worker-status-change", status: "running" });
  });

  test("gives plugins of the reply to the executor", async () => {
    scheduler.plugins.set("shuffle", Buffer.from("pickle"));
    await makeWorker().start();
    const added = executors.made[0]?.calls.find((call) => call.op === "plugin-add");
    expect(added?.fields).toEqual({ name: "shuffle", plugin: new Uint8Array(Buffer.from("pickle")) });
  });

  test("a refused name ends the start and the worker", async () => {
    scheduler.refusals.push({ status: "error", message: "name taken, alice", time: 1 });
    const worker = makeWorker({ name: "alice" });
    await expect(worker.start()).rejects.toThrow("name taken, alice");
    expect((await worker.finished).exitCode).toBe(1);
    expect(executors.made[0]?.closed).toBe(true);
  });

  test("waits for a scheduler that is not there, until the death timeout", async () => {
    await scheduler.close();
    const worker = makeWorker({ deathTimeoutS: 0.2 });
    await expect(worker.start()).rejects.toMatchObject({ name: "TimeoutError" });
    expect((await worker.finished).exitCode).toBe(1);
  });
});

describe("heartbeats", () => {
  test("carry metrics, executing tasks and spans", async () => {
    await makeWorker().start();
    await until("a heartbeat comes", () => scheduler.heartbeats.length > 0);
    const [heartbeat] = scheduler.heartbeats;
    expect(Object.keys(heartbeat ?? {}).sort()).toEqual(["address", "executing", "extensions", "metrics", "now"]);
    expect(heartbeat?.["extensions"]).toEqual(new Map([["spans", new Map()]]));
  });

  test("an unknown worker closes", async () => {
    scheduler.heartbeatReply = { status: "missing" };
    const worker = makeWorker();
    await worker.start();
    expect((await worker.finished).reason).toBe("worker-heartbeat-missing");
    await until("the goodbye arrives", () => scheduler.ops().includes("close-stream"));
  });
});

describe("the stream", () => {
  test("runs a task and reports it", async () => {
    await makeWorker().start();
    scheduler.send(computeTask("x"));
    await until("the task is done", () => scheduler.ops().includes("task-finished"));
    const finished = scheduler.stream.find((message) => message["op"] === "task-finished");
    expect(finished).toMatchObject({ key: "x", run_id: 1, nbytes: 8, typename: "int", status: "OK" });
    expect(executors.made[0]?.executed[0]?.runSpec).toBeInstanceOf(Pickled);
  });

  test("freed keys leave the executor", async () => {
    await makeWorker().start();
    scheduler.send(computeTask("x"));
    await until("the task is done", () => scheduler.ops().includes("task-finished"));
    scheduler.send({ op: "free-keys", keys: ["x"], stimulus_id: "test" });
    await until("the value is gone", () => executors.made[0]?.store.size === 0);
  });

  test("an unknown op closes the worker, as in stock", async () => {
    const worker = makeWorker();
    await worker.start();
    scheduler.send({ op: "no-such-op" });
    expect((await worker.finished).reason).toBe("worker-handle-scheduler-connection-broken");
    expect(worker.logs.lines().join("\n")).toContain("No stream handler 'no-such-op' found in Worker");
  });

  test("closing_gracefully is taken over and echoed; nothing runs then", async () => {
    const worker = makeWorker();
    await worker.start();
    scheduler.send({ op: "worker-status-change", status: "closing_gracefully", stimulus_id: "test" });
    await until("the status is echoed", () => scheduler.stream.some((m) => m["status"] === "closing_gracefully"));
    scheduler.send(computeTask("x"));
    scheduler.send({ op: "steal-request", key: "x", stimulus_id: "test" });
    await until("the theft is answered", () => scheduler.ops().includes("steal-response"));
    expect(scheduler.stream.find((m) => m["op"] === "steal-response")?.["state"]).toBe("ready");
    expect(executors.made[0]?.executed).toEqual([]);
  });

  test("shuffle-fail goes to the executor", async () => {
    await makeWorker().start();
    scheduler.send({ op: "shuffle-fail", shuffle_id: "s", run_id: 1, message: "gone" });
    await until("it arrives", () => executors.made[0]?.calls.some((call) => call.op === "shuffle-fail") ?? false);
  });

  test("a scheduler that goes away ends the worker", async () => {
    const worker = makeWorker();
    await worker.start();
    scheduler.streams[0]?.abort();
    expect(await worker.finished).toEqual({ reason: "worker-handle-scheduler-connection-broken", exitCode: 0 });
  });

  test("close ends the worker and says goodbye", async () => {
    const worker = makeWorker();
    await worker.start();
    scheduler.send({ op: "close", reason: "scheduler-close" });
    expect(await worker.finished).toEqual({ reason: "scheduler-close", exitCode: 0 });
    await until("the goodbye arrives", () => scheduler.ops().includes("close-stream"));
    const ops = scheduler.ops();
    expect(ops.indexOf("log-event")).toBeLessThan(ops.indexOf("close-stream"));
    expect(scheduler.stream.find((m) => m["op"] === "log-event")?.["topic"]).toBe(worker.address);
  });
});

describe("an executor that dies", () => {
  const nanny = { address: "tcp://127.0.0.1:1", closeGracefully: () => undefined };

  test("under a nanny is replaced; the worker registers again from its address", async () => {
    const worker = makeWorker({ name: "alice", nanny });
    await worker.start();
    scheduler.send(computeTask("x"));
    await until("the task is done", () => scheduler.ops().includes("task-finished"));
    executors.made[0]?.die();
    await until("it is back", () => scheduler.registrations.length === 2 && worker.status === "running");
    expect(scheduler.registrations[1]).toMatchObject({ address: worker.address, name: "alice" });
    expect(executors.made).toHaveLength(2);
    expect(worker.machine?.tasks.size).toBe(0);
    expect(worker.logs.lines().join("\n")).toMatch(/Worker process \d+ was killed by signal SIGSEGV/);
    scheduler.send(computeTask("y"));
    await until("it works", () => executors.made[1]?.executed.length === 1);
  });

  test("in the middle of a scatter breaks the connection, as a worker that is gone would", async () => {
    const worker = makeWorker({ name: "alice", nanny });
    await worker.start();
    const [executor] = executors.made;
    if (executor === undefined) throw new Error("no executor");
    executor.put = async () => {
      throw new PythonChildError("it ended");
    };
    const pool = new ConnectionPool();
    const data = new Map<Value, Value>([["x", 1]]);
    await expect(pool.call(worker.address, "update_data", { data })).rejects.toThrow(CommClosedError);
    await pool.close();
  });

  test("without one ends the worker with an exit code", async () => {
    const worker = makeWorker();
    await worker.start();
    executors.made[0]?.die();
    expect(await worker.finished).toEqual({ reason: "worker-executor-lost", exitCode: 1 });
  });
});

test("a paused worker takes no tasks and goes on after", async () => {
  const worker = makeWorker();
  await worker.start();
  worker.setStatus("paused");
  scheduler.send(computeTask("x"));
  await until("it knows the task", () => worker.machine?.readyCount === 1);
  expect(executors.made[0]?.executed).toEqual([]);
  worker.setStatus("running");
  await until("it runs", () => executors.made[0]?.executed.length === 1);
});

test("the lifetime ends the worker gracefully", async () => {
  const worker = makeWorker({ lifetimeS: 0.1 });
  await worker.start();
  expect((await worker.finished).reason).toBe("worker-lifetime-reached");
  expect(scheduler.calls.find((call) => call.op === "retire_workers")?.fields).toMatchObject({
    workers: [worker.address],
    close_workers: false,
    remove: true,
  });
});
