/** The batched streams to clients and workers, and the way from the core's outbox to them. */
import { BatchedSend, type Comm, type Logger, type Message } from "@dask-ts/protocol";

/** wire-protocol.md §10. A client that is told of thousands of results a second gets them in larger batches. */
const CLIENT_INTERVAL_MS = 2;
const CLIENT_MAX_INTERVAL_MS = 8;
/**
 * At the end of each turn, which measured no dearer than 1, 2 or 5 ms (benchmarks/RESULTS.md): how much goes into a batch
 * is up to how much the worker reports at once, and a worker that waits does nothing.
 */
const WORKER_INTERVAL_MS = 0;
/** A peer that has not taken this much is slow enough to be worth a line in the log. */
const HIGH_WATER_BYTES = 256 * 2 ** 20;

/** The stream of one worker. */
export class WorkerStream {
  readonly address: string;
  readonly comm: Comm;
  readonly send: BatchedSend;
  /** The core has removed the worker; the comm stays until the worker closes it. */
  removed = false;
  /** Messages of the core that came before the registration reply was written (§13.2.4). */
  #held: Message[] | undefined = [];

  constructor(address: string, comm: Comm, send: BatchedSend) {
    this.address = address;
    this.comm = comm;
    this.send = send;
  }

  /** The reply is on its way: from now on messages follow it. */
  release(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined && held.length > 0 && !this.send.closed) this.send.sendAll(held);
  }

  /** Queues messages; dropped where the comm is closed, whose end removes the worker. */
  queue(messages: readonly Message[]): void {
    if (this.#held !== undefined) this.#held.push(...messages);
    else if (!this.send.closed) this.send.sendAll(messages);
  }
}

export class PeerStreams {
  readonly clients: Map<string, BatchedSend> = new Map();
  readonly workers: Map<string, WorkerStream> = new Map();
  /** Streams of removed workers whose comm is still open. */
  readonly leaving: Set<WorkerStream> = new Set();
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  addClient(client: string, comm: Comm): BatchedSend {
    const send = this.#batched(comm, CLIENT_INTERVAL_MS, `client ${client}`, CLIENT_MAX_INTERVAL_MS);
    this.clients.set(client, send);
    return send;
  }

  addWorker(address: string, comm: Comm): WorkerStream {
    const stream = new WorkerStream(address, comm, this.#batched(comm, WORKER_INTERVAL_MS, `worker ${address}`));
    this.workers.set(address, stream);
    return stream;
  }

  /** Scheduler.client_send: nothing goes to a client that is gone. */
  toClient(client: string, messages: readonly Message[]): void {
    const send = this.clients.get(client);
    if (send !== undefined && !send.closed) send.sendAll(messages);
  }

  toWorker(address: string, messages: readonly Message[]): void {
    this.workers.get(address)?.queue(messages);
  }

  /** The core has removed the worker: what is queued still goes out, then the worker closes its end. */
  detachWorker(address: string): void {
    const stream = this.workers.get(address);
    if (stream === undefined) return;
    this.workers.delete(address);
    stream.removed = true;
    stream.release();
    stream.send.flush();
    if (!stream.comm.closed) {
      this.leaving.add(stream);
      stream.comm.onClose(() => this.leaving.delete(stream));
    }
  }

  #batched(comm: Comm, intervalMs: number, who: string, maxIntervalMs: number = intervalMs): BatchedSend {
    return new BatchedSend(comm, intervalMs, {
      maxIntervalMs,
      highWaterBytes: HIGH_WATER_BYTES,
      onHighWater: (bytes) => this.#log.warning(`${bytes} bytes wait to be taken by ${who}`),
      onError: (error) => this.#log.error(`a message to ${who} could not be sent; its stream is closed`, error),
    });
  }
}
