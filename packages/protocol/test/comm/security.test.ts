import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { connect as connectRaw } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Comm, connect, listen, loadConfig, loadSecurity, loadTls } from "../../src/index.ts";
import { until } from "../support/wait.ts";

let folder: string;
const file = (name: string): string => join(folder, name);

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "dask-ts-tls-"));
  const python = fileURLToPath(new URL("../../../../.venv/bin/python", import.meta.url));
  execFileSync(process.env["DASK_TS_PYTHON"] ?? python, [
    fileURLToPath(new URL("../support/make_certs.py", import.meta.url)),
    folder,
  ]);
});
afterAll(() => rmSync(folder, { recursive: true }));

function security(env: Record<string, string> = {}, flags = {}): ReturnType<typeof loadSecurity> {
  return loadSecurity(loadConfig({ env, paths: [] }), "scheduler", flags);
}

test("without certificates", () => {
  const { tls, requireEncryption, connect: settings } = security({ DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT: "5s" });
  expect({ tls, requireEncryption, timeoutMs: settings.timeoutMs }).toEqual({
    tls: undefined,
    requireEncryption: false,
    timeoutMs: 5000,
  });
});

test("flags require encryption, the configuration's files do not", () => {
  const flags = { caFile: file("ca.pem"), cert: file("peer.pem") };
  expect(security({}, flags)).toMatchObject({ requireEncryption: true, tls: { minVersion: "TLSv1.2" } });
  const env = {
    DASK_DISTRIBUTED__COMM__TLS__CA_FILE: file("ca.pem"),
    DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT: file("peer.pem"),
    DASK_DISTRIBUTED__COMM__TLS__MIN_VERSION: "1.3",
  };
  expect(security(env)).toMatchObject({ requireEncryption: false, tls: { minVersion: "TLSv1.3" } });
  expect(security({ ...env, DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION: "True" }).requireEncryption).toBe(true);
  expect(loadSecurity(loadConfig({ env, paths: [] }), "worker").tls).toBeUndefined();
  expect(() => security({ ...env, DASK_DISTRIBUTED__COMM__TLS__MIN_VERSION: "1.1" })).toThrow(/min-version=1.1/);
  expect(() => security({ ...env, DASK_DISTRIBUTED__COMM__TLS__CA_FILE: "/no/such" })).toThrow(/CA file '\/no\/such'/);
});

test("nobody listens or connects in the clear where encryption is required", async () => {
  const { listen: settings, connect: connecting } = security({}, { caFile: file("ca.pem"), cert: file("peer.pem") });
  await expect(listen("tcp://127.0.0.1:0", { ...settings, onComm: () => undefined })).rejects.toThrow(/encryption/);
  await expect(connect("tcp://127.0.0.1:1", connecting)).rejects.toThrow(/encryption/);
});

test("PEM texts, a cipher list that leaves TLS 1.3 alone, and peers that do not belong", async () => {
  const pem = readFileSync(file("peer.pem"), "utf8");
  const tls = loadTls({
    caFile: readFileSync(file("ca.pem"), "utf8"),
    cert: pem,
    key: pem,
    ciphers: "ECDHE+AESGCM",
  });
  const comms: Comm[] = [];
  const rejected: string[] = [];
  const listener = await listen("tls://127.0.0.1:0", {
    tls,
    handshakeTimeoutMs: 2000,
    onComm: (comm) => void comms.push(comm),
    onRejected: (error) => void rejected.push(error.name),
  });
  const comm = await connect(listener.contactAddress, { tls });
  expect(comm.peerAddress).toBe(listener.address);
  const plain = connectRaw({ host: "127.0.0.1", port: listener.port });
  plain.on("error", () => undefined);
  plain.write("not TLS at all, not even close");
  await until(() => rejected.length === 1, "the plain peer is refused");
  const anonymous = connectTls({ host: "127.0.0.1", port: listener.port, rejectUnauthorized: false });
  anonymous.on("error", () => undefined);
  await until(() => rejected.length === 2, "the peer without a certificate is refused");
  const protocol = await new Promise<string | null>((resolve) => {
    const socket = connectTls({
      host: "127.0.0.1",
      port: listener.port,
      secureContext: tls.secureContext,
      checkServerIdentity: () => undefined,
    });
    socket.once("secureConnect", () => {
      resolve(socket.getProtocol());
      socket.destroy();
    });
  });
  expect(protocol).toBe("TLSv1.3");
  expect(comms.length).toBe(1);
  comm.abort();
  comms[0]?.abort();
  listener.close();
});

test("a compression that only Python knows stops nothing", () => {
  const { connect, warnings } = loadSecurity(
    loadConfig({ env: { DASK_DISTRIBUTED__COMM__COMPRESSION: "snappy" }, paths: [] }),
    "scheduler",
  );
  expect(connect.handshake?.compression).toBeNull();
  expect(warnings).toEqual([expect.stringContaining("compression=snappy")]);
});
