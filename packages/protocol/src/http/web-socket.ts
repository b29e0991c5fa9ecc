/** WebSockets of the HTTP port: JSON texts to a browser, in order, with a limit on what waits for it. */
import type { Duplex } from "node:stream";
import { type RawData, type WebSocket, WebSocketServer } from "ws";
import type { HttpRequest } from "./route.ts";

/** Bytes that may wait for a client; who is slower is cut off, as nothing may be left out in between. */
const WAITING_BYTES = 4 * 1024 * 1024;
/** Bytes of one message of a client. */
const MESSAGE_BYTES = 64 * 1024;
const PING_MS = 30_000;

export interface TextSocket {
  /** Queues a text; dropped where the socket is closed. */
  send(text: string): void;
  close(): void;
}

export interface TextSocketEvents {
  readonly onText: (text: string) => void;
  readonly onClose: () => void;
  /** The client did not take what was sent to it and is cut off. */
  readonly onSlow: (waitingBytes: number) => void;
}

const acceptor: WebSocketServer = new WebSocketServer({
  noServer: true,
  maxPayload: MESSAGE_BYTES,
  perMessageDeflate: false,
});

/** Completes the handshake of {@link HttpRoute.upgrade}; a bad one is answered with 400 and nothing else happens. */
export function acceptTextSocket(
  request: HttpRequest,
  socket: Duplex,
  head: Buffer,
  open: (socket: TextSocket) => TextSocketEvents,
): void {
  acceptor.handleUpgrade(request.incoming, socket, head, (webSocket) => serve(webSocket, open));
}

function serve(webSocket: WebSocket, open: (socket: TextSocket) => TextSocketEvents): void {
  let alive = true;
  let isSlow = false;
  const events = open({
    send: (text) => {
      if (isSlow || webSocket.readyState !== webSocket.OPEN) return;
      webSocket.send(text);
      if (webSocket.bufferedAmount <= WAITING_BYTES) return;
      isSlow = true;
      // Not at once: the opener may still be busy with its first texts.
      setImmediate(() => {
        events.onSlow(webSocket.bufferedAmount);
        webSocket.terminate();
      });
    },
    close: () => webSocket.close(1001),
  });
  const pings = setInterval(() => {
    // A peer that went away without a word is found here.
    if (!alive) webSocket.terminate();
    alive = false;
    webSocket.ping();
  }, PING_MS);
  pings.unref();
  webSocket.on("pong", () => {
    alive = true;
  });
  webSocket.on("message", (data: RawData, isBinary: boolean) => {
    // One array of buffers comes only for fragments, which are not asked for.
    if (!isBinary) events.onText((data as Buffer).toString("utf8"));
  });
  webSocket.on("error", () => webSocket.terminate());
  webSocket.once("close", () => {
    clearInterval(pings);
    events.onClose();
  });
}
