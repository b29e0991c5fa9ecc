/**
 * The parent's end of the bridge to a Python child (`packages/python/dask_ts/bridge.py` is the other one).
 *
 * File descriptor 3 of the child is a unix stream socket. Both directions carry Dask's own framing and message layout:
 * frame 0 is a msgpack array of maps (a batch), sub-messages stand behind it and stay closed on this side.
 *
 *   one-way   {op, …}
 *   request   {op, id, …}                 each side numbers its own
 *   reply     {op: "reply", id, …}        on failure with the fields of distributed's `error_message`
 *   chunk     {op: "chunk", id, …}        part of a long reply, before it
 *
 * The child's first message is `{op: "ready", pid, executable, versions, …}`.
 */
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { StringDecoder } from "node:string_decoder";
import { ProtocolError, TimeoutError } from "../errors.ts";
import { FrameSplitter } from "../frames.ts";
import { decodeMessage, packMessage } from "../message.ts";
import { isMessage, type Message, type Value } from "../msgpack/value.ts";
import { forwardOutput } from "./forward-output.ts";
import { type Launched, type LaunchOptions, launchProcess } from "./launch.ts";

export interface PythonChildOptions extends LaunchOptions {
  /** How the process comes to be; by default it is spawned. */
  readonly launch?: (options: LaunchOptions) => Promise<Launched>;
  /** How long the child may take until it is ready. Importing distributed takes about half a second, or many on NFS. */
  readonly readyTimeoutMs?: number;
  /** Every message of the child that is no reply: one-way messages, and requests (they have an `id`). */
  readonly onMessage?: (message: Message) => void;
  /** Called once, after the child was ready, when it is gone, whoever ended it. */
  readonly onExit?: (code: number | null, signal: string | null) => void;
  /** A line that the child wrote. */
  readonly onLine?: (stream: "stdout" | "stderr", line: string) => void;
  /** Where the child's output goes as it is, as fast as it is taken there; `onLine` then has only the bridge's own. */
  readonly output?: { readonly stdout: Writable; readonly stderr: Writable };
}

/** The child is gone while something was asked of it, or could not be started. */
export class PythonChildError extends Error {
  readonly code = "DASK_PYTHON_CHILD";
  override readonly name = "PythonChildError";
}

export interface PythonChild {
  readonly pid: number;
  /** The child's first message: `pid`, `executable`, `versions`, and what the module adds. */
  readonly ready: Message;
  readonly alive: boolean;
  /** Bytes that the child has not taken yet. */
  readonly queuedBytes: number;
  /** Resolves when the child has taken what was sent. */
  drained(): Promise<void>;
  /**
   * Queues a message; what is sent in one turn goes out as one batch. Dropped where the child is gone.
   *
   * @throws {TypeError} where the message cannot be encoded.
   */
  send(message: Message): void;
  /**
   * Asks the child. The reply may carry the error fields of `error_message`: look at `status`.
   *
   * @param onChunk takes the parts of a long reply, each before the reply itself; what it throws rejects the request.
   * @throws {PythonChildError} where the child dies before it answers.
   */
  request(op: string, fields: Message, onChunk?: (chunk: Message) => void): Promise<Message>;
  /** Lends the child a socket for one message; the number by which it knows it, undefined where it takes none. */
  lend(socket: Socket): number | undefined;
  /** Answers a request of the child. */
  reply(id: Value | undefined, fields: Message): void;
  /** Closes the socket, which ends the child; SIGKILL after `timeoutMs`. Resolves when it is gone. */
  close(timeoutMs?: number): Promise<void>;
  /** SIGKILL now. */
  kill(): void;
}

const READY_TIMEOUT_MS = 120_000;
const CLOSE_TIMEOUT_MS = 5_000;

/**
 * Starts a child and waits until it is ready.
 *
 * @throws {PythonChildError} where it cannot be started or ends before; with its last lines of stderr.
 * @throws {TimeoutError} where it is not ready in time; it is killed then.
 */
export async function spawnPythonChild(options: PythonChildOptions): Promise<PythonChild> {
  let launched: Launched;
  try {
    launched = await (options.launch ?? launchProcess)(options);
  } catch (error) {
    throw new PythonChildError(`${options.python} cannot be started: ${(error as Error).message}`);
  }
  const child = new SocketChild(options, launched);
  await child.started;
  return child;
}

