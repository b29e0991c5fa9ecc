import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { once } from "node:events";
import { createServer as createProxy } from "node:http";
import { type AddressInfo, connect as connectRaw, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, expect, test } from "vitest";
import { WebSocket } from "ws";
import {
  type Comm,
  connect,
  DEFAULT_LIMITS,
  encodeMessage,
  type Listener,
  listen,
  type ListenSettings,
  loadTls,
  Serialized,
  type Value,
} from "../../src/index.ts";
import { until } from "../support/wait.ts";

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0).reverse()) close();
});

interface Server {
  readonly listener: Listener;
  readonly comms: Comm[];
  readonly rejected: Error[];
}

async function serve(address: string, settings: Partial<ListenSettings> = {}): Promise<Server> {
  const comms: Comm[] = [];
  const rejected: Error[] = [];
  const listener = await listen(address, {
    onComm: (comm) => void comms.push(comm),
    onRejected: (error) => void rejected.push(error),
    ...settings,
  });
  closers.push(
    () => listener.close(),
    () => {
      for (const comm of comms) comm.abort();
    },
  );
  return { listener, comms, rejected };
}

async function pair(server: Server, settings: Parameters<typeof connect>[1] = {}): Promise<[Comm, Comm]> {
  const before = server.comms.length;
  const comm = await connect(server.listener.contactAddress, settings);
  closers.push(() => comm.abort());
  await until(() => server.comms.length > before, "the listener has the comm");
  return [comm, server.comms[before]!];
}

/** A WebSocket that knows nothing of comms. */
function raw(server: Server, options = {}): WebSocket {
  const ws = new WebSocket(`ws://127.0.0.1:${server.listener.port}/`, options);
  ws.on("error", () => undefined);
  closers.push(() => ws.terminate());
  return ws;
}

test("messages go both ways, in order, whatever their size", async () => {
  const server = await serve("ws://127.0.0.1:0", { shardBytes: 100_000 });
  expect(server.listener.contactAddress).toBe(`ws://127.0.0.1:${server.listener.port}`);
  const [near, far] = await pair(server, { shardBytes: 70_000 });
  expect(near.peerAddress).toBe(server.listener.contactAddress);
  expect(far.peerAddress).toMatch(/^ws:\/\/127\.0\.0\.1:\d+$/);
  const big = new Uint8Array(3_000_000).map((_, i) => i % 251);
  const header = encodeMessage({ serializer: "pickle", "num-sub-frames": 2 })[0]!;
  const messages: Value[] = [
    { op: "small" },
    { op: "big", data: new Serialized(header, [big, new Uint8Array(0)]) },
    [1, 2],
  ];
  for (const message of messages) near.send(message);
  for (const message of messages) far.send(message);
  for (const comm of [near, far]) {
    expect(await comm.receive()).toEqual({ op: "small" });
    const { data } = (await comm.receive()) as { readonly data: Serialized };
    expect(Buffer.compare(Buffer.concat(data.frames), big)).toBe(0);
    expect(await comm.receive()).toEqual([1, 2]);
  }
  const ended = new Promise((resolve) => far.onClose(resolve));
  near.send("last");
  await near.close();
  expect(await far.receive()).toBe("last");
  expect(await ended).toBeUndefined();
  expect(() => near.send("more")).toThrow(/closed/);
});

test("whoever does not read slows its peer down", async () => {
  const server = await serve("ws://127.0.0.1:0");
  const [near, far] = await pair(server);
  const chunk = "x".repeat(1_000_000);
  for (let i = 0; i < 50; i++) near.send(chunk);
  await until(() => far.waiting > 0, "the first message is there");
  expect(near.queuedBytes).toBeGreaterThan(10_000_000);
  for (let i = 0; i < 50; i++) expect(((await far.receive()) as string).length).toBe(1_000_000);
  await near.drained();
});

test("IPv6", async () => {
  const server = await serve("ws://[::1]:0");
  const [near, far] = await pair(server);
  expect(near.peerAddress).toBe(`ws://[::1]:${server.listener.port}`);
  far.send("hello");
  expect(await near.receive()).toBe("hello");
});

test("wss with the cluster's certificates, and not without", async () => {
  const folder = mkdtempSync(join(tmpdir(), "dask-ts-wss-"));
  closers.push(() => rmSync(folder, { recursive: true }));
  const python = fileURLToPath(new URL("../../../../.venv/bin/python", import.meta.url));
  execFileSync(process.env["DASK_TS_PYTHON"] ?? python, [
    fileURLToPath(new URL("../support/make_certs.py", import.meta.url)),
    folder,
  ]);
  const tls = loadTls({ caFile: join(folder, "ca.pem"), cert: join(folder, "peer.pem") });
  await expect(serve("wss://127.0.0.1:0")).rejects.toThrow(/without TLS certificates/);
  const server = await serve("wss://127.0.0.1:0", { tls, requireEncryption: true });
  const [near, far] = await pair(server, { tls, requireEncryption: true });
  near.send("secret");
  expect(await far.receive()).toBe("secret");
  // As a browser would: the certificate is none that the system knows.
  await expect(connect(server.listener.contactAddress)).rejects.toThrow(/TLS with .* failed/);
  await until(() => server.rejected.length === 1, "the anonymous peer is refused");
});

