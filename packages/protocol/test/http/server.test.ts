/** The HTTP server against requests good and bad, on raw sockets where a client would not write them. */
import { connect, type Socket } from "node:net";
import { afterEach, beforeEach, expect, test } from "vitest";
import { HttpError, type HttpRoute } from "../../src/http/route.ts";
import { type HttpServer, serveHttp } from "../../src/http/server.ts";
import { Logger, type LogRecord } from "../../src/log.ts";

let server: HttpServer;
let records: LogRecord[];
let upgrades: string[];

const ROUTES: readonly HttpRoute[] = [
  { path: "health", handle: () => ({ body: "ok" }) },
  { path: "", handle: () => ({ status: 301, location: "status" }) },
  { path: "info", handle: () => ({ status: 302, location: "info/main/workers.html" }) },
  { path: "info/task/*.html", handle: ({ parts }) => ({ body: parts.join("|") }) },
  { path: "proxy/:port/:host/**", handle: ({ parts, search }) => ({ body: `${parts.join("|")} ${search}` }) },
  { path: "act", method: "POST", handle: async ({ body }) => ({ body: await body() }) },
  {
    path: "broken",
    handle: () => {
      throw new Error("secret");
    },
  },
  { path: "large", handle: () => ({ body: "x".repeat(40 * 1024 * 1024) }) },
  {
    path: "socket",
    handle: () => {
      throw new HttpError(400, "a WebSocket");
    },
    upgrade: (request, socket) => {
      upgrades.push(request.path);
      socket.end("HTTP/1.1 101 Switching Protocols\r\n\r\n");
    },
  },
];

async function start(prefix = "", allowedOrigins: readonly string[] = ["*"]): Promise<void> {
  records = [];
  upgrades = [];
  server = await serveHttp({
    addresses: [{ host: "127.0.0.1", port: 0 }],
    prefix,
    routes: ROUTES,
    tls: undefined,
    allowedOrigins,
    log: new Logger("distributed.http", (record) => records.push(record)),
  });
}

beforeEach(() => start());
afterEach(() => server.close());

function open(): Socket {
  return connect(server.port, "127.0.0.1");
}

/** Sends bytes and reads until the server closes. */
async function raw(text: string): Promise<string> {
  const socket = open();
  let reply = "";
  socket.on("data", (chunk: Buffer) => {
    reply += chunk.toString("latin1");
  });
  socket.on("error", () => undefined);
  socket.write(text, "latin1");
  await new Promise((resolve) => socket.once("close", resolve));
  return reply;
}

