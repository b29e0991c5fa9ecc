import { afterEach, beforeEach, expect, test } from "vitest";
import { type Comm, ConnectionPool, type Listener, listen, serveComm } from "../../src/index.ts";
import { until } from "../support/wait.ts";

let listener: Listener;
let comms: Comm[];
let pool: ConnectionPool;
let gates: (() => void)[];

beforeEach(async () => {
  comms = [];
  gates = [];
  listener = await listen("tcp://127.0.0.1:0", {
    onComm: (comm) => {
      comms.push(comm);
      void serveComm(
        comm,
        {
          echo: ({ data }) => data ?? null,
          wait: async () => {
            await new Promise<void>((resolve) => gates.push(resolve));
            return "done";
          },
          chatty: (_fields, context) => {
            context.comm.send("one too many");
            return "reply";
          },
        },
        { name: "Test" },
      );
    },
  });
  pool = new ConnectionPool({ limit: 2 });
});
afterEach(async () => {
  listener.close();
  await pool.close();
  for (const comm of comms) comm.abort();
});

const open = (): number => comms.filter((comm) => !comm.closed).length;

test("a comm is used again", async () => {
  for (let i = 0; i < 5; i++) expect(await pool.call(listener.address, "echo", { data: i })).toBe(i);
  expect(comms.length).toBe(1);
});

test("calls beyond the limit wait for a comm", async () => {
  const calls = [1, 2, 3, 4].map(() => pool.call(listener.address, "wait"));
  for (let i = 1; i <= 4; i++) {
    await until(() => gates.length >= Math.min(i + 1, 4), "as many calls as there are comms");
    expect(open()).toBeLessThanOrEqual(2);
    gates[i - 1]!();
  }
  expect(await Promise.all(calls)).toEqual(["done", "done", "done", "done"]);
  expect(pool.open).toBeLessThanOrEqual(2);
});

test("a waiting call can run out of time", async () => {
  const calls = [1, 2].map(() => pool.call(listener.address, "wait"));
  await until(() => gates.length === 2, "both");
  await expect(pool.call(listener.address, "echo", {}, { timeoutMs: 30 })).rejects.toMatchObject({
    name: "TimeoutError",
    message: `echo at ${listener.address} did not answer within 0.03 s`,
  });
  for (const gate of gates) gate();
  await Promise.all(calls);
  expect(await pool.call(listener.address, "echo", { data: 1 })).toBe(1);
});

test("idle comms make room for other addresses", async () => {
  const other = await listen("tcp://127.0.0.1:0", {
    onComm: (comm) => {
      comms.push(comm);
      void serveComm(comm, { echo: () => "other" }, { name: "Other" });
    },
  });
  const calls = [1, 2].map(() => pool.call(listener.address, "wait"));
  await until(() => gates.length === 2, "both");
  for (const gate of gates) gate();
  await Promise.all(calls);
  expect(pool).toMatchObject({ open: 2, active: 0 });
  expect(await pool.call(other.address, "echo")).toBe("other");
  expect(pool.open).toBe(1);
  other.close();
});

test("an idle comm that the peer closed is not used", async () => {
  await pool.call(listener.address, "echo");
  comms[0]!.abort();
  await until(() => pool.open === 0, "seen");
  expect(await pool.call(listener.address, "echo", { data: 1 })).toBe(1);
});

test("an idle comm that says something is not used: that would be the next call's reply", async () => {
  expect(await pool.call(listener.address, "chatty")).toBe("one too many");
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(await pool.call(listener.address, "echo", { data: 1 })).toBe(1);
  expect(comms.length).toBe(2);
});

test("the peer goes in the middle of a call", async () => {
  const call = pool.call(listener.address, "wait");
  await until(() => gates.length === 1, "the call");
  comms[0]!.abort();
  await expect(call).rejects.toMatchObject({ name: "CommClosedError" });
  await until(() => pool.open === 0, "gone");
});

test("remove fails calls to that address only, also those that still connect", async () => {
  const call = pool.call(listener.address, "wait");
  await until(() => gates.length === 1, "the call");
  const connecting = pool.call("tcp://127.0.0.1:1", "echo");
  pool.remove(listener.address, "worker left");
  await expect(call).rejects.toThrow(/worker left|is closed/);
  pool.remove("tcp://127.0.0.1:1", "worker left");
  await expect(connecting).rejects.toThrow("worker left");
  expect(await pool.call(listener.address, "echo", { data: 2 })).toBe(2);
});

test("a comm taken out is the caller's until it is given back", async () => {
  const comm = await pool.take(listener.address);
  expect(pool).toMatchObject({ open: 1, active: 1 });
  comm.send({ op: "echo", data: 1 });
  expect(await comm.receive()).toBe(1);
  pool.release(listener.address, comm);
  expect(pool).toMatchObject({ open: 1, active: 0 });
  const again = await pool.take(listener.address);
  expect(again).toBe(comm);
  await again.close();
  await until(() => pool.open === 0 && pool.active === 0, "closed comms are no longer counted");
});

test("close ends everything", async () => {
  const call = pool.call(listener.address, "wait");
  await until(() => gates.length === 1, "the call");
  const failed = expect(call).rejects.toThrow();
  await pool.close();
  await failed;
  await expect(pool.call(listener.address, "echo")).rejects.toThrow(/closed/);
  await until(() => open() === 0, "the server's comms are closed");
});

test("giving up with a signal", async () => {
  const controller = new AbortController();
  const call = pool.call(listener.address, "wait", {}, { signal: controller.signal });
  await until(() => gates.length === 1, "the call");
  controller.abort(new Error("changed my mind"));
  await expect(call).rejects.toThrow("changed my mind");
  await until(() => pool.open === 0, "its comm is closed");
});
