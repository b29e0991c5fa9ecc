/** `/proxy/<port>/<host>/…`: the workers' HTTP ports, for who reaches the scheduler only (distributed.http.proxy). */
import { type ClientRequest, type IncomingHttpHeaders, request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import type { ServerResponse } from "node:http";
import type { Duplex } from "node:stream";
import { pipeline } from "node:stream";
import { decodePart, HttpError, type HttpReply, type HttpRequest, type HttpRoute } from "@dask-ts/protocol";
import type { SchedulerContext } from "../server/context.ts";
import type { RouteOptions } from "./server.ts";

/** Until the worker answers. */
const ANSWER_MS = 30_000;

/** They are about one connection, and credentials for the scheduler are nothing to a worker. */
const NOT_FORWARDED: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
  "authorization",
  "cookie",
  "host",
  "content-length",
]);

export function proxyRoutes(ctx: SchedulerContext, { tls }: RouteOptions): HttpRoute[] {
  const open = (request: HttpRequest, extra: IncomingHttpHeaders): ClientRequest => {
    const { host, port } = target(ctx, request);
    const path = `/${request.parts[2] ?? ""}${request.search}`;
    const headers = { ...forwarded(request.incoming.headers), ...extra };
    const options = { host, port, path, method: request.method, headers, agent: false };
    if (tls === undefined) return httpRequest(options);
    // Workers have the same certificate, which names no addresses of theirs.
    const trust = tls.ca === undefined ? { ca: tls.cert, allowPartialTrustChain: true } : { ca: tls.ca };
    return httpsRequest({ ...options, ...trust, checkServerIdentity: () => undefined });
  };
  return [
    {
      path: "proxy/:port/:host/**",
      handle: (request) => answer(open(request, {}), request),
      upgrade: (request, socket, head) => {
        const { upgrade, connection } = request.incoming.headers;
        tunnel(open(request, { upgrade, connection }), socket, head);
      },
    },
  ];
}

/** @throws {HttpError} 400 where no worker serves HTTP there: nothing else can be reached through here. */
function target(ctx: SchedulerContext, { parts }: HttpRequest): { readonly host: string; readonly port: number } {
  const port = decodePart(parts[0]);
  const host = decodePart(parts[1]);
  const info = ctx.core.state.hostInfo.get(host);
  for (const address of info?.addresses ?? []) {
    const ws = ctx.core.state.workers.get(address);
    if (ws !== undefined && String(ws.services.get("dashboard")) === port) return { host, port: Number(port) };
  }
  throw new HttpError(400, "no worker serves HTTP at this host and port");
}

function answer(outgoing: ClientRequest, request: HttpRequest): HttpReply | Promise<HttpReply> {
  return new Promise((resolve, reject) => {
    const { socket } = request.incoming;
    const timer = setTimeout(() => outgoing.destroy(new HttpError(504, "the worker did not answer")), ANSWER_MS);
    const onGone = (): void => {
      outgoing.destroy(new HttpError(499, "the client went away"));
    };
    const settled = (): void => {
      clearTimeout(timer);
      socket.off("close", onGone);
    };
    socket.once("close", onGone);
    outgoing.once("error", (error) => {
      settled();
      reject(error instanceof HttpError ? error : new HttpError(502, `the worker cannot be reached: ${error.message}`));
    });
    outgoing.once("response", (incoming) => {
      settled();
      const stream = (response: ServerResponse): void => {
        response.writeHead(incoming.statusCode ?? 502, forwardedBack(incoming.headers));
        // The worker is read as fast as the client takes it; when one goes away, the other is let go of.
        pipeline(incoming, response, () => undefined);
      };
      resolve({ stream });
    });
    outgoing.end();
  });
}

function tunnel(outgoing: ClientRequest, socket: Duplex, head: Buffer): void {
  const fail = (): void => {
    socket.end("HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  };
  outgoing.setTimeout(ANSWER_MS, () => outgoing.destroy());
  outgoing.once("error", fail);
  outgoing.once("response", (response) => {
    response.resume();
    fail();
  });
  outgoing.once("upgrade", (response, upstream, upstreamHead) => {
    upstream.setTimeout(0);
    const lines = response.rawHeaders.flatMap((name, i, all) => (i % 2 === 0 ? [`${name}: ${all[i + 1]}`] : []));
    socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("\r\n")}\r\n\r\n`);
    socket.write(upstreamHead);
    upstream.write(head);
    pipeline(socket, upstream, socket, () => undefined);
  });
  socket.once("close", () => outgoing.destroy());
  outgoing.end();
}

function forwarded(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !NOT_FORWARDED.has(name)));
}

function forwardedBack(headers: IncomingHttpHeaders): IncomingHttpHeaders {
  const dropped = (name: string): boolean => NOT_FORWARDED.has(name) && name !== "content-length";
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !dropped(name)));
}
