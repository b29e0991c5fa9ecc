import { connect as connectRaw, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import {
  type Comm,
  connect,
  decodeMessage,
  DEFAULT_LIMITS,
  encodeMessage,
  FrameSplitter,
  joinFrames,
  type Limits,
  type Listener,
  listen,
  type ListenSettings,
  negotiate,
  type Value,
} from "../../src/index.ts";
import { until } from "../support/wait.ts";

const listeners: Listener[] = [];
const comms: Comm[] = [];
const servers: Server[] = [];
const sockets: Socket[] = [];

afterEach(() => {
  for (const listener of listeners.splice(0)) listener.close();
  for (const comm of comms.splice(0)) comm.abort();
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
});

const HANDSHAKE = { compression: null, python: [3, 11, 7], "pickle-protocol": 5 };

function bytesOf(message: Value): Buffer {
  return Buffer.concat(joinFrames(encodeMessage(message)));
}

function oneMessage(bytes: Buffer): Uint8Array[] {
  let message: Uint8Array[] = [];
  new FrameSplitter((frames) => {
    message = frames;
  }).push(bytes);
  return message;
}

interface Accepted {
  readonly listener: Listener;
  readonly rejected: Error[];
  next(): Promise<Comm>;
}

async function accept(settings: Omit<ListenSettings, "onComm" | "onRejected"> = {}): Promise<Accepted> {
  const waiting: Comm[] = [];
  const rejected: Error[] = [];
  const listener = await listen("tcp://127.0.0.1:0", {
    ...settings,
    onComm: (comm) => {
      waiting.push(comm);
      comms.push(comm);
    },
    onRejected: (error) => rejected.push(error),
  });
  listeners.push(listener);
  return {
    listener,
    rejected,
    next: async () => {
      await until(() => waiting.length > 0, "a comm");
      return waiting.shift()!;
    },
  };
}

async function pair(settings: { limits?: Limits } = {}): Promise<{ ours: Comm; theirs: Comm }> {
  const accepted = await accept(settings);
  const ours = await connect(accepted.listener.address);
  comms.push(ours);
  return { ours, theirs: await accepted.next() };
}

/** A raw socket that has done its part of the handshake. */
async function raw(accepted: Accepted, first: Buffer = bytesOf(HANDSHAKE)): Promise<Socket> {
  const socket = connectRaw({ host: "127.0.0.1", port: accepted.listener.port });
  sockets.push(socket);
  socket.on("error", () => undefined);
  await new Promise((resolve) => socket.once("connect", resolve));
  socket.write(first);
  return socket;
}

function closing(comm: Comm): Promise<Error | undefined> {
  return new Promise((resolve) => comm.onClose(resolve));
}

function ended(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.destroyed) resolve();
    socket.once("close", () => resolve());
    socket.resume();
  });
}

test("messages come in order, whatever their number in one turn", async () => {
  const { ours, theirs } = await pair();
  const got: Value[] = [];
  theirs.listen((message) => {
    got.push(message);
  });
  for (let i = 0; i < 1000; i++) expect(ours.send([i, "x".repeat(i)])).toBeGreaterThan(i);
  await until(() => got.length === 1000, "all messages");
  expect(got.map((message) => (message as Value[])[0])).toEqual(Array.from({ length: 1000 }, (_, i) => i));
  expect([ours.peerAddress, theirs.localAddress]).toEqual([theirs.localAddress, ours.peerAddress]);
  expect(ours.negotiated).toEqual({ compression: null, pickleProtocol: 5 });
});

test("an async listener holds back what follows", async () => {
  const { ours, theirs } = await pair();
  const log: string[] = [];
  const gates: (() => void)[] = [];
  theirs.listen(async (message) => {
    log.push(`start ${String(message)}`);
    await new Promise<void>((resolve) => gates.push(resolve));
    log.push(`end ${String(message)}`);
  });
  for (const i of [1, 2, 3]) ours.send(i);
  for (const i of [1, 2, 3]) {
    await until(() => gates.length === i, `message ${i}`);
    expect(log).toEqual([1, 2, 3].slice(0, i).flatMap((n) => (n < i ? [`start ${n}`, `end ${n}`] : [`start ${n}`])));
    gates[i - 1]!();
  }
  await until(() => log.length === 6, "the last one");
});

