/**
 * A comm over a byte stream: TCP, TLS (distributed.comm.tcp), or a WebSocket's (`ws-stream.ts`). The only file that
 * reads and writes them.
 *
 * Writing: all that is sent in one turn of the event loop goes out in one write. Reading: a chunk is split and decoded
 * at once, and a synchronous listener runs for every message in it, with no promise and no copy in between.
 */
import { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { CommClosedError, ProtocolError } from "../errors.ts";
import { FrameSplitter, joinFrames } from "../frames.ts";
import type { Negotiated } from "../handshake.ts";
import type { Limits } from "../limits.ts";
import { decodeMessage, encodeMessage } from "../message.ts";
import type { Value } from "../msgpack/value.ts";
import type { Comm, MessageListener } from "./comm.ts";

/** {@link Comm.drained} resolves below this. */
const LOW_WATER_BYTES = 256 * 1024;
/** Up to here, one turn's messages are copied into one buffer; beyond, they are written as they are (writev). */
const JOIN_BELOW_BYTES = 64 * 1024;
/** OpenSSL and some kernels count the bytes of one write in a signed 32-bit integer. */
const MAX_WRITE_BYTES = 2 ** 30;
/** What a peer may send before it has shown, by its handshake, that it speaks the protocol at all. */
const HANDSHAKE_LIMITS: Limits = {
  maxFrames: 16,
  maxFrameBytes: 65_536,
  maxMessageBytes: 65_536,
  maxUnpackedBytes: 65_536,
  maxDepth: 8,
};
/** A peer that does not read what is left keeps a closing comm no longer than this. */
const CLOSE_TIMEOUT_MS = 30_000;

export interface SocketCommOptions {
  readonly localAddress: string;
  readonly peerAddress: string;
  readonly limits: Limits;
}

interface Waiter<T> {
  resolve(value: T): void;
  reject(error: Error): void;
}

export class SocketComm implements Comm {
  readonly localAddress: string;
  readonly peerAddress: string;
  /** Set by the handshake, before anyone else sees the comm. */
  negotiated: Negotiated = { compression: null, pickleProtocol: 4 };

  readonly #socket: Duplex;
  /** Of the first message, then of all others; the splitter looks at it for each. */
  readonly #limits: { -readonly [K in keyof Limits]: Limits[K] } = { ...HANDSHAKE_LIMITS };
  readonly #fullLimits: Limits;
  #first = true;
  readonly #splitter: FrameSplitter;
  /** Decoded messages that nobody has taken yet; `#head` is the first of them. */
  #waiting: Value[] = [];
  #head = 0;
  #listener: MessageListener | undefined;
  /** An async listener is at work: hold the messages that follow. */
  #busy = false;
  #paused = false;
  #reader: Waiter<Value> | undefined;
  #outgoing: Uint8Array[] = [];
  #outgoingBytes = 0;
  #flushing = false;
  #drainWaiters: Waiter<void>[] = [];
  #closed = false;
  /** The peer is gone, but messages that came before are still with an async listener. */
  #ended = false;
  #finished = false;
  #error: Error | undefined;
  #closeListeners: ((error: Error | undefined) => void)[] = [];
  #closing: Promise<void> | undefined;

  constructor(socket: Duplex, options: SocketCommOptions) {
    this.#socket = socket;
    this.localAddress = options.localAddress;
    this.peerAddress = options.peerAddress;
    this.#fullLimits = options.limits;
    this.#splitter = new FrameSplitter((frames) => this.#onFrames(frames), this.#limits);
    socket.on("data", (chunk: Buffer) => this.#onData(chunk));
    socket.on("end", () => this.#onEnd(undefined));
    socket.on("error", (error: Error) => this.#onEnd(error));
    socket.on("close", () => this.#onEnd(undefined));
  }

  get closed(): boolean {
    return this.#closed;
  }

  get waiting(): number {
    return this.#waiting.length - this.#head;
  }

  get queuedBytes(): number {
    return this.#outgoingBytes + this.#socket.writableLength;
  }

  send(message: Value): number {
    if (this.#closed) throw this.#closedError();
    const before = this.#outgoingBytes;
    const buffers = joinFrames(encodeMessage(message));
    for (const buffer of buffers) {
      this.#outgoing.push(buffer);
      this.#outgoingBytes += buffer.byteLength;
    }
    if (!this.#flushing) {
      this.#flushing = true;
      process.nextTick(flush, this);
    }
    return this.#outgoingBytes - before;
  }

  /** Gives the socket what this turn has queued. */
  flush(): void {
    this.#flushing = false;
    const buffers = this.#outgoing;
    if (buffers.length === 0 || this.#socket.destroyed) return;
    const bytes = this.#outgoingBytes;
    this.#outgoing = [];
    this.#outgoingBytes = 0;
    if (buffers.length === 1 && bytes <= MAX_WRITE_BYTES) {
      this.#socket.write(buffers[0]!, this.#onWritten);
    } else if (bytes <= JOIN_BELOW_BYTES) {
      this.#socket.write(Buffer.concat(buffers, bytes), this.#onWritten);
    } else {
      this.#socket.cork();
      for (const buffer of buffers) {
        for (let at = 0; at < buffer.byteLength; at += MAX_WRITE_BYTES) {
          this.#socket.write(buffer.subarray(at, at + MAX_WRITE_BYTES), this.#onWritten);
        }
      }
      this.#socket.uncork();
    }
  }

  readonly #onWritten = (): void => {
    if (this.#drainWaiters.length === 0 || this.queuedBytes > LOW_WATER_BYTES) return;
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const waiter of waiters) waiter.resolve();
  };

  lend(): Socket | undefined {
    const socket = this.#socket;
    const isPlain = socket instanceof Socket && !(socket instanceof TLSSocket);
    return isPlain && !this.#closed && this.queuedBytes === 0 ? socket : undefined;
  }

  drained(): Promise<void> {
    if (this.#closed) return Promise.reject(this.#closedError());
    if (this.queuedBytes <= LOW_WATER_BYTES) return Promise.resolve();
    return new Promise((resolve, reject) => this.#drainWaiters.push({ resolve, reject }));
  }

  receive(): Promise<Value> {
    if (this.#listener !== undefined || this.#reader !== undefined) {
      return Promise.reject(new Error(`${this.#name()} has a reader already`));
    }
    if (this.waiting > 0) {
      const message = this.#take();
      if (this.waiting === 0) this.#resume();
      return Promise.resolve(message);
    }
    if (this.#closed) return Promise.reject(this.#closedError());
    return new Promise((resolve, reject) => {
      this.#reader = { resolve, reject };
    });
  }

  listen(listener: MessageListener): void {
    if (this.#listener !== undefined || this.#reader !== undefined) {
      throw new Error(`${this.#name()} has a reader already`);
    }
    this.#listener = listener;
    this.#deliverWaiting();
  }

  onClose(listener: (error: Error | undefined) => void): void {
    if (this.#finished) process.nextTick(listener, this.#error);
    else this.#closeListeners.push(listener);
  }

  close(): Promise<void> {
    if (this.#closing !== undefined) return this.#closing;
    this.#markClosed();
    this.#dropWaiting();
    const socket = this.#socket;
    this.#closing = new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        socket.destroy();
        this.#finish(undefined);
        resolve();
      };
      const timer = setTimeout(done, CLOSE_TIMEOUT_MS).unref();
      if (socket.destroyed || socket.writableFinished) {
        done();
        return;
      }
      this.flush();
      socket.resume();
      socket.once("finish", done);
      socket.once("close", done);
      socket.end();
    });
    return this.#closing;
  }

  abort(error?: Error): void {
    if (!this.#closed) this.#error ??= error;
    this.#markClosed();
    this.#outgoing = [];
    this.#outgoingBytes = 0;
    this.#dropWaiting();
    this.#socket.destroy();
    this.#finish(this.#error);
  }

  #onData(chunk: Buffer): void {
    if (this.#closed) return;
    try {
      this.#splitter.push(chunk);
    } catch (error) {
      // Only the splitter and the decoder throw here: listeners' errors are caught where they are called.
      this.abort(error instanceof Error ? error : new ProtocolError(String(error)));
      return;
    }
    // Whoever reads one by one takes its time: the kernel keeps the rest, so that the peer feels it.
    if (this.waiting > 0) this.#pause();
  }

  #onFrames(frames: Uint8Array[]): void {
    if (this.#closed) return;
    const message = decodeMessage(frames, this.#limits);
    if (this.#first) {
      this.#first = false;
      Object.assign(this.#limits, this.#fullLimits);
    }
    if (this.#reader !== undefined) {
      const reader = this.#reader;
      this.#reader = undefined;
      reader.resolve(message);
    } else if (this.#listener !== undefined && !this.#busy && this.waiting === 0) {
      this.#call(this.#listener, message);
    } else {
      this.#waiting.push(message);
    }
  }

  #call(listener: MessageListener, message: Value): void {
    let result: void | Promise<void>;
    try {
      result = listener(message);
    } catch (error) {
      this.abort(asError(error));
      return;
    }
    if (result === undefined) return;
    this.#busy = true;
    this.#pause();
    result.then(
      () => {
        this.#busy = false;
        this.#deliverWaiting();
      },
      (error: unknown) => {
        this.#busy = false;
        this.abort(asError(error));
      },
    );
  }

  #deliverWaiting(): void {
    const listener = this.#listener;
    if (listener === undefined) return;
    while (!this.#busy && this.waiting > 0) this.#call(listener, this.#take());
    if (this.#busy) return;
    if (this.#ended) this.#finish(this.#error);
    else this.#resume();
  }

  #take(): Value {
    const message = this.#waiting[this.#head]!;
    this.#waiting[this.#head++] = null;
    if (this.#head === this.#waiting.length) this.#dropWaiting();
    return message;
  }

  #dropWaiting(): void {
    this.#waiting = [];
    this.#head = 0;
  }

  #pause(): void {
    if (this.#paused) return;
    this.#paused = true;
    this.#socket.pause();
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#socket.resume();
  }

  /** The peer closed, or the connection broke. What came before it is still delivered. */
  #onEnd(cause: Error | undefined): void {
    if (this.#closed) return;
    if (cause !== undefined) {
      this.#error = new CommClosedError(`${this.#name()}: ${cause.message}`, { cause });
    } else if (!this.#splitter.idle) {
      this.#error = new CommClosedError(`${this.#name()}: the peer closed it in the middle of a message`);
    }
    this.#markClosed();
    this.#socket.destroy();
    if (this.#listener !== undefined && (this.#busy || this.waiting > 0)) this.#ended = true;
    else this.#finish(this.#error);
  }

  /** Nothing can be sent from here on, and those who wait learn it. */
  #markClosed(): void {
    this.#closed = true;
    const reader = this.#reader;
    this.#reader = undefined;
    reader?.reject(this.#closedError());
    const waiters = this.#drainWaiters;
    this.#drainWaiters = [];
    for (const waiter of waiters) waiter.reject(this.#closedError());
  }

  /** Close listeners run in a turn of their own: they may not surprise whoever sends at this moment. */
  #finish(error: Error | undefined): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#error ??= error;
    const listeners = this.#closeListeners;
    this.#closeListeners = [];
    for (const listener of listeners) process.nextTick(listener, this.#error);
  }

  #closedError(): CommClosedError {
    if (this.#error instanceof CommClosedError) return this.#error;
    return new CommClosedError(
      `${this.#name()} is closed`,
      this.#error === undefined ? undefined : { cause: this.#error },
    );
  }

  #name(): string {
    return `comm ${this.localAddress} -> ${this.peerAddress}`;
  }
}

function flush(comm: SocketComm): void {
  comm.flush();
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
