/** The proxy to workers' HTTP ports, before a worker that misbehaves as the test wants. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { acceptTextSocket, type HttpServer, Logger, loadConfig, serveHttp } from "@dask-ts/protocol";
import { proxyRoutes } from "../../src/http/proxy.ts";
import { Scheduler } from "../../src/server/scheduler.ts";
import { addWorker } from "./workers.ts";

let scheduler: Scheduler;
let proxy: HttpServer;
let worker: Server;
let onRequest: (request: IncomingMessage, response: ServerResponse) => void;
let base: string;

beforeEach(async () => {
  worker = createServer((request, response) => onRequest(request, response));
  await new Promise<void>((resolve) => {
    worker.listen(0, "127.0.0.1", resolve);
  });
  const { port } = worker.address() as AddressInfo;
  scheduler = await Scheduler.start({
    host: "127.0.0.1",
    port: 0,
    dashboardAddress: null,
    config: loadConfig({ env: {}, paths: [] }),
  });
  addWorker(scheduler, port);
  proxy = await serveHttp({
    addresses: [{ host: "127.0.0.1", port: 0 }],
    prefix: "",
    routes: proxyRoutes(scheduler, { address: "", prefix: "", dashboard: true, tls: undefined }),
    tls: undefined,
    allowedOrigins: [],
    log: new Logger("x"),
  });
  base = `http://127.0.0.1:${proxy.port}/proxy/${port}/127.0.0.1`;
});

afterEach(async () => {
  await proxy.close();
  worker.closeAllConnections();
  await new Promise((resolve) => worker.close(resolve));
  await scheduler.close("test-over");
});

test("paths and queries go through as they are; credentials and hop-by-hop headers do not", async () => {
  let seen: IncomingMessage | undefined;
  onRequest = (request, response) => {
    seen = request;
    response.writeHead(203, { "Content-Type": "text/x", "X-Answer": "yes", Connection: "close" });
    response.end("body");
  };
  const reply = await fetch(`${base}/a%2Fb/../c?d=e%20f`, {
    headers: { Authorization: "Bearer secret", Cookie: "a=b", "X-Question": "why" },
  });
  expect([reply.status, reply.headers.get("x-answer"), await reply.text()]).toEqual([203, "yes", "body"]);
  expect(seen?.url).toBe("/c?d=e%20f");
  expect(seen?.headers["x-question"]).toBe("why");
  expect(seen?.headers).not.toHaveProperty("authorization");
  expect(seen?.headers).not.toHaveProperty("cookie");
});

test("a worker that breaks off is a bad gateway", async () => {
  onRequest = (request) => request.socket.destroy();
  const reply = await fetch(`${base}/status`);
  expect([reply.status, await reply.text()]).toEqual([
    502,
    expect.stringMatching(/^502: the worker cannot be reached/),
  ]);
});

test("a client that goes away lets go of the worker", async () => {
  const gone = new Promise((resolve) => {
    onRequest = (request) => void request.socket.once("close", resolve);
  });
  const arrived = new Promise<void>((resolve) => {
    worker.once("request", () => resolve());
  });
  const client = connect(proxy.port, "127.0.0.1");
  client.write(`GET ${new URL(`${base}/slow`).pathname} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await arrived;
  client.destroy();
  await gone;
});

test("WebSockets go through, and their end too", async () => {
  const texts: string[] = [];
  const closed = new Promise<void>((resolve) => {
    worker.on("upgrade", (incoming, socket, head) => {
      const request = { method: "GET", path: "", parts: [], search: "", incoming, body: async () => "" };
      acceptTextSocket(request, socket, head, (peer) => ({
        onText: (text) => {
          texts.push(text);
          peer.send("echo");
        },
        onClose: resolve,
        onSlow: () => undefined,
      }));
    });
  });
  const client = connect(proxy.port, "127.0.0.1");
  client.on("error", () => undefined);
  client.write(
    `GET ${new URL(`${base}/status/ws`).pathname} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
  );
  let reply = "";
  const echoed = new Promise<void>((resolve) => {
    client.on("data", (chunk: Buffer) => {
      reply += chunk.toString("latin1");
      if (reply.endsWith("\r\n\r\n")) client.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
      if (reply.endsWith("echo")) resolve();
    });
  });
  await echoed;
  expect([reply.split("\r\n")[0], texts]).toEqual(["HTTP/1.1 101 Switching Protocols", ["hi"]]);
  client.destroy();
  await closed;
});