function get(path: string, headers: Readonly<Record<string, string>> = {}, method = "GET"): Promise<string> {
  const lines = Object.entries({ Host: "127.0.0.1", Connection: "close", ...headers }).map(([k, v]) => `${k}: ${v}`);
  return raw(`${method} ${path} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
}

const status = (reply: string): number => Number(/^HTTP\/1\.1 (\d+) /.exec(reply)?.[1]);
const bodyOf = (reply: string): string => reply.slice(reply.indexOf("\r\n\r\n") + 4);
const header = (reply: string, name: string): string | undefined =>
  new RegExp(`^${name}: (.*)\r$`, "im").exec(reply)?.[1];

test("exact paths, patterns and their parts", async () => {
  expect(bodyOf(await get("/health"))).toBe("ok");
  expect(bodyOf(await get("/health/?x=1"))).toBe("ok");
  expect(bodyOf(await get("/info/task/a%2Fb/c.html"))).toBe("a%2Fb/c");
  expect(bodyOf(await get("/proxy/8787/1.2.3.4/a/b?c=d"))).toBe("8787|1.2.3.4|a/b ?c=d");
  expect(bodyOf(await get("/proxy/8787/1.2.3.4/"))).toBe("8787|1.2.3.4| ");
  // As a forward proxy asks.
  expect(bodyOf(await get("http://somewhere:8787/health"))).toBe("ok");
  for (const path of ["/nope", "//health", "/Health", "/info/task/.html", "/health/x", "/%68ealth"]) {
    expect([path, status(await get(path))]).toEqual([path, 404]);
  }
});

test("HEAD is GET without its body; other methods say what there is", async () => {
  const head = await get("/health", {}, "HEAD");
  expect([status(head), header(head, "content-length"), bodyOf(head)]).toEqual([200, "2", ""]);
  const post = await get("/health", { "Content-Length": "0" }, "POST");
  expect([status(post), header(post, "allow")]).toEqual([405, "GET, HEAD"]);
  expect(header(await get("/act"), "allow")).toBe("POST");
  expect(status(await get("/health", {}, "OPTIONS"))).toBe(405);
  expect(status(await get("/nope", {}, "DELETE"))).toBe(404);
});

test("redirects are relative, so that any proxy may sit between", async () => {
  expect(header(await get("/"), "location")).toBe("status");
  expect(header(await get("/info"), "location")).toBe("info/main/workers.html");
  expect(header(await get("/info/"), "location")).toBe("main/workers.html");
  await server.close();
  await start("/some/where/");
  expect(header(await get("/some/where"), "location")).toBe("where/status");
  expect(header(await get("/some/where/"), "location")).toBe("status");
  expect(header(await get("/some/where/info/"), "location")).toBe("main/workers.html");
  expect(status(await get("/health"))).toBe(404);
  expect(status(await get("/some/wherever/health"))).toBe(404);
  expect(bodyOf(await get("/some/where/health"))).toBe("ok");
});

test("what is no request gets a clear answer", async () => {
  expect(status(await raw("hello\r\n\r\n"))).toBe(400);
  expect(status(await raw("GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n"))).toBe(400);
  expect(status(await raw("GET /health HTTP/1.1\r\n\r\n"))).toBe(400);
  expect(status(await get("health"))).toBe(400);
  expect(status(await raw("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))).toBe(400);
  const long = await get(`/${"x".repeat(20_000)}`);
  expect([status(long), bodyOf(long)]).toEqual([431, "431: the request's headers have 16384 bytes at most\n"]);
  expect(status(await get("/health", { Cookie: "x".repeat(20_000) }))).toBe(431);
  expect(records).toEqual([]);
});

test("bodies have a limit", async () => {
  expect(bodyOf(await raw("POST /act HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi"))).toBe(
    "hi",
  );
  expect(status(await raw("POST /act HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\nhi"))).toBe(413);
  const chunk = `10000\r\n${"x".repeat(65_536)}\r\n`;
  const many = `POST /act HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${chunk.repeat(20)}`;
  expect(status(await raw(many))).toBe(413);
});

test("a route that fails tells its client nothing, and the log everything", async () => {
  const reply = await get("/broken");
  expect([status(reply), bodyOf(reply)]).toEqual([500, "500: Internal Server Error\n"]);
  expect(records.map(({ message }) => message).join()).toContain("secret");
});

test("answers that nobody takes have a limit", async () => {
  const slow = open();
  slow.on("error", () => undefined);
  slow.write("GET /large HTTP/1.1\r\nHost: x\r\n\r\n");
  await new Promise((resolve) => slow.once("readable", resolve));
  const reply = await get("/large");
  expect([status(reply), header(reply, "retry-after")]).toEqual([503, "5"]);
  slow.destroy();
  // What was held for it is free again.
  let again = 503;
  while (again === 503) again = status(await get("/large"));
  expect(again).toBe(200);
});

const HANDSHAKE = {
  Connection: "Upgrade",
  Upgrade: "websocket",
  "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
  "Sec-WebSocket-Version": "13",
};

test("WebSockets only from the server's own pages, or from those that are named", async () => {
  await server.close();
  await start("", ["*", "good.example"]);
  const from = async (origin: string, extra: Readonly<Record<string, string>> = {}): Promise<number> =>
    status(await get("/socket", { ...HANDSHAKE, Host: "here:8787", Origin: origin, ...extra }));
  expect(await from("http://here:8787")).toBe(101);
  expect(await from("http://evil.example")).toBe(403);
  expect(await from("http://good.example")).toBe(101);
  expect(await from("http://good.example:81")).toBe(403);
  expect(await from("null")).toBe(403);
  // Behind a proxy that says what it is called.
  expect(await from("https://outside", { "X-Forwarded-Host": "outside" })).toBe(101);
  // Programs are no pages.
  expect(status(await get("/socket", HANDSHAKE))).toBe(101);
  expect(upgrades).toHaveLength(4);
});

test("sockets of pages that are not here: refused by origin, else not found", async () => {
  expect(status(await get("/status/ws", { ...HANDSHAKE, Origin: "http://any.example" }))).toBe(404);
  await server.close();
  await start("", ["good.invalid"]);
  expect(status(await get("/status/ws", { ...HANDSHAKE, Origin: "http://evil.invalid" }))).toBe(403);
  expect(status(await get("/status/ws", { ...HANDSHAKE, Origin: "http://good.invalid" }))).toBe(404);
});

test("an offer of another protocol is ignored", async () => {
  const reply = await get("/health", { Connection: "Upgrade, HTTP2-Settings", Upgrade: "h2c", "HTTP2-Settings": "" });
  expect([status(reply), bodyOf(reply)]).toEqual([200, "ok"]);
  expect(status(await get("/socket"))).toBe(400);
});

test("a port that is taken costs a warning; several addresses are served alike", async () => {
  const log = new Logger("x", (record) => records.push(record));
  const options = { prefix: "", routes: ROUTES, tls: undefined, allowedOrigins: [], log };
  const second = await serveHttp({
    ...options,
    addresses: [
      { host: "127.0.0.1", port: server.port },
      { host: "127.0.0.1", port: 0 },
    ],
  });
  expect(records.map(({ level, message }) => `${level} ${message.split("\n")[0]}`)).toEqual([
    `WARNING Port ${server.port} is already in use.`,
  ]);
  expect(second.ports).toHaveLength(2);
  expect(second.port).not.toBe(server.port);
  for (const port of second.ports) expect(await (await fetch(`http://127.0.0.1:${port}/health`)).text()).toBe("ok");
  await second.close();
});
