/** WebSockets of the HTTP port, with clients that are slow, rude or gone. */
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { type HttpServer, serveHttp } from "../../src/http/server.ts";
import { acceptTextSocket, type TextSocket } from "../../src/http/web-socket.ts";
import { Logger } from "../../src/log.ts";

let server: HttpServer;
let peers: TextSocket[];
let texts: string[];
let closed: number;
let slow: number[];
const clients: Socket[] = [];

beforeEach(async () => {
  [peers, texts, closed, slow] = [[], [], 0, []];
  server = await serveHttp({
    addresses: [{ host: "127.0.0.1", port: 0 }],
    prefix: "",
    tls: undefined,
    allowedOrigins: [],
    log: new Logger("x"),
    routes: [
      {
        path: "stream",
        handle: () => undefined,
        upgrade: (request, socket, head) =>
          acceptTextSocket(request, socket, head, (peer) => {
            peers.push(peer);
            return { onText: (text) => texts.push(text), onClose: () => closed++, onSlow: (bytes) => slow.push(bytes) };
          }),
      },
    ],
  });
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  await server.close();
});

async function turns(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 1));
}

const KEY = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";

function open(headers = KEY): Socket {
  const socket = connect(server.port, "127.0.0.1");
  clients.push(socket);
  socket.on("error", () => undefined);
  socket.write(
    `GET /stream HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n${headers}\r\n`,
  );
  return socket;
}

test("a client that takes nothing is cut off at a limit; others go on", async () => {
  const stalled = open();
  stalled.pause();
  const quick = open();
  let received = 0;
  quick.on("data", (chunk: Buffer) => {
    received += chunk.byteLength;
  });
  await turns(() => peers.length === 2);
  const text = "x".repeat(65_536);
  let sent = 0;
  const isOpen = (): boolean => closed === 0;
  while (isOpen()) {
    for (const peer of peers) peer.send(text);
    sent++;
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(slow).toHaveLength(1);
  // What the kernel takes in between is its own affair.
  expect(sent * text.length).toBeLessThan(64 * 1024 * 1024);
  await turns(() => received >= sent * text.length);
});

test("a bad handshake is refused; what is no text, or too long, closes the socket", async () => {
  const bad = open("");
  let reply = "";
  bad.on("data", (chunk: Buffer) => {
    reply += chunk.toString();
  });
  await new Promise((resolve) => bad.once("close", resolve));
  expect([reply.split("\r\n")[0], peers.length]).toEqual(["HTTP/1.1 400 Bad Request", 0]);
  const rude = open();
  rude.resume();
  await turns(() => peers.length === 1);
  // A text of 1 MiB is announced.
  rude.write(Buffer.from([0x81, 0xff, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0]));
  await turns(() => closed === 1);
  const polite = open();
  polite.resume();
  await turns(() => peers.length === 2);
  polite.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]));
  await turns(() => texts.length === 1);
  expect(texts).toEqual(["hi"]);
});