test("what came before the peer closed is still delivered, then onClose", async () => {
  const { ours, theirs } = await pair();
  for (const i of [1, 2, 3]) ours.send(i);
  const sent = ours.close();
  const log: Value[] = [];
  theirs.listen(async (message) => {
    await new Promise((resolve) => setImmediate(resolve));
    log.push(message);
  });
  const error = await closing(theirs);
  expect(error).toBeUndefined();
  expect(log).toEqual([1, 2, 3]);
  await sent;
});

test("receive() gives a last message before the news that the comm is closed", async () => {
  const { ours, theirs } = await pair();
  ours.send("last");
  await ours.close();
  await until(() => theirs.closed, "the comm is closed");
  expect(await theirs.receive()).toBe("last");
  await expect(theirs.receive()).rejects.toThrow(/is closed/);
  expect(() => theirs.send(1)).toThrow(/is closed/);
  await expect(theirs.drained()).rejects.toThrow(/is closed/);
});

describe("an error of a listener aborts its comm only", () => {
  test.each([
    [
      "thrown",
      () => {
        throw new Error("broken");
      },
    ],
    ["rejected", () => Promise.reject(new Error("broken"))],
  ])("%s", async (_name, listener) => {
    const accepted = await accept();
    const [a, b] = [await connect(accepted.listener.address), await connect(accepted.listener.address)];
    comms.push(a, b);
    const [one, other] = [await accepted.next(), await accepted.next()];
    one.listen(listener);
    a.send(1);
    expect((await closing(one))?.message).toBe("broken");
    await closing(a);
    b.send(2);
    expect(await other.receive()).toBe(2);
  });
});

test("a listener that throws gets nothing more, not even what had come with it", async () => {
  const { ours, theirs } = await pair();
  const got: Value[] = [];
  theirs.listen((message) => {
    got.push(message);
    throw new Error("broken");
  });
  for (const i of [1, 2, 3]) ours.send(i);
  await closing(theirs);
  expect(got).toEqual([1]);
});

test("what nobody reads stays with its sender", async () => {
  const { ours, theirs } = await pair();
  for (let i = 0; i < 64; i++) ours.send(new Uint8Array(2 ** 20));
  await until(() => theirs.waiting > 0, "the first message");
  for (let turn = 0; turn < 200; turn++) await new Promise((resolve) => setImmediate(resolve));
  expect(theirs.waiting).toBeLessThan(4);
  expect(ours.queuedBytes).toBeGreaterThan(2 ** 20);
  for (let i = 0; i < 64; i++) expect(((await theirs.receive()) as Uint8Array).byteLength).toBe(2 ** 20);
  await ours.drained();
});

describe("bytes that break the protocol", () => {
  const cases: [string, Buffer, RegExp][] = [
    ["garbage", Buffer.from("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"), /over the limit/],
    ["no frames", Buffer.alloc(16), /at least one frame/],
    ["no msgpack", Buffer.concat(joinFrames([Buffer.from([0xc1])])), /tag 0xc1/],
    ["a placeholder into nothing", bytesOf(new Map<Value, Value>([["__Pickled__", 7]])), /placeholder/],
  ];
  test.each(cases)("%s", async (_name, bytes, text) => {
    const accepted = await accept();
    const socket = await raw(accepted);
    const comm = await accepted.next();
    const got: Value[] = [];
    comm.listen((message) => void got.push(message));
    socket.write(Buffer.concat([bytesOf({ op: "good" }), bytes, bytesOf({ op: "never" })]));
    const error = await closing(comm);
    expect(error?.name).toBe("ProtocolError");
    expect(error?.message).toMatch(text);
    expect(got).toEqual([{ op: "good" }]);
    await ended(socket);
  });

  test("limits are honoured", async () => {
    const accepted = await accept({ limits: { ...DEFAULT_LIMITS, maxMessageBytes: 1000 } });
    const socket = await raw(accepted);
    const comm = await accepted.next();
    const reading = comm.receive();
    socket.write(bytesOf("x".repeat(2000)));
    await expect(reading).rejects.toMatchObject({ name: "CommClosedError", cause: { name: "ProtocolError" } });
    expect((await closing(comm))?.message).toMatch(/over the limit of 1000/);
  });

  test("half a message", async () => {
    const accepted = await accept();
    const socket = await raw(accepted);
    const comm = await accepted.next();
    socket.end(bytesOf({ op: "x" }).subarray(0, 20));
    expect((await closing(comm))?.message).toMatch(/in the middle of a message/);
  });
});

