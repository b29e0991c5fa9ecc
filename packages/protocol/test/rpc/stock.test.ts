/** RPC with stock Python peers in both directions, over TCP and TLS. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  asNumber,
  type Comm,
  ConnectionPool,
  type Listener,
  listen,
  loadTls,
  RemoteError,
  serveComm,
  Serialized,
  type TlsSettings,
  type Value,
} from "../../src/index.ts";
import { PythonPeer } from "../support/python.ts";
import { until } from "../support/wait.ts";

let folder: string;
let tls: TlsSettings;
let peer: PythonPeer | undefined;
let listener: Listener | undefined;
let pool: ConnectionPool | undefined;
const comms = new Set<Comm>();

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "dask-ts-tls-"));
  const python = fileURLToPath(new URL("../../../../.venv/bin/python", import.meta.url));
  execFileSync(process.env["DASK_TS_PYTHON"] ?? python, [
    fileURLToPath(new URL("../support/make_certs.py", import.meta.url)),
    folder,
  ]);
  tls = loadTls({ caFile: join(folder, "ca.pem"), cert: join(folder, "peer.pem") });
});

afterEach(async () => {
  listener?.close();
  await pool?.close();
  await peer?.stop();
  for (const comm of comms) comm.abort();
  comms.clear();
  [listener, pool, peer] = [undefined, undefined, undefined];
});

afterAll(() => rmSync(folder, { recursive: true }));

const handlers = {
  echo: (fields: { data?: Value | undefined }): Value => fields.data ?? null,
  fail: (fields: { text?: Value | undefined }): Value => {
    throw new Error(String(fields.text));
  },
  blocked: (): Value => "never",
};

async function serve(scheme: string): Promise<Listener> {
  return listen(`${scheme}://127.0.0.1:0`, {
    tls: scheme === "tls" ? tls : undefined,
    onComm: (comm) => {
      comms.add(comm);
      void serveComm(comm, handlers, { name: "Scheduler", blockedHandlers: ["blocked"] });
    },
  });
}

describe.each(["tcp", "tls"])("%s", (scheme) => {
  const certificates = (): string[] => (scheme === "tls" ? [folder] : []);

  test("a stock rpc() calls our server", async () => {
    listener = await serve(scheme);
    peer = new PythonPeer("stock_peer.py", ["client", listener.contactAddress, ...certificates()]);
    expect(await peer.next()).toMatchObject({
      options: { "pickle-protocol": 5, compression: null },
      remote: { "pickle-protocol": 5, compression: null },
    });
    expect(await peer.next()).toEqual({ echo: "{('a', 1): (1, 1.0, b'x')}" });
    expect(await peer.next()).toEqual({ echo: "(1, 'two', None)" });
    expect(await peer.next()).toMatchObject({ op: "fail", text: expect.stringContaining("on purpose") });
    expect(await peer.next()).toMatchObject({
      op: "nothing_of_that_name",
      text: expect.stringContaining("nothing_of_that_name"),
    });
    await peer.next();
    expect(await peer.next()).toMatchObject({
      op: "blocked",
      text: expect.stringContaining("disallowed in Scheduler"),
    });
    expect(await peer.next()).toEqual({ big: true });
    expect(await peer.next()).toEqual({ done: true });
    await until(() => [...comms].every((comm) => comm.closed), "all comms closed by {op: close}");
  });

  test("our pool calls a stock server", async () => {
    peer = new PythonPeer("stock_peer.py", ["server", `${scheme}://127.0.0.1:0`, ...certificates()]);
    const { address } = await peer.next<{ address: string }>();
    pool = new ConnectionPool({ connect: { tls } });
    expect(await pool.call(address, "echo", { data: [1, new Map([[["a", 1], null]])] })).toEqual([
      1,
      new Map([[["a", 1], null]]),
    ]);
    const reply = (await pool.call(address, "value")) as Record<string, Value>;
    expect(reply["data"]).toBeInstanceOf(Serialized);
    expect(reply["key"]).toEqual(["a", 1]);
    expect(pool).toMatchObject({ open: 1, active: 0 });

    const failure = await pool.call(address, "fail", { text: "on purpose" }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(RemoteError);
    expect((failure as RemoteError).exceptionText).toBe("ValueError('on purpose')");
    expect((failure as RemoteError).exception).toBeInstanceOf(Serialized);
    expect(pool).toMatchObject({ open: 1, active: 0 });
    await expect(pool.call(address, "echo", { data: 1, more: 2 })).rejects.toThrow(
      /unexpected keyword argument 'more'/,
    );

    const both = await Promise.all([pool.call(address, "count"), pool.call(address, "count")]);
    expect(both.length).toBe(2);
    expect(pool.open).toBe(2);

    await expect(pool.call(address, "sleep", { seconds: 60 }, { timeoutMs: 100 })).rejects.toThrow(
      /sleep at .* did not answer within 0.1 s/,
    );
    await until(() => pool?.open === 1, "the comm of the failed call is closed");
    const big = new Uint8Array(64 * 2 ** 20).fill(7);
    expect(Buffer.compare((await pool.call(address, "echo", { data: big })) as Uint8Array, big)).toBe(0);
    await pool.close();
    expect(pool.open).toBe(0);
    const other = new ConnectionPool({ connect: { tls } });
    // The sleeping handler does not look at its comm; all others are gone.
    let count = 99;
    while (count > 2) count = asNumber(await other.call(address, "count"), 0);
    await other.close();
  });
});

test("a certificate of another CA is refused by both sides, at once", async () => {
  listener = await serve("tls");
  const stranger = loadTls({ caFile: join(folder, "ca.pem"), cert: join(folder, "stranger.pem") });
  pool = new ConnectionPool({ connect: { tls: stranger } });
  const failure = await pool.call(listener.address, "echo", { data: 1 }).catch((error: unknown) => error);
  expect((failure as Error).name).toBe("CommClosedError");
  listener.close();
  let rejected: Error | undefined;
  listener = await listen("tls://127.0.0.1:0", {
    tls: stranger,
    onComm: () => undefined,
    onRejected: (error) => {
      rejected = error;
    },
  });
  pool = new ConnectionPool({ connect: { tls } });
  await expect(pool.call(listener.address, "echo", { data: 1 })).rejects.toThrow(/security settings/);
  await until(() => rejected !== undefined, "the listener tells of it");
});

test("a peer that does not read holds its messages back here, and gets them all", async () => {
  peer = new PythonPeer("stock_peer.py", ["quiet", "tcp://127.0.0.1:0"]);
  const { address } = await peer.next<{ address: string }>();
  pool = new ConnectionPool();
  const comm = await pool.take(address);
  await peer.next();
  const megabyte = new Uint8Array(2 ** 20);
  for (let i = 0; i < 32; i++) comm.send([megabyte]);
  expect(comm.queuedBytes).toBeGreaterThan(32 * 2 ** 20);
  let drained = false;
  const draining = comm.drained().then(() => {
    drained = true;
  });
  await pool.call(address, "echo", {}, { timeoutMs: 50 }).catch(() => undefined);
  expect(drained).toBe(false);
  expect(comm.queuedBytes).toBeGreaterThan(2 ** 20);
  peer.tell("read");
  await draining;
  expect(comm.queuedBytes).toBeLessThan(2 ** 20);
  await peer.next();
  expect(await peer.next()).toEqual({ read: 32 });
});
