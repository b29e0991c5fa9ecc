import { connect, Logger, LogRing } from "@dask-ts/protocol";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type Identity, register, type RegistrationOptions } from "../../src/server/registration.ts";
import { FakeScheduler } from "./support/fake-scheduler.ts";

let scheduler: FakeScheduler;
let ring: LogRing;

beforeEach(async () => {
  scheduler = await FakeScheduler.start();
  ring = new LogRing(100);
});
afterEach(() => scheduler.close());

const identity: Identity = {
  address: "tcp://127.0.0.1:1",
  status: "init",
  nthreads: 1,
  name: "alice",
  resources: new Map(),
  memoryLimit: null,
  localDirectory: "/tmp",
  services: new Map(),
  nanny: null,
  pid: 1,
  versions: null,
  metrics: new Map(),
  extra: new Map(),
  serverId: "Worker-1",
};

function options(changes: Partial<RegistrationOptions> = {}): RegistrationOptions {
  return {
    scheduler: scheduler.address,
    connect: () => connect(scheduler.address, { timeoutMs: 10_000 }),
    identity: () => identity,
    log: new Logger("test", (record) => ring.add(record)),
    signal: new AbortController().signal,
    replyTimeoutMs: 30_000,
    retryDelayMs: 1,
    now: () => Date.now() / 1000,
    ...changes,
  };
}

test("hands over plugins, the clock's difference and the heartbeat interval", async () => {
  scheduler.plugins.set("shuffle", Buffer.from("p"));
  // This worker's clock is 100 s late.
  const registered = await register(options({ now: () => Date.now() / 1000 - 100 }));
  expect([...registered.plugins.keys()]).toEqual(["shuffle"]);
  expect(Math.abs(registered.schedulerDelay - 100)).toBeLessThan(10);
  expect(registered.heartbeatIntervalS).toBe(0.1);
  registered.comm.abort();
});

test("a warning of the scheduler is logged", async () => {
  scheduler.refusals.push({ status: "OK", time: 1, "heartbeat-interval": 1, warning: "Mismatched versions found" });
  const { comm } = await register(options());
  comm.abort();
  expect(ring.lines().join()).toContain("WARNING - Mismatched versions found");
});

test("a scheduler that never answers is asked again", async () => {
  let attempts = 0;
  const connectTwice = async (): Promise<Awaited<ReturnType<typeof connect>>> => {
    const comm = await connect(scheduler.address);
    // The first comm swallows what is sent, as a scheduler does that already knows the address.
    if (++attempts === 1) comm.send = () => 0;
    return comm;
  };
  const { comm } = await register(options({ connect: connectTwice, replyTimeoutMs: 1000 }));
  comm.abort();
  expect(attempts).toBe(2);
  expect(scheduler.registrations).toHaveLength(1);
});

test("says every 30 s that it waits", async () => {
  let now = 0;
  let attempts = 0;
  const failing = async (): Promise<never> => {
    now += 20;
    if (++attempts === 4) throw new Error("enough");
    throw new Error("nobody there");
  };
  const stop = new AbortController();
  const registering = register(
    options({
      connect: () => failing().finally(() => attempts === 4 && stop.abort(new Error("stopped"))),
      now: () => now,
      signal: stop.signal,
    }),
  );
  await expect(registering).rejects.toThrow("stopped");
  expect(ring.lines().filter((line) => line.includes("Waiting to connect to:"))).toHaveLength(1);
});