describe("the handshake", () => {
  test("byte by byte", async () => {
    const accepted = await accept();
    const socket = await raw(accepted, Buffer.alloc(0));
    for (const byte of bytesOf({ ...HANDSHAKE, "pickle-protocol": 4 })) socket.write(Buffer.from([byte]));
    const comm = await accepted.next();
    expect(comm.negotiated.pickleProtocol).toBe(4);
  });

  test("compression is not wanted between two ends on one host", async () => {
    const accepted = await accept({ handshake: { compression: "lz4" } });
    comms.push(await connect(accepted.listener.address, { handshake: { compression: "lz4", pickleProtocol: 4 } }));
    const comm = await accepted.next();
    expect(comm.negotiated).toEqual({ compression: null, pickleProtocol: 4 });
    const socket = await raw(accepted, Buffer.alloc(0));
    const first = await new Promise<Buffer>((resolve) => socket.once("data", resolve));
    expect(decodeMessage(oneMessage(first))).toMatchObject({ compression: null, "pickle-protocol": 5 });
  });

  test("compression is used where both name the same", () => {
    const remote = { compression: "lz4", python: [3, 11, 0], "pickle-protocol": 5 };
    expect(negotiate({ compression: "lz4" }, remote).compression).toBe("lz4");
    expect(negotiate({ compression: "zlib" }, remote).compression).toBe(null);
    expect(negotiate({}, remote).compression).toBe(null);
  });

  test("does not wait for the peer to speak first", async () => {
    const accepted = await accept();
    const socket = await raw(accepted, Buffer.alloc(0));
    const first = await new Promise<Buffer>((resolve) => socket.once("data", resolve));
    expect(first.toString("latin1")).toContain("pickle-protocol");
  });

  test.each([
    ["without pickle-protocol", bytesOf({ compression: null, python: [3, 11, 0] }), /no pickle-protocol/],
    ["that is no map", bytesOf("hello"), /did not begin with a handshake/],
    ["of garbage", Buffer.from("SSH-2.0-OpenSSH_9.6\r\n...."), /over the limit/],
  ])("%s: closed, and told", async (_name, bytes, text) => {
    const accepted = await accept();
    const socket = await raw(accepted, bytes);
    await until(() => accepted.rejected.length > 0, "the rejection");
    expect(accepted.rejected[0]).toMatchObject({ name: "ProtocolError", message: expect.stringMatching(text) });
    await ended(socket);
  });

  test("a large message is accepted after it, not before", async () => {
    const accepted = await accept();
    const large = bytesOf({ ...HANDSHAKE, more: "x".repeat(100_000) });
    const socket = await raw(accepted, large);
    await until(() => accepted.rejected.length > 0, "the rejection");
    expect(accepted.rejected[0]?.message).toMatch(/over the limit of 65536/);
    await ended(socket);
    await raw(accepted, Buffer.concat([bytesOf(HANDSHAKE), large]));
    expect(await (await accepted.next()).receive()).toHaveProperty("more");
  });

  test("a silent peer is dropped after a time", async () => {
    const accepted = await accept({ handshakeTimeoutMs: 50 });
    const socket = await raw(accepted, Buffer.alloc(0));
    await ended(socket);
    expect(accepted.rejected[0]).toMatchObject({ name: "TimeoutError" });
  });

  test("closing the listener drops those who are still in it", async () => {
    const accepted = await accept();
    const socket = await raw(accepted, Buffer.alloc(0));
    await new Promise((resolve) => socket.once("data", resolve));
    accepted.listener.close();
    await ended(socket);
  });
});

