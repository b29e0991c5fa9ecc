/**
 * One direction of a stream: messages are collected and sent as one array, at most once per interval, and at once where
 * the interval has passed (distributed.batched.BatchedSend, wire-protocol.md §10).
 */
import type { Comm } from "./comm/comm.ts";
import { CommClosedError } from "./errors.ts";
import type { Message, Value } from "./msgpack/value.ts";

export interface BatchedSendOptions {
  /** Called after a flush that leaves more than `highWaterBytes` with a peer that does not keep up. */
  readonly onHighWater?: (queuedBytes: number) => void;
  readonly highWaterBytes?: number;
  /**
   * While the stream is never at rest and its batches stay large, the interval grows up to this: fewer writes for a peer
   * that is told of thousands of things a second. Without it the interval is fixed.
   */
  readonly maxIntervalMs?: number;
  /** A batch that could not be encoded; the comm is aborted and the batch lost, as in Dask. */
  readonly onError?: (error: Error) => void;
}

const DEFAULT_HIGH_WATER_BYTES = 256 * 2 ** 20;

/** A batch of so many messages is a sign of a flow. Who waits for an answer before asking again has smaller ones. */
const FLOW_MESSAGES = 5;

/** Streams to be flushed at the end of this turn: one setImmediate serves them all. */
let due: BatchedSend[] = [];

function flushDue(): void {
  const streams = due;
  due = [];
  for (const stream of streams) stream.flush();
}

export class BatchedSend {
  readonly comm: Comm;
  readonly #intervalMs: number;
  readonly #options: BatchedSendOptions;
  readonly #highWaterBytes: number;
  #buffer: Value[] = [];
  /** A flush is on its way, by the end of this turn or by the timer. */
  #scheduled = false;
  #timer: NodeJS.Timeout | undefined;
  #nextFlush = 0;
  #currentIntervalMs: number;
  #stopped = false;
  messageCount = 0;
  batchCount = 0;
  byteCount = 0;

  /** @param intervalMs see the table in wire-protocol.md §10; 2 ms scheduler → client, 5 ms scheduler → worker. */
  constructor(comm: Comm, intervalMs: number, options: BatchedSendOptions = {}) {
    this.comm = comm;
    this.#intervalMs = intervalMs;
    this.#currentIntervalMs = intervalMs;
    this.#options = options;
    this.#highWaterBytes = options.highWaterBytes ?? DEFAULT_HIGH_WATER_BYTES;
  }

  /** Messages waiting for the next flush. */
  get length(): number {
    return this.#buffer.length;
  }

  get closed(): boolean {
    return this.#stopped || this.comm.closed;
  }

  /**
   * Queues one message.
   *
   * @throws {CommClosedError} where the comm is closed: the message is lost.
   */
  send(message: Message | Value): void {
    if (this.closed) throw new CommClosedError(`comm to ${this.comm.peerAddress} is closed`);
    this.#buffer.push(message);
    this.messageCount++;
    if (!this.#scheduled) this.#schedule();
  }

  /** Queues messages in order, as {@link send}. */
  sendAll(messages: readonly (Message | Value)[]): void {
    if (messages.length === 0) return;
    if (this.closed) throw new CommClosedError(`comm to ${this.comm.peerAddress} is closed`);
    for (const message of messages) this.#buffer.push(message);
    this.messageCount += messages.length;
    if (!this.#scheduled) this.#schedule();
  }

  #schedule(): void {
    this.#scheduled = true;
    const wait = this.#nextFlush - performance.now();
    if (wait <= 0) {
      if (due.length === 0) setImmediate(flushDue);
      due.push(this);
    } else {
      // Never early: whole milliseconds, and the peer's socket is what keeps the process alive, not this timer.
      this.#timer = setTimeout(() => this.flush(), Math.ceil(wait)).unref();
    }
  }

  /** Sends what is queued now, whatever the interval says. */
  flush(): void {
    this.#scheduled = false;
    if (this.#timer !== undefined) {
      clearTimeout(this.#timer);
      this.#timer = undefined;
    }
    if (this.#buffer.length === 0) return;
    const batch = this.#buffer;
    this.#buffer = [];
    if (this.comm.closed) return;
    this.#nextFlush = this.#adapt(performance.now(), batch.length);
    try {
      this.byteCount += this.comm.send(batch);
    } catch (error) {
      this.#stopped = true;
      this.comm.abort(error as Error);
      this.#options.onError?.(error as Error);
      return;
    }
    this.batchCount++;
    const queued = this.comm.queuedBytes;
    if (queued > this.#highWaterBytes) this.#options.onHighWater?.(queued);
  }

  /** When the next batch may follow one of `length` messages. */
  #adapt(now: number, length: number): number {
    const { maxIntervalMs } = this.#options;
    if (maxIntervalMs !== undefined) {
      const atRest = now - this.#nextFlush > this.#intervalMs;
      if (atRest || length < FLOW_MESSAGES) this.#currentIntervalMs = this.#intervalMs;
      else this.#currentIntervalMs = Math.min(this.#currentIntervalMs * 2, maxIntervalMs);
    }
    return now + this.#currentIntervalMs;
  }

  /** Sends what is queued, then closes the comm. */
  async close(): Promise<void> {
    this.#stopped = true;
    this.flush();
    await this.comm.close();
  }

  /** Drops what is queued and closes the comm at once. */
  abort(error?: Error): void {
    this.#stopped = true;
    this.#buffer = [];
    this.flush();
    this.comm.abort(error);
  }
}
