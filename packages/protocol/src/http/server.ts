/**
 * The HTTP server of scheduler and worker (distributed.node.ServerNode.start_http_server): routes below an optional
 * prefix. What a peer may cost is limited: the size of what it sends, the time it takes, and what waits to be sent to it.
 */
import { createServer, type IncomingMessage, type Server, ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import type { Pages } from "../comm/ws.ts";
import type { Logger } from "../log.ts";
import type { HttpAddress } from "./dashboard-address.ts";
import { isAllowedOrigin } from "./origins.ts";
import { HttpError, type HttpReply, type HttpRequest, type HttpRoute, HttpRouter } from "./route.ts";
import type { HttpTls } from "./tls.ts";

export interface HttpServerOptions {
  readonly addresses: readonly HttpAddress[];
  /** `--dashboard-prefix`: every route is below it. */
  readonly prefix: string;
  readonly routes: readonly HttpRoute[];
  /** HTTPS where it is given. */
  readonly tls: HttpTls | undefined;
  /** `allow_websocket_origin`: origins beside the server's own that may open WebSockets. */
  readonly allowedOrigins: readonly string[];
  readonly log: Logger;
  /** The port of WebSocket comms, where an address is that: pages are served beside them (as WSListener.start does). */
  readonly share?: ((address: HttpAddress) => ((pages: Pages) => void) | undefined) | undefined;
}

export interface HttpServer {
  /** Of the first address. */
  readonly port: number;
  readonly ports: readonly number[];
  close(): Promise<void>;
}

/** What one peer, and all of them together, may cost. */
const LIMITS = {
  /** Bytes of a request's first line and headers; 431 beyond. */
  headerBytes: 16 * 1024,
  /** Bytes of a request's body; 413 beyond. */
  bodyBytes: 1024 * 1024,
  /** For all of a request to arrive; 408 beyond. */
  requestMs: 30_000,
  /** Without any progress of an answer, its connection is cut. */
  stalledMs: 30_000,
  /** Bytes of answers that wait for slow clients, all together; 503 beyond. */
  waitingBytes: 64 * 1024 * 1024,
  /** Connections at once; later ones are closed. */
  connections: 1024,
};

/** Starts listening. A port that is taken costs a warning and gets a free one instead, as in stock. */
export async function serveHttp(options: HttpServerOptions): Promise<HttpServer> {
  const dispatcher = new Dispatcher(options);
  const servers: Server[] = [];
  const ports: number[] = [];
  try {
    for (const address of options.addresses) {
      const share = options.share?.(address);
      if (share !== undefined) {
        share(pagesOf(dispatcher));
        ports.push(address.port);
        continue;
      }
      const server = makeServer(options, dispatcher);
      servers.push(server);
      ports.push(await bind(server, address, options.log));
    }
  } catch (error) {
    await Promise.all(servers.map(closeServer));
    throw error;
  }
  return {
    port: ports[0] ?? 0,
    ports,
    close: async () => {
      for (const socket of dispatcher.upgraded) socket.destroy();
      await Promise.all(servers.map(closeServer));
    },
  };
}

function makeServer(options: HttpServerOptions, dispatcher: Dispatcher): Server {
  const limits = {
    maxHeaderSize: LIMITS.headerBytes,
    headersTimeout: LIMITS.requestMs,
    requestTimeout: LIMITS.requestMs,
    connectionsCheckingInterval: 5000,
    // Above what load balancers keep, so that they are not surprised by a connection that closes.
    keepAliveTimeout: 75_000,
  };
  const pages = pagesOf(dispatcher);
  const server =
    options.tls === undefined
      ? createServer(limits, pages.request)
      : createTlsServer({ ...limits, ...options.tls }, pages.request);
  server.maxConnections = LIMITS.connections;
  server.on("upgrade", pages.upgrade);
  server.on("clientError", refuseBroken);
  return server;
}

function pagesOf(dispatcher: Dispatcher): Pages {
  return {
    request: (request, response) => void dispatcher.serve(request, response),
    upgrade: (request, socket, head) => void dispatcher.upgrade(request, socket, head),
  };
}

class Dispatcher {
  /** Sockets that routes took over. */
  readonly upgraded: Set<Duplex> = new Set();
  readonly #router: HttpRouter;
  readonly #prefix: readonly string[];
  readonly #log: Logger;
  readonly #allowedOrigins: readonly string[];
  #waitingBytes = 0;

  constructor(options: HttpServerOptions) {
    this.#router = new HttpRouter(options.routes);
    this.#prefix = options.prefix.split("/").filter((part) => part !== "");
    this.#log = options.log;
    this.#allowedOrigins = options.allowedOrigins;
  }

  async serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    let reply: HttpReply | undefined;
    try {
      const request = this.#read(incoming);
      const route = routeFor(request, incoming.method ?? "GET");
      reply = await route?.handle(request);
      if (reply?.location !== undefined) reply = this.#redirect(incoming, reply, reply.location);
    } catch (error) {
      reply = this.#failure(incoming, error);
    }
    this.#send(incoming, response, reply ?? plain(404, "Not Found"));
  }

  async upgrade(incoming: IncomingMessage, socket: Duplex, head: Buffer): Promise<void> {
    socket.on("error", () => socket.destroy());
    try {
      const request = this.#read(incoming);
      const route = request.routes.find((candidate) => candidate.upgrade !== undefined);
      const isWebSocket = /^websocket$/i.test(incoming.headers.upgrade ?? "") && incoming.method === "GET";
      if (isWebSocket && !isAllowedOrigin(incoming.headers, this.#originsFor(route))) {
        throw new HttpError(403, "WebSockets are not open to this origin; see allow_websocket_origin");
      }
      if (isWebSocket && route?.upgrade !== undefined) {
        this.upgraded.add(socket);
        socket.once("close", () => this.upgraded.delete(socket));
        (socket as Socket).setTimeout?.(0);
        await route.upgrade(request, socket, head);
        return;
      }
      // An offer of another protocol (h2c, say) may be ignored; the request is one like others then.
      const response = new ServerResponse(incoming);
      response.shouldKeepAlive = false;
      response.assignSocket(socket as Socket);
      response.once("finish", () => socket.end());
      await this.serve(incoming, response);
    } catch (error) {
      const { status = 500, body = "" } = this.#failure(incoming, error);
      refuse(socket, status, body);
    }
  }

  /**
   * Stock's default, every origin, holds for the sockets of its Bokeh pages; what is served here is open to pages of
   * others only where they are named, as tornado has it for `/eventstream`.
   */
  #originsFor(route: HttpRoute | undefined): readonly string[] {
    return route === undefined ? this.#allowedOrigins : this.#allowedOrigins.filter((origin) => origin !== "*");
  }

  /** @throws {HttpError} 400 where the target is no path. */
  #read(incoming: IncomingMessage): HttpRequest & { readonly routes: readonly HttpRoute[] } {
    const target = incoming.url ?? "/";
    // Proxies may ask with the whole URL.
    const at = target.startsWith("/") ? target : target.replace(/^https?:\/\/[^/?#]*/i, "");
    if (!at.startsWith("/")) throw new HttpError(400, "the target of the request is no path");
    const question = at.indexOf("?");
    const raw = question < 0 ? at : at.slice(0, question);
    const segments = raw.slice(1).split("/");
    const inPrefix = this.#prefix.every((part, i) => segments[i] === part);
    // Stock serves its pages with and without a slash at the end.
    const path = inPrefix ? segments.slice(this.#prefix.length).join("/").replace(/\/+$/, "") : undefined;
    // Stock's list of routes is outside the prefix.
    const found = path === undefined && raw !== "/sitemap.json" ? undefined : this.#router.find(path ?? "sitemap.json");
    return {
      method: incoming.method ?? "GET",
      path: path ?? "",
      parts: found?.parts ?? [],
      search: question < 0 ? "" : at.slice(question),
      incoming,
      body: () => readBody(incoming),
      routes: found?.routes ?? [],
    };
  }

  #redirect(incoming: IncomingMessage, reply: HttpReply, location: string): HttpReply {
    const here = (incoming.url ?? "/").split("?")[0]?.split("/").slice(1, -1) ?? [];
    const there = [...this.#prefix, ...location.split("/")];
    let shared = 0;
    while (shared < here.length && shared < there.length - 1 && here[shared] === there[shared]) shared++;
    const relative = [...here.slice(shared).map(() => ".."), ...there.slice(shared)].join("/");
    return { ...reply, body: "", headers: { ...reply.headers, Location: relative } };
  }

  #failure(incoming: IncomingMessage, error: unknown): HttpReply {
    if (error instanceof HttpError) {
      const headers = error instanceof MethodError ? { Allow: error.allowed } : undefined;
      return { ...plain(error.status, error.message), ...(headers === undefined ? {} : { headers }) };
    }
    this.#log.error(`HTTP ${incoming.method} ${incoming.url} failed`, error);
    return plain(500, "Internal Server Error");
  }

  #send(incoming: IncomingMessage, response: ServerResponse, reply: HttpReply): void {
    // Also where the client is gone: the stream has a source to let go of.
    if (reply.stream !== undefined) reply.stream(response);
    if (response.destroyed || response.socket === null) return;
    response.socket.setTimeout(LIMITS.stalledMs);
    if (reply.stream !== undefined) return;
    const body = Buffer.from(reply.body ?? "");
    if (this.#waitingBytes + body.byteLength > LIMITS.waitingBytes) {
      this.#send(incoming, response, { ...plain(503, "too many slow clients"), headers: { "Retry-After": "5" } });
      return;
    }
    this.#waitingBytes += body.byteLength;
    response.once("close", () => {
      this.#waitingBytes -= body.byteLength;
    });
    // What is left of a refused body is not worth reading.
    if (reply.status === 413) response.shouldKeepAlive = false;
    response.writeHead(reply.status ?? 200, {
      "Content-Type": reply.type ?? "text/plain; charset=utf-8",
      "Content-Length": body.byteLength,
      "Cache-Control": "no-store",
      "X-Content-Type-Options": "nosniff",
      "Referrer-Policy": "same-origin",
      ...reply.headers,
    });
    response.end(incoming.method === "HEAD" ? undefined : body);
  }
}