interface Waiting {
  readonly resolve: (message: Message) => void;
  readonly reject: (error: Error) => void;
  readonly onChunk: ((chunk: Message) => void) | undefined;
}

const STDERR_LINES_KEPT = 40;

class SocketChild implements PythonChild {
  ready: Message = {};
  readonly started: Promise<void>;
  readonly #options: PythonChildOptions;
  readonly #process: Launched;
  readonly #socket: Socket;
  readonly #splitter: FrameSplitter;
  readonly #waiting: Map<number, Waiting> = new Map();
  readonly #lastErrors: string[] = [];
  readonly #gone: Promise<void>;
  #nextId = 1;
  #batch: Message[] = [];
  #exited = false;
  #isReady = false;
  #setReady: () => void = noop;
  #failStart: (error: Error) => void = noop;

  constructor(options: PythonChildOptions, launched: Launched) {
    this.#options = options;
    this.#process = launched;
    this.#socket = launched.socket;
    this.#splitter = new FrameSplitter((frames) => this.#onBatch(decodeMessage(frames)));
    this.#socket.on("data", (chunk: Uint8Array) => this.#onData(chunk));
    // EPIPE and ECONNRESET say that the child is gone; its exit says it better
    this.#socket.on("error", noop);
    this.#socket.on("end", () => this.#socket.end());
    this.#readLines("stdout");
    this.#readLines("stderr");
    this.started = this.#start();
    this.#gone = launched.ended.then(({ code, signal }) => this.#onExit(code, signal));
  }

