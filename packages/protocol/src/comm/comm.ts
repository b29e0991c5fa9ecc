/**
 * A comm: an ordered, message-based connection (distributed.comm.core.Comm). Everything above it knows only this
 * interface; sockets are in `tcp.ts` and `tls.ts`.
 */
import type { Socket } from "node:net";
import type { Value } from "../msgpack/value.ts";

/** Called for each message, in order. A thrown error (or a rejected promise) aborts the comm. */
export type MessageListener = (message: Value) => void | Promise<void>;

export interface Comm {
  /** `tcp://host:port` of this end and of the other end. */
  readonly localAddress: string;
  readonly peerAddress: string;
  readonly closed: boolean;
  /** What the handshake agreed on for what this side writes. */
  readonly negotiated: { readonly compression: string | null; readonly pickleProtocol: number };
  /**
   * Queues one message for writing. Encoding errors throw here, before anything is written.
   *
   * @returns bytes queued.
   * @throws {CommClosedError} where the comm is closed.
   */
  send(message: Value): number;
  /** Bytes queued here or in the kernel-bound buffer, not yet taken by the kernel. */
  readonly queuedBytes: number;
  /** Resolves when the queue is below its low mark again; rejects with {@link CommClosedError}. */
  drained(): Promise<void>;
  /** Messages that have come and were not taken yet. */
  readonly waiting: number;
  /** The next message. Only while no listener is set; one reader at a time. Rejects with {@link CommClosedError}. */
  receive(): Promise<Value>;
  /**
   * From now on every message goes to the listener (those already waiting first). An async listener holds the
   * following messages, and reading from the socket, until it is done: this is the back-pressure of a stream.
   */
  listen(listener: MessageListener): void;
  /**
   * Called once when the comm is closed by either side, in a turn of its own; soon if it is closed already. The error
   * is undefined where either side closed it between two messages.
   */
  onClose(listener: (error: Error | undefined) => void): void;
  /**
   * The socket below, for somebody else to write one message to it; undefined where bytes do not go over it as they are
   * (TLS, WebSockets) or some are queued. Nothing may be sent here until then.
   */
  lend?(): Socket | undefined;
  /** Writes what is queued, then closes. */
  close(): Promise<void>;
  /** Closes at once, drops what is queued. */
  abort(error?: Error): void;
}
