/** Peers that break the rules lose their connection, and nobody else notices. */
import { connect as connectSocket, type Socket } from "node:net";
import { connect, getAddressPort, isMessage, type Value } from "@dask-ts/protocol";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestCluster, until } from "./cluster.ts";

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start();
});
afterAll(() => cluster.stop());

function raw(bytes: Uint8Array): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connectSocket(getAddressPort(cluster.scheduler.address), "127.0.0.1", () => {
      socket.write(bytes);
      resolve(socket);
    });
    socket.on("error", reject);
  });
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.on("error", () => undefined);
    socket.once("close", () => resolve());
    socket.resume();
  });
}

async function identityWorks(): Promise<void> {
  const comm = await connect(cluster.scheduler.address);
  comm.send({ op: "identity", n_workers: 0 });
  const reply = await comm.receive();
  expect(isMessage(reply) && reply["type"]).toBe("Scheduler");
  await comm.close();
}

test("bytes that are no message", async () => {
  const lines = cluster.lines("WARNING").length;
  const socket = await raw(Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(4)));
  await closed(socket);
  await until(() => cluster.lines("WARNING").length > lines, "a line in the log");
  await identityWorks();
});

test("a message that says it is larger than any may be", async () => {
  const lines = cluster.lines("WARNING").length;
  const prelude = Buffer.alloc(24);
  prelude.writeBigUInt64LE(2n ** 60n, 0);
  prelude.writeBigUInt64LE(1n, 8);
  prelude.writeBigUInt64LE(2n ** 60n, 16);
  await closed(await raw(prelude));
  await until(() => cluster.lines("WARNING").length > lines, "a line in the log");
  await identityWorks();
});

test("requests that are none", async () => {
  for (const request of [[1, 2], { no: "op" }, "OK"] as Value[]) {
    const comm = await connect(cluster.scheduler.address);
    comm.send(request);
    await expect(comm.receive()).rejects.toThrow();
  }
  await identityWorks();
});

test("an unknown op and a wrong field are answered, and the comm lives on", async () => {
  const comm = await connect(cluster.scheduler.address);
  for (const request of [{ op: "nonsense" }, { op: "who_has", keys: 5 }, { op: "gather" }]) {
    comm.send(request);
    const reply = await comm.receive();
    expect(isMessage(reply) && reply["status"]).toBe("uncaught-error");
  }
  comm.send({ op: "ncores" });
  expect(await comm.receive()).toBeDefined();
  await comm.close();
});

test("a client whose stream breaks the rules is removed, others stay", async () => {
  const streams = await Promise.all(
    ["Client-good", "Client-bad"].map(async (client) => {
      const comm = await connect(cluster.scheduler.address);
      comm.send({ op: "register-client", client, reply: false, versions: new Map() });
      expect(await comm.receive()).toHaveLength(1);
      return comm;
    }),
  );
  const [good, bad] = streams as [(typeof streams)[0], (typeof streams)[0]];
  bad.send([{ op: "no-such-stream-op" }]);
  await expect(bad.receive()).rejects.toThrow();
  await until(() => !cluster.scheduler.core.state.clients.has("Client-bad"), "the client to be removed");
  expect(cluster.lines("ERROR").join("\n")).toContain("no-such-stream-op");
  good.send([{ op: "heartbeat-client" }]);
  expect(await good.receive()).toMatchObject([{ op: "adjust-heartbeat-interval" }]);
  good.send([{ op: "close-client" }, { op: "close-stream" }]);
  await expect(good.receive()).rejects.toThrow();
  expect(cluster.scheduler.core.state.clients.has("Client-good")).toBe(false);
});

test("a graph without Python fails its own keys with the reason", async () => {
  const alone = await TestCluster.start({ python: "/nonexistent/python" });
  try {
    const facts = await alone.client(`
      report(error=raises(lambda: c.submit(inc, 1).result(timeout=30)))
    `);
    expect(String(facts["error"])).toContain("/nonexistent/python");
  } finally {
    await alone.stop();
  }
});