class MethodError extends HttpError {
  readonly allowed: string;

  constructor(method: string, allowed: string) {
    super(405, `${method} is not for this path; it takes ${allowed}`);
    this.allowed = allowed;
  }
}

/** @throws {MethodError} where the path exists, but not for this method. */
function routeFor({ routes }: { readonly routes: readonly HttpRoute[] }, method: string): HttpRoute | undefined {
  if (routes.length === 0) return undefined;
  const wanted = method === "HEAD" ? "GET" : method;
  const route = routes.find((candidate) => (candidate.method ?? "GET") === wanted);
  if (route !== undefined) return route;
  const allowed = routes.flatMap(({ method: one = "GET" }) => (one === "GET" ? ["GET", "HEAD"] : [one]));
  throw new MethodError(method, [...new Set(allowed)].join(", "));
}

/** One line, as tornado writes its error pages without the markup. */
function plain(status: number, text: string): HttpReply {
  return { status, body: `${status}: ${text}\n` };
}

async function readBody(incoming: IncomingMessage): Promise<string> {
  const limit = LIMITS.bodyBytes;
  const tooLong = new HttpError(413, `a body has ${limit} bytes at most`);
  if (Number(incoming.headers["content-length"] ?? 0) > limit) throw tooLong;
  const chunks: Buffer[] = [];
  let size = 0;
  return await new Promise((resolve, reject) => {
    incoming.on("data", (chunk: Buffer) => {
      size += chunk.byteLength;
      if (size > limit) {
        incoming.pause();
        reject(tooLong);
      } else chunks.push(chunk);
    });
    incoming.once("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
    incoming.once("error", reject);
    incoming.once("close", () => reject(new HttpError(400, "the body ended early")));
  });
}

const BROKEN: Readonly<Record<string, readonly [status: number, text: string]>> = {
  HPE_HEADER_OVERFLOW: [431, `the request's headers have ${LIMITS.headerBytes} bytes at most`],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, "the chunk extensions are too long"],
  ERR_HTTP_REQUEST_TIMEOUT: [408, "the request took too long to arrive"],
};

