/** WebSocket connections for comms, `ws://` and `wss://` (distributed.comm.ws): the HTTP part before any message. */
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import { createServer as createTlsServer, type ServerOptions } from "node:https";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { WebSocket, WebSocketServer } from "ws";
import { CommClosedError } from "../errors.ts";
import { isAllowedOrigin } from "../http/origins.ts";
import type { Limits } from "../limits.ts";
import { DEFAULT_SHARD_BYTES, WebSocketStream } from "./ws-stream.ts";

/** Bytes of an HTTP request's head. */
const MAX_HEADER_BYTES = 16 * 1024;

export interface UpgradeOptions {
  /** `Host` of the request, by which proxies choose the server. */
  readonly host: string;
  readonly timeoutMs: number;
  readonly limits: Limits;
  readonly shardBytes?: number | undefined;
}

/**
 * Asks for a WebSocket on a connected socket.
 *
 * @throws {CommClosedError} where the other end answers something else, or nothing in time; the socket is closed then.
 */
export function upgrade(socket: Socket, options: UpgradeOptions): Promise<WebSocketStream> {
  return new Promise((resolve, reject) => {
    // The URL only names the path: where the request goes is the socket's affair, with TLS or without.
    const ws = new WebSocket(`ws://${options.host}/`, {
      createConnection: () => socket,
      headers: { Host: options.host },
      handshakeTimeout: Math.max(1, options.timeoutMs),
      perMessageDeflate: false,
      skipUTF8Validation: true,
      maxPayload: options.limits.maxFrameBytes,
    });
    ws.once("open", () => {
      const { limits, shardBytes = DEFAULT_SHARD_BYTES } = options;
      resolve(new WebSocketStream(ws, { limits, shardBytes, socket }));
    });
    ws.once("error", (cause) => {
      socket.destroy();
      reject(new CommClosedError(`no WebSocket at ${options.host}: ${cause.message}`, { cause }));
    });
  });
}

export interface WebSocketServerOptions {
  /** For `wss://`. */
  readonly tls?: ServerOptions | undefined;
  readonly limits: Limits;
  /** For the HTTP part. */
  readonly handshakeTimeoutMs: number;
  readonly shardBytes?: number | undefined;
  /** A connection that has become a WebSocket. */
  readonly onStream: (socket: Socket, stream: Duplex) => void;
  /** A connection that has not. */
  readonly onRejected: (error: Error, socket: Socket) => void;
}

/** What serves all but WebSockets on `/` where comms and pages share a port. */
export interface Pages {
  readonly request: RequestListener;
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => void;
}

/** An HTTP server whose WebSockets on `/` are comms. */
export interface WebSocketCommServer {
  readonly server: Server;
  share(pages: Pages): void;
}

export function createWebSocketServer(options: WebSocketServerOptions): WebSocketCommServer {
  const { tls, limits, handshakeTimeoutMs, shardBytes = DEFAULT_SHARD_BYTES } = options;
  const http = { maxHeaderSize: MAX_HEADER_BYTES };
  const server = tls === undefined ? createServer(http) : createTlsServer({ ...http, ...tls });
  const webSockets = new WebSocketServer({
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    skipUTF8Validation: true,
    maxPayload: limits.maxFrameBytes,
  });
  let pages: Pages | undefined;
  const deadlines = new WeakMap<Socket, NodeJS.Timeout>();
  server.headersTimeout = handshakeTimeoutMs;
  server.on(tls === undefined ? "connection" : "secureConnection", (socket: Socket) => {
    // A connection that never asks for a WebSocket is closed, unless it reads pages.
    const timer = setTimeout(() => {
      if (pages === undefined) socket.destroy();
    }, handshakeTimeoutMs);
    deadlines.set(socket, timer.unref());
    socket.once("close", () => clearTimeout(timer));
  });
  server.on("request", (request, response) => {
    if (pages !== undefined) {
      pages.request(request, response);
      return;
    }
    const headers = { Connection: "close", "Content-Type": "text/plain; charset=utf-8", Upgrade: "websocket" };
    response.writeHead(426, headers).end("This port takes Dask's WebSocket comms only.\n");
  });
  server.on("upgrade", (request, duplex, head) => {
    const socket = duplex as Socket;
    clearTimeout(deadlines.get(socket));
    if (pages !== undefined && !/^\/(?:\?|$)/.test(request.url ?? "/")) {
      pages.upgrade(request, socket, head);
      return;
    }
    // Pages of other sites may not reach a scheduler through the browser of someone who can.
    if (!isAllowedOrigin(request.headers, [])) {
      const text = `Cross origin websockets not allowed: ${request.headers.origin}`;
      options.onRejected(new CommClosedError(text), socket);
      socket.end(`HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: ${text.length}\r\n\r\n${text}`);
      return;
    }
    webSockets.handleUpgrade(request, socket, head, (ws) => {
      options.onStream(socket, new WebSocketStream(ws, { limits, shardBytes, socket }));
    });
  });
  return {
    server,
    share: (listener) => {
      pages = listener;
    },
  };
}
