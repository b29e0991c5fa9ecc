import { connect, type Comm, ConnectionPool, isMessage, serializedBytes, type Value } from "@dask-ts/protocol";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { outgoingLimit } from "../../src/server/handlers/data.ts";
import type { WorkerServices } from "../../src/server/handlers/services.ts";
import { DEFAULT_WORKER_SETTINGS } from "../../src/server/settings.ts";
import { Worker } from "../../src/server/worker.ts";
import { type FakeExecutor, fakeExecutors } from "./support/fake-executor.ts";
import { FakeScheduler } from "./support/fake-scheduler.ts";
import { until } from "./support/until.ts";

let scheduler: FakeScheduler;
let worker: Worker;
let executor: FakeExecutor;
const pool = new ConnectionPool();
let comms: Comm[] = [];

beforeEach(async () => {
  scheduler = await FakeScheduler.start();
  const executors = fakeExecutors();
  worker = await Worker.start({
    scheduler: scheduler.address,
    startExecutor: executors.start,
    nthreads: 1,
    memoryLimit: null,
    dashboardAddress: null,
    settings: { ...DEFAULT_WORKER_SETTINGS, connectionsIncoming: 1 },
  });
  executor = executors.made[0]!;
  await pool.call(worker.address, "update_data", {
    data: new Map<Value, Value>([["x", serializedBytes(Buffer.from("1"))]]),
  });
});

afterEach(async () => {
  for (const comm of comms) comm.abort();
  comms = [];
  pool.remove(worker.address);
  await worker.close({ reason: "test" });
  await scheduler.close();
});

async function request(keys: Value): Promise<Comm> {
  const comm = await connect(worker.address);
  comms.push(comm);
  comm.send({ op: "get_data", keys, who: "tcp://127.0.0.1:1" });
  return comm;
}

test("update_data stores, tells the state machine, and answers the sizes", async () => {
  const data = new Map<Value, Value>([[["y", 0], serializedBytes(Buffer.from("2"))]]);
  const reply = await pool.call(worker.address, "update_data", { data });
  expect(reply).toEqual({ nbytes: new Map([[["y", 0], 8]]), status: "OK" });
  expect(await pool.call(worker.address, "keys")).toEqual(["x", ["y", 0]]);
});

test("update_data takes all values or none", async () => {
  executor.broken.add("bad");
  const data = new Map<Value, Value>([
    ["good", 1],
    ["bad", 2],
  ]);
  await expect(pool.call(worker.address, "update_data", { data })).rejects.toThrow("ValueError('broken')");
  expect(await pool.call(worker.address, "keys")).toEqual(["x"]);
  expect([...executor.store.keys()]).toEqual(["x"]);
});

describe("get_data", () => {
  test("answers what is there, leaves out what is not, and takes a Set of keys", async () => {
    const comm = await request(new Set(["x", "unknown"]));
    const reply = await comm.receive();
    expect(isMessage(reply) && [...(reply["data"] as Map<string, Value>).keys()]).toEqual(["x"]);
    comm.send("OK");
    await until("the transfer is over", () => worker.transfers.outgoingCount === 0);
    expect(worker.transfers.outgoingCountTotal).toBe(1);
    expect(worker.transfers.outgoingBytesTotal).toBe(8);
    // The comm stands between two requests again.
    comm.send({ op: "ping" });
    expect(await comm.receive()).toEqual(new Uint8Array(Buffer.from("pong")));
  });

  test("holds its slot until the acknowledgement; others are told to come again", async () => {
    const first = await request(["x"]);
    const second = await request(["x"]);
    await first.receive();
    await second.receive();
    // Two on one host, as the limit of one is doubled there.
    const third = await request(["x"]);
    expect(await third.receive()).toEqual({ status: "busy" });
    first.send("OK");
    await until("a slot is free", () => worker.transfers.outgoingCount === 1);
    third.send({ op: "get_data", keys: ["x"] });
    expect(await third.receive()).toMatchObject({ status: "OK" });
  });

  test("frees its slot where the peer goes away instead of acknowledging", async () => {
    const comm = await request(["x"]);
    await comm.receive();
    comm.abort();
    await until("the slot is free", () => worker.transfers.outgoingCount === 0);
  });

  test("frees its slot and closes the comm where the acknowledgement is something else", async () => {
    const comm = await request(["x"]);
    await comm.receive();
    comm.send({ op: "ping" });
    await expect(comm.receive()).rejects.toMatchObject({ name: "CommClosedError" });
    expect(worker.transfers.outgoingCount).toBe(0);
  });

  test("passes on why a value cannot be serialized", async () => {
    executor.broken.add("x");
    await expect(pool.call(worker.address, "get_data", { keys: ["x"] })).rejects.toThrow("ValueError('broken')");
    expect(worker.transfers.outgoingCount).toBe(0);
  });

  test("breaks off where the executor dies", async () => {
    executor.gate = new Promise(() => undefined);
    const comm = await request(["x"]);
    await until("it has begun", () => worker.transfers.outgoingCount === 1);
    executor.die();
    await expect(comm.receive()).rejects.toMatchObject({ name: "CommClosedError" });
  });
});

test("a paused worker serves one transfer at a time, whoever asks", () => {
  const services = { address: "tcp://10.0.0.1:1", status: "running", connectionsIncoming: 10 } as WorkerServices;
  expect(outgoingLimit(services, "tcp://10.0.0.2:9")).toBe(10);
  expect(outgoingLimit(services, "tcp://10.0.0.1:9")).toBe(20);
  expect(outgoingLimit({ ...services, status: "paused" }, "tcp://10.0.0.1:9")).toBe(1);
  expect(outgoingLimit({ ...services, connectionsIncoming: false }, "tcp://10.0.0.1:9")).toBe(false);
});

test("an unknown op is answered by its name, and bad fields by theirs", async () => {
  await expect(pool.call(worker.address, "no_such_op")).rejects.toThrow("no_such_op");
  await expect(pool.call(worker.address, "free_keys", { keys: 5, stimulus_id: "s" })).rejects.toThrow("keys");
});