/** What is no HTTP gets an answer all the same; its connection is closed. */
function refuseBroken(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (error.code === "ECONNRESET" || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, text] = BROKEN[error.code ?? ""] ?? [400, "this is no HTTP/1.1 request"];
  refuse(socket, status, `${status}: ${text}\n`);
}

function refuse(socket: Duplex, status: number, body: string): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const head = [
    `HTTP/1.1 ${status} ${REASONS[status] ?? "Error"}`,
    "Connection: close",
    "Content-Type: text/plain; charset=utf-8",
    `Content-Length: ${Buffer.byteLength(body)}`,
  ];
  socket.end(`${head.join("\r\n")}\r\n\r\n${body}`, () => socket.destroy());
}

const REASONS: Readonly<Record<number, string>> = {
  400: "Bad Request",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  413: "Payload Too Large",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
};

async function bind(server: Server, { host, port }: HttpAddress, log: Logger): Promise<number> {
  try {
    return await listenOn(server, host, port);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE" || port === 0) throw error;
    const bound = await listenOn(server, host, 0);
    log
      .named("distributed.node")
      .warning(
        `Port ${port} is already in use.\nPerhaps you already have a cluster running?\n` +
          `Hosting the HTTP server on port ${bound} instead`,
      );
    return bound;
  }
}

function listenOn(server: Server, host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, host }, () => {
      server.off("error", reject);
      resolve((server.address() as AddressInfo).port);
    });
  });
}

function closeServer(server: Server): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}