  get pid(): number {
    return this.#process.pid;
  }
  get alive(): boolean {
    return !this.#exited;
  }
  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  async #start(): Promise<void> {
    const limit = this.#options.readyTimeoutMs ?? READY_TIMEOUT_MS;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        reject(new TimeoutError(`${this.#options.module} was not ready within ${limit} ms`));
        this.kill();
      }, limit);
      this.#setReady = (): void => {
        clearTimeout(timer);
        resolve();
      };
      this.#failStart = (error): void => {
        clearTimeout(timer);
        reject(error);
      };
    });
  }

  #readLines(name: "stdout" | "stderr"): void {
    const target = this.#options.output?.[name];
    if (target !== undefined) {
      const source = this.#process[name];
      forwardOutput(source, target);
      if (name === "stderr") this.#keepErrors(source);
      return;
    }
    createInterface({ input: this.#process[name], crlfDelay: Number.POSITIVE_INFINITY }).on("line", (line) => {
      if (name === "stderr" && !this.#isReady) {
        this.#lastErrors.push(line);
        if (this.#lastErrors.length > STDERR_LINES_KEPT) this.#lastErrors.shift();
      }
      this.#options.onLine?.(name, line);
    });
  }

  /** What is written until the child is ready: why it does not start, where it does not. */
  #keepErrors(source: Readable): void {
    const decoder = new StringDecoder("utf8");
    let rest = "";
    const keep = (chunk: Buffer): void => {
      if (this.#isReady) {
        source.off("data", keep);
        return;
      }
      const lines = (rest + decoder.write(chunk)).split("\n");
      rest = lines.pop() ?? "";
      this.#lastErrors.push(...lines);
      this.#lastErrors.splice(0, this.#lastErrors.length - STDERR_LINES_KEPT);
    };
    source.on("data", keep);
  }

  #onData(chunk: Uint8Array): void {
    try {
      this.#splitter.push(chunk);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#options.onLine?.("stderr", `the child broke the protocol and is ended: ${error.message}`);
      this.kill();
    }
  }

  #onBatch(batch: Value): void {
    if (!Array.isArray(batch)) throw new ProtocolError("a bridge message is an array of maps");
    for (const message of batch as readonly Value[]) {
      if (!isMessage(message)) throw new ProtocolError("a bridge message is an array of maps");
      this.#onMessage(message);
    }
  }

  #onMessage(message: Message): void {
    switch (message.op) {
      case "reply":
      case "chunk":
        this.#onAnswer(message);
        return;
      case "ready":
        this.ready = message;
        this.#isReady = true;
        this.#setReady();
        return;
      default:
        this.#options.onMessage?.(message);
    }
  }

  #onAnswer(message: Message): void {
    const id = message.id as number;
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    if (message.op === "reply") {
      this.#waiting.delete(id);
      waiting.resolve(message);
      return;
    }
    try {
      waiting.onChunk?.(message);
    } catch (error) {
      this.#waiting.delete(id);
      waiting.reject(error instanceof Error ? error : new Error(String(error)));
    }
  }

  send(message: Message): void {
    if (this.#exited) return;
    if (this.#batch.length === 0) queueMicrotask(() => this.#flush());
    this.#batch.push(message);
  }

  #flush(): void {
    const batch = this.#batch;
    this.#batch = [];
    if (this.#exited || !this.#socket.writable) return;
    let buffers: Uint8Array[];
    try {
      buffers = packMessage(batch);
    } catch (error) {
      this.#flushOneByOne(batch, error as Error);
      return;
    }
    this.#write(buffers);
  }

  /** One message of a batch cannot be encoded: the others still go out, a request among them fails. */
  #flushOneByOne(batch: readonly Message[], error: Error): void {
    if (batch.length > 1) {
      for (const message of batch) {
        this.#batch = [message];
        this.#flush();
      }
      return;
    }
    const message = batch[0];
    const waiting = typeof message?.id === "number" ? this.#waiting.get(message.id) : undefined;
    if (waiting !== undefined && message?.op !== "reply") {
      this.#waiting.delete(message?.id as number);
      waiting.reject(error);
    } else {
      this.#options.onLine?.("stderr", `a message for the child cannot be encoded (${message?.op}): ${error.message}`);
    }
  }

  #write(buffers: readonly Uint8Array[]): void {
    if (buffers.length === 1) {
      this.#socket.write(buffers[0] as Uint8Array);
      return;
    }
    this.#socket.cork();
    for (const buffer of buffers) this.#socket.write(buffer);
    this.#socket.uncork();
  }

  async drained(): Promise<void> {
    // the batch of this turn is written by a microtask
    await Promise.resolve();
    while (!this.#exited && this.#socket.writableLength > 0) {
      await new Promise<void>((resolve) => {
        const done = (): void => {
          this.#socket.off("drain", done);
          this.#socket.off("close", done);
          resolve();
        };
        if (this.#socket.writableNeedDrain) this.#socket.once("drain", done);
        else this.#socket.write(EMPTY, done);
        this.#socket.once("close", done);
      });
    }
  }

  request(op: string, fields: Message, onChunk?: (chunk: Message) => void): Promise<Message> {
    if (this.#exited) return Promise.reject(new PythonChildError(`${this.#options.module} is gone; ${op} is not done`));
    const id = this.#nextId++;
    return new Promise<Message>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject, onChunk });
      this.send({ ...fields, op, id });
    });
  }

  lend(socket: Socket): number | undefined {
    const number = this.#nextId++;
    return !this.#exited && this.#process.lend(socket, number) ? number : undefined;
  }

  reply(id: Value | undefined, fields: Message): void {
    if (id !== undefined && id !== null) this.send({ ...fields, op: "reply", id });
  }

  async close(timeoutMs: number = CLOSE_TIMEOUT_MS): Promise<void> {
    this.#flush();
    this.#socket.end();
    const timer = setTimeout(() => this.kill(), timeoutMs);
    await this.#gone;
    clearTimeout(timer);
  }

  kill(): void {
    this.#process.kill();
  }

  #onExit(code: number | null, signal: string | null): void {
    if (this.#exited) return;
    this.#exited = true;
    this.#socket.destroy();
    const how = signal === null ? `with code ${code}` : `by ${signal}`;
    const words = this.#lastErrors.length === 0 ? "" : `:\n${this.#lastErrors.join("\n")}`;
    this.#failStart(new PythonChildError(`${this.#options.module} ended ${how} before it was ready${words}`));
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(new PythonChildError(`${this.#options.module} ended ${how}`));
    if (this.#isReady) this.#options.onExit?.(code, signal);
  }
}

const EMPTY = new Uint8Array(0);

function noop(): void {}