test("nobody listens or connects in the clear where encryption is required", async () => {
  await expect(serve("ws://127.0.0.1:0", { requireEncryption: true })).rejects.toThrow(/encryption required/);
  await expect(connect("ws://127.0.0.1:1", { requireEncryption: true })).rejects.toThrow(/encryption required/);
});

test("other schemes are refused with a sentence", async () => {
  await expect(connect("ucx://127.0.0.1:1")).rejects.toThrow(/unknown address scheme 'ucx'.*distributed-ucxx/);
  await expect(serve("inproc://127.0.0.1:0")).rejects.toThrow(/inproc/);
});

test("pages of other sites are refused, a proxy's own name is not", async () => {
  const server = await serve("ws://127.0.0.1:0");
  const status = (headers: Record<string, string>): Promise<number> =>
    new Promise((resolve) => {
      const ws = raw(server, { headers });
      ws.once("unexpected-response", (_, response) => resolve(response.statusCode ?? 0));
      ws.once("open", () => resolve(101));
    });
  expect(await status({ Origin: "https://evil.example" })).toBe(403);
  expect(server.rejected[0]?.message).toContain("https://evil.example");
  expect(await status({ Origin: `http://127.0.0.1:${server.listener.port}` })).toBe(101);
  expect(await status({ Origin: "https://hub.example", "X-Forwarded-Host": "hub.example" })).toBe(101);
  expect(await status({})).toBe(101);
});

test("what is no comm is told so, and closed in time", async () => {
  const server = await serve("ws://127.0.0.1:0", { handshakeTimeoutMs: 200 });
  const reply = await fetch(`http://127.0.0.1:${server.listener.port}/`);
  expect([reply.status, await reply.text()]).toEqual([426, expect.stringContaining("WebSocket")]);
  const silent = connectRaw({ host: "127.0.0.1", port: server.listener.port });
  const closed = new Promise<void>((resolve) => silent.once("close", () => resolve()));
  await closed;
  const mute = raw(server);
  await new Promise((resolve) => mute.once("close", resolve));
  expect(server.rejected.map((error) => error.message)).toEqual([expect.stringContaining("no handshake")]);
  expect(server.comms).toEqual([]);
});

test("messages that are none close only their own connection", async () => {
  const limits = { ...DEFAULT_LIMITS, maxFrames: 10, maxFrameBytes: 1000, maxMessageBytes: 1500 };
  const server = await serve("ws://127.0.0.1:0", { limits });
  const [near] = await pair(server);
  const count = (n: number): Buffer => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(n));
    return bytes;
  };
  const bad: (Buffer | string)[][] = [
    ["text"],
    [Buffer.from("seven b")],
    [count(0)],
    [count(11)],
    [count(1), Buffer.alloc(1001)],
    [count(2), Buffer.alloc(800), Buffer.alloc(800)],
    [count(1), Buffer.from([0xc1])],
  ];
  for (const [i, messages] of bad.entries()) {
    const ws = raw(server);
    await new Promise((resolve) => ws.once("open", resolve));
    for (const message of messages) ws.send(message);
    await new Promise((resolve) => ws.once("close", resolve));
    await until(() => server.rejected.length === i + 1, `the listener refuses ${i}`);
  }
  near.send("still here");
  expect(await server.comms[0]!.receive()).toBe("still here");
});

test("pages and comms on one port", async () => {
  const server = await serve("ws://127.0.0.1:0");
  server.listener.share?.({
    request: (request, response) => response.end(`page ${request.url}`),
    upgrade: (request, socket) => socket.end(`HTTP/1.1 418 ${request.url}\r\nContent-Length: 0\r\n\r\n`),
  });
  const page = await fetch(`http://127.0.0.1:${server.listener.port}/health`);
  expect(await page.text()).toBe("page /health");
  const other = new WebSocket(`ws://127.0.0.1:${server.listener.port}/eventstream`);
  const [error] = (await once(other, "error")) as [Error];
  expect(error.message).toContain("418");
  const [near, far] = await pair(server);
  near.send(1);
  expect(await far.receive()).toBe(1);
});

test("through an HTTP proxy that is not up at once", async () => {
  const server = await serve("ws://127.0.0.1:0");
  let upgrades = 0;
  const proxy = createProxy((_, response) => response.end());
  proxy.on("upgrade", (request, socket: Socket, head: Buffer) => {
    socket.on("error", () => undefined);
    if (upgrades++ < 2) {
      socket.end("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n");
      return;
    }
    const upstream = connectRaw({ host: "127.0.0.1", port: server.listener.port }, () => {
      const lines = [
        `GET ${request.url} HTTP/1.1`,
        "Host: inside.example",
        `X-Forwarded-Host: ${request.headers.host}`,
      ];
      for (const [name, value] of Object.entries(request.headers)) if (name !== "host") lines.push(`${name}: ${value}`);
      upstream.write(`${lines.join("\r\n")}\r\n\r\n`);
      upstream.write(head);
      upstream.pipe(socket);
      socket.pipe(upstream);
    });
    upstream.on("error", () => undefined);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  closers.push(() => proxy.close());
  const comm = await connect(`ws://127.0.0.1:${(proxy.address() as AddressInfo).port}`, { timeoutMs: 5000 });
  closers.push(() => comm.abort());
  await until(() => server.comms.length === 1, "the comm is through");
  comm.send("through");
  expect(await server.comms[0]!.receive()).toBe("through");
  expect(upgrades).toBe(3);
});