describe("connect", () => {
  test("tries again until the time is up", async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    await new Promise((resolve) => server.close(resolve));
    await expect(connect(`tcp://127.0.0.1:${port}`, { timeoutMs: 300 })).rejects.toMatchObject({
      name: "TimeoutError",
      message: `Timed out trying to connect to tcp://127.0.0.1:${port} after 0.3 s`,
      cause: { code: "ECONNREFUSED" },
    });
    const late = connect(`127.0.0.1:${port}`, { timeoutMs: 20_000 });
    const listener = await listen(`tcp://127.0.0.1:${port}`, { onComm: (comm) => void comms.push(comm) });
    listeners.push(listener);
    comms.push(await late);
  });

  test("a peer that accepts and says nothing is no comm", async () => {
    const server = createServer((socket) => void sockets.push(socket));
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as { port: number };
    await expect(connect(`tcp://127.0.0.1:${port}`, { timeoutMs: 100 })).rejects.toThrow(/Timed out.* after 0.1 s/);
  });

  test("can be given up", async () => {
    const reason = new Error("enough");
    await expect(connect("tcp://127.0.0.1:1", { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const attempt = connect("tcp://127.0.0.1:1", { signal: controller.signal });
    setImmediate(() => controller.abort(reason));
    await expect(attempt).rejects.toBe(reason);
  });

  test.each([
    ["ucx://1.2.3.4:5", /unknown address scheme/],
    ["tls://1.2.3.4:5", /without TLS certificates/],
    ["tcp://1.2.3.4", /missing port number/],
    ["tcp://::1:5", /brackets/],
  ])("%s is refused", async (address, text) => {
    await expect(connect(address)).rejects.toThrow(text);
  });

  test("plain connections are refused where encryption is required", async () => {
    await expect(connect("tcp://127.0.0.1:1", { requireEncryption: true })).rejects.toThrow(/encryption required/);
  });
});

describe("listen", () => {
  test("on all interfaces, both stacks; IPv4 peers keep their plain name", async () => {
    const got: Comm[] = [];
    const listener = await listen("tcp://:0", { onComm: (comm) => void got.push(comm), contactHost: "10.1.2.3" });
    listeners.push(listener);
    expect(listener.address).toBe(`tcp://0.0.0.0:${listener.port}`);
    expect(listener.contactAddress).toBe(`tcp://10.1.2.3:${listener.port}`);
    comms.push(await connect(`tcp://127.0.0.1:${listener.port}`));
    await until(() => got.length === 1, "the comm");
    expect(got[0]!.peerAddress).toMatch(/^tcp:\/\/127\.0\.0\.1:\d+$/);
  });

  test("takes the first free port of a range", async () => {
    const first = await listen("tcp://127.0.0.1:0", { onComm: () => undefined });
    listeners.push(first);
    const second = await listen("tcp://127.0.0.1", { onComm: () => undefined, ports: [first.port, 0] });
    listeners.push(second);
    expect(second.port).not.toBe(first.port);
    await expect(
      listen("tcp://127.0.0.1", { onComm: () => undefined, ports: [first.port, first.port] }),
    ).rejects.toThrow(/no free port/);
    await expect(listen(first.address, { onComm: () => undefined })).rejects.toMatchObject({ code: "EADDRINUSE" });
  });

  test("connections beyond the limit are closed", async () => {
    const accepted = await accept({ maxConnections: 1 });
    comms.push(await connect(accepted.listener.address));
    await accepted.next();
    await expect(connect(accepted.listener.address, { timeoutMs: 200 })).rejects.toThrow();
  });
});

test("a value that cannot be encoded throws at its sender and hurts nobody", async () => {
  const { ours, theirs } = await pair();
  expect(() => ours.send([1n << 70n])).toThrow(TypeError);
  ours.send("next");
  expect(await theirs.receive()).toBe("next");
});
