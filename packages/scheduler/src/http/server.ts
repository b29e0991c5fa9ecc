/** The scheduler's HTTP server: routes by exact path or pattern, below an optional prefix. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { SchedulerContext } from "../server/context.ts";
import { schedulerRoutes } from "./routes.ts";

export interface HttpOptions {
  /** `:8787`, `host:port`, a port. */
  readonly address: string;
  /** `--dashboard-prefix`: every route is below it. */
  readonly prefix: string;
  /** False leaves out the pages for people. */
  readonly dashboard: boolean;
}

export interface HttpServer {
  readonly port: number;
  /** The link that is logged, by `distributed.dashboard.link`. @param host of the scheduler's contact address */
  link(host: string): string;
  close(): Promise<void>;
}

export interface HttpRequest {
  readonly method: string;
  /** Path below the prefix, decoded by the route where it has parts. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly body: () => Promise<string>;
}

export interface HttpReply {
  readonly status?: number;
  readonly type?: string;
  readonly body?: string;
  /** For redirects. */
  readonly location?: string;
}

export interface Route {
  readonly method?: "GET" | "POST";
  /** Matched against the whole path below the prefix, without its leading slash. */
  readonly path: RegExp;
  /** `parts`: the groups of `path`, still URL-encoded. Undefined is 404. */
  readonly handle: (
    request: HttpRequest,
    parts: readonly string[],
  ) => HttpReply | undefined | Promise<HttpReply | undefined>;
}

/** Bytes of a request's body at most. */
const MAX_BODY = 1024 * 1024;

/** Starts listening. A port that is taken costs a warning and gets a free one instead. */
export async function startHttp(ctx: SchedulerContext, options: HttpOptions): Promise<HttpServer> {
  const { host, port } = splitAddress(options.address);
  const prefix = options.prefix.replace(/^\/+|\/+$/g, "");
  const routes = schedulerRoutes(ctx, options);
  const server = createServer((request, response) => {
    void serve(ctx, routes, prefix, request, response);
  });
  server.keepAliveTimeout = 75_000;
  const bound = await bind(ctx, server, host, port);
  return {
    port: bound,
    link: (contactHost) => formatLink(ctx, contactHost, bound, prefix),
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function serve(
  ctx: SchedulerContext,
  routes: readonly Route[],
  prefix: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  let reply: HttpReply | undefined;
  try {
    reply = await dispatch(routes, prefix, request);
  } catch (error) {
    ctx.log.named("distributed.http").error(`HTTP ${request.method} ${request.url} failed`, error);
    reply = { status: 500, body: "Internal Server Error\n" };
  }
  reply ??= { status: 404, body: "404: Not Found\n" };
  const body = Buffer.from(reply.body ?? "");
  response.writeHead(reply.status ?? 200, {
    "Content-Type": reply.type ?? "text/plain; charset=utf-8",
    "Content-Length": body.byteLength,
    "Cache-Control": "no-cache",
    ...(reply.location === undefined ? {} : { Location: reply.location }),
  });
  response.end(request.method === "HEAD" ? undefined : body);
}

async function dispatch(
  routes: readonly Route[],
  prefix: string,
  request: IncomingMessage,
): Promise<HttpReply | undefined> {
  const url = new URL(request.url ?? "/", "http://localhost");
  let path = url.pathname.replace(/^\/+/, "");
  if (prefix !== "") {
    if (path !== prefix && !path.startsWith(`${prefix}/`)) return undefined;
    path = path.slice(prefix.length).replace(/^\/+/, "");
  }
  // Stock serves its pages with and without a slash at the end.
  path = path.replace(/\/+$/, "");
  const method = request.method === "HEAD" ? "GET" : (request.method ?? "GET");
  let allowed = true;
  for (const route of routes) {
    const match = route.path.exec(path);
    if (match === null) continue;
    if ((route.method ?? "GET") !== method) {
      allowed = false;
      continue;
    }
    const reply = await route.handle(
      { method, path, query: url.searchParams, body: () => readBody(request) },
      match.slice(1).map((part) => part ?? ""),
    );
    // Locations are given relative to the prefix.
    if (reply?.location === undefined) return reply;
    return { ...reply, location: `${prefix === "" ? "" : `/${prefix}`}/${reply.location}` };
  }
  return allowed ? undefined : { status: 405, body: "405: Method Not Allowed\n" };
}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.byteLength;
    if (size > MAX_BODY) throw new RangeError(`a request body over ${MAX_BODY} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function splitAddress(address: string): { host: string | undefined; port: number } {
  const text = address.replace(/^https?:\/\//, "");
  const colon = text.lastIndexOf(":");
  const host = colon < 0 ? "" : text.slice(0, colon);
  const port = Number(colon < 0 ? text : text.slice(colon + 1));
  if (!Number.isInteger(port) || port < 0 || port > 65535)
    throw new TypeError(`no port in dashboard address '${address}'`);
  return { host: host === "" ? undefined : host.replace(/^\[|\]$/g, ""), port };
}

async function bind(ctx: SchedulerContext, server: Server, host: string | undefined, port: number): Promise<number> {
  try {
    return await listenOn(server, host, port);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE" || port === 0) throw error;
    const bound = await listenOn(server, host, 0);
    ctx.log
      .named("distributed.node")
      .warning(
        `Port ${port} is already in use.\nPerhaps you already have a cluster running?\n` +
          `Hosting the HTTP server on port ${bound} instead`,
      );
    return bound;
  }
}

function listenOn(server: Server, host: string | undefined, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ port, ...(host === undefined ? {} : { host }) }, () => {
      server.off("error", reject);
      const address = server.address();
      resolve(typeof address === "object" && address !== null ? address.port : port);
    });
  });
}

/** `distributed.dashboard.link`: a format string of scheme, host, port and the environment. */
function formatLink(ctx: SchedulerContext, host: string, port: number, prefix: string): string {
  const known: Readonly<Record<string, string>> = {
    scheme: "http",
    host: host.includes(":") ? `[${host}]` : host,
    port: String(port),
  };
  let unknown = "";
  const link = ctx.settings.dashboardLink.replace(/\{(\w+)\}/g, (_, name: string) => {
    const value = known[name] ?? process.env[name];
    if (value === undefined) unknown = name;
    return value ?? "";
  });
  if (unknown !== "") {
    ctx.log.warning(`Failed to format dashboard link, unknown value: '${unknown}'`);
    return `:${port}`;
  }
  return prefix === "" ? link : link.replace(/\/status$/, `/${prefix}/status`);
}
