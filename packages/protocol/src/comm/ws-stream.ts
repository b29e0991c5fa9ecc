/**
 * The byte stream of TCP over a WebSocket (distributed.comm.ws). There, a message is one WebSocket message with the
 * number of frames (u64 LE), then one for each frame; TCP's prelude is not sent. This stream takes and gives TCP's
 * framing, so that one comm serves both. Frames are handed through without a copy.
 */
import { Duplex } from "node:stream";
import type { Socket } from "node:net";
import type { RawData, WebSocket } from "ws";
import { ProtocolError } from "../errors.ts";
import { FrameSplitter } from "../frames.ts";
import type { Limits } from "../limits.ts";

/** Written frames are sent in WebSocket fragments of this size, so that a proxy need not hold more of one. */
export const DEFAULT_SHARD_BYTES: number = 8 * 2 ** 20;
/** Proxies cut connections on which nothing moves (nginx after 60 s). */
const PING_INTERVAL_MS = 20_000;
/** A peer that does not answer the closing handshake holds a closing stream no longer than this. */
const CLOSE_TIMEOUT_MS = 1000;
/** "Normal closure". */
const CLOSE_CODE = 1000;
const COUNT_BYTES = 8;

export interface WebSocketStreamOptions {
  readonly limits: Limits;
  /** The socket below, to write the parts of a message at once. */
  readonly socket: Socket;
  readonly shardBytes: number;
}

export class WebSocketStream extends Duplex {
  readonly #ws: WebSocket;
  readonly #limits: Limits;
  readonly #socket: Socket;
  readonly #shardBytes: number;
  readonly #splitter: FrameSplitter;
  readonly #ping: NodeJS.Timeout;
  /** Frames still to come of the message that is being read; 0 between two messages. */
  #missing = 0;
  #frames: Buffer[] = [];
  #bytes = 0;
  /** Frames given to the WebSocket of which it has not said that they are written. */
  #unwritten = 0;
  #afterWrite: (() => void) | undefined;

  constructor(ws: WebSocket, options: WebSocketStreamOptions) {
    super({ highWaterMark: 256 * 1024, emitClose: true });
    this.#ws = ws;
    this.#limits = options.limits;
    this.#socket = options.socket;
    this.#shardBytes = options.shardBytes;
    this.#splitter = new FrameSplitter((frames) => this.#sendFrames(frames), options.limits);
    this.#ping = setInterval(() => ws.ping(), PING_INTERVAL_MS).unref();
    ws.binaryType = "nodebuffer";
    ws.on("message", (data: RawData, isBinary: boolean) => this.#onMessage(data as Buffer, isBinary));
    ws.on("error", (error) => this.destroy(error));
    ws.on("close", () => this.#onClose());
  }

  override _read(): void {
    if (this.#ws.isPaused) this.#ws.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: (error?: Error | null) => void): void {
    this.#writeAll([chunk], callback);
  }

  override _writev(chunks: { readonly chunk: Buffer }[], callback: (error?: Error | null) => void): void {
    this.#writeAll(
      chunks.map(({ chunk }) => chunk),
      callback,
    );
  }

  override _final(callback: (error?: Error | null) => void): void {
    const timer = setTimeout(callback, CLOSE_TIMEOUT_MS);
    const done = (): void => {
      clearTimeout(timer);
      callback();
    };
    if (this.#ws.readyState === this.#ws.CLOSED) done();
    else this.#ws.once("close", done);
    this.#ws.close(CLOSE_CODE);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    clearInterval(this.#ping);
    this.#ws.terminate();
    callback(error);
  }

  #writeAll(chunks: readonly Buffer[], callback: (error?: Error | null) => void): void {
    this.#socket.cork();
    try {
      for (const chunk of chunks) this.#splitter.push(chunk);
    } catch (error) {
      callback(error as Error);
      return;
    } finally {
      this.#socket.uncork();
    }
    if (this.#unwritten === 0) callback();
    else this.#afterWrite = callback;
  }

  #sendFrames(frames: readonly Uint8Array[]): void {
    const count = Buffer.alloc(COUNT_BYTES);
    count.writeUInt32LE(frames.length, 0);
    this.#send(count, true);
    for (const frame of frames) {
      let at = 0;
      for (; frame.byteLength - at > this.#shardBytes; at += this.#shardBytes) {
        this.#send(frame.subarray(at, at + this.#shardBytes), false);
      }
      this.#send(frame.subarray(at), true);
    }
  }

  #send(data: Uint8Array, fin: boolean): void {
    this.#unwritten++;
    this.#ws.send(data, { binary: true, fin }, this.#onWritten);
  }

  readonly #onWritten = (error?: Error | null): void => {
    if (error) {
      this.destroy(error);
      return;
    }
    this.#unwritten--;
    if (this.#unwritten > 0) return;
    const callback = this.#afterWrite;
    this.#afterWrite = undefined;
    callback?.();
  };

  #onMessage(data: Buffer, isBinary: boolean): void {
    if (this.destroyed) return;
    try {
      if (!isBinary) throw new ProtocolError("a text message on a comm, where all messages are binary");
      if (this.#missing === 0) this.#begin(data);
      else this.#add(data);
    } catch (error) {
      this.destroy(error as Error);
    }
  }

  #begin(data: Buffer): void {
    if (data.byteLength !== COUNT_BYTES) {
      throw new ProtocolError(`a message begins with its number of frames in 8 bytes, not with ${data.byteLength}`);
    }
    const count = Number(data.readBigUInt64LE(0));
    if (count < 1) throw new ProtocolError("a message has at least one frame, this one says it has none");
    if (count > this.#limits.maxFrames) {
      throw new ProtocolError(`a message of ${count} frames is over the limit of ${this.#limits.maxFrames}`);
    }
    this.#missing = count;
  }

  #add(data: Buffer): void {
    this.#bytes += data.byteLength;
    if (this.#bytes > this.#limits.maxMessageBytes) {
      throw new ProtocolError(`a message is over the limit of ${this.#limits.maxMessageBytes} bytes`);
    }
    this.#frames.push(data);
    this.#missing--;
    if (this.#missing > 0) return;
    const frames = this.#frames;
    const size = this.#bytes;
    this.#frames = [];
    this.#bytes = 0;
    const prelude = Buffer.alloc(16 + 8 * frames.length);
    writeU64(prelude, prelude.byteLength - 8 + size, 0);
    writeU64(prelude, frames.length, 8);
    for (const [i, frame] of frames.entries()) writeU64(prelude, frame.byteLength, 16 + 8 * i);
    let hasRoom = this.push(prelude);
    for (const frame of frames) if (frame.byteLength > 0) hasRoom = this.push(frame);
    if (!hasRoom) this.#ws.pause();
  }

  #onClose(): void {
    if (this.destroyed) return;
    if (this.#missing > 0) {
      this.destroy(new Error("the peer closed it in the middle of a message"));
      return;
    }
    this.push(null);
  }
}

function writeU64(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32LE(value % 2 ** 32, offset);
  buffer.writeUInt32LE(Math.floor(value / 2 ** 32), offset + 4);
}
