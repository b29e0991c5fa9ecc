/** The executor: a Python child behind the bridge. */
import type { Socket } from "node:net";
import { fstatSync } from "node:fs";
import {
  asNumber,
  type Key,
  type Message,
  type PythonChild,
  type PythonChildOptions,
  spawnPythonChild,
  type Value,
} from "@dask-ts/protocol";
import type { ExecuteRequest, Executor, ExecutorEvents, FetchOutcome, PutOutcome, SendOutcome } from "./executor.ts";
import { isErrorReply, parseOutcome, parsePutOutcome, taskRow, toMessage } from "./messages.ts";

/** What the child is told once, before anything else. */
export interface ExecutorOptions {
  /** The interpreter; see `findPython`. */
  readonly python: string;
  /** The worker's address, as peers and the scheduler know it. */
  readonly address: string;
  readonly scheduler: string;
  readonly name: Value;
  readonly nthreads: number;
  /** The worker's own scratch directory, or a base to make one below, or null for Dask's default. */
  readonly localDirectory: string | null;
  readonly resources?: ReadonlyMap<Value, Value>;
  /** Bytes, or null for none; decides from when values spill. */
  readonly memoryLimit: number | null;
  readonly preload?: readonly string[];
  readonly preloadArgv?: readonly string[] | readonly (readonly string[])[];
  /** Address of the nanny, as `get_worker().nanny` shows it. */
  readonly nanny?: string | null;
  /** Arguments of `distributed.Security` as a map, or null to go by the configuration alone. */
  readonly security?: Value;
  /** Dask configuration on top of what the child reads from its files and its environment. */
  readonly config?: ReadonlyMap<Value, Value>;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  readonly readyTimeoutMs?: number;
  readonly launch?: PythonChildOptions["launch"];
  /** Lines that tasks and the child write; by default they go to the same stream of this process. */
  readonly onLine?: (stream: "stdout" | "stderr", line: string) => void;
}

/** An error that the child met in something asked of it, with the fields of distributed's `error_message`. */
export class ExecutorError extends Error {
  readonly code = "DASK_EXECUTOR";
  override readonly name = "ExecutorError";
  readonly fields: Message;
  constructor(what: string, fields: Message) {
    super(`${what}: ${String(fields.exception_text ?? "unknown error")}`);
    this.fields = fields;
  }
}

export class PythonExecutor implements Executor {
  readonly #child: PythonChild;
  readonly #events: ExecutorEvents;
  #metrics: ReadonlyMap<string, number> = new Map();
  #localDirectory = "";
  #startup: Value = new Map();

  private constructor(child: PythonChild, events: ExecutorEvents) {
    this.#child = child;
    this.#events = events;
  }

  /**
   * Starts a child and waits until it can run tasks (its preloads have run).
   *
   * @throws {PythonChildError} where it cannot be started.
   * @throws {ExecutorError} where it cannot be set up: a preload raised, a directory cannot be written.
   */
  static async start(options: ExecutorOptions, events: ExecutorEvents): Promise<PythonExecutor> {
    let executor: PythonExecutor | undefined;
    const child = await spawnPythonChild({
      python: options.python,
      module: "dask_ts.executor",
      onMessage: (message) => {
        if (executor !== undefined) executor.#onMessage(message);
      },
      onExit: (code, signal) => events.exit(code, signal),
      lending: true,
      ...(options.onLine === undefined ? { output: ownOutput(), onLine: writeLine } : { onLine: options.onLine }),
      ...(options.env === undefined ? {} : { env: options.env }),
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.launch === undefined ? {} : { launch: options.launch }),
      ...(options.readyTimeoutMs === undefined ? {} : { readyTimeoutMs: options.readyTimeoutMs }),
    });
    executor = new PythonExecutor(child, events);
    const reply = await child.request("init", {
      address: options.address,
      scheduler: options.scheduler,
      name: options.name,
      nthreads: options.nthreads,
      local_directory: options.localDirectory,
      resources: options.resources ?? new Map(),
      memory_limit: options.memoryLimit,
      preload: options.preload ?? [],
      preload_argv: options.preloadArgv ?? [],
      nanny: options.nanny ?? null,
      security: options.security ?? null,
      config: options.config ?? null,
    });
    if (isErrorReply(reply)) {
      child.kill();
      throw new ExecutorError("The executor cannot start", reply);
    }
    executor.#localDirectory = String(reply.local_directory);
    executor.#startup = reply.startup ?? new Map();
    return executor;
  }

  get pid(): number {
    return this.#child.pid;
  }

  get versions(): Value {
    return this.#child.ready.versions ?? null;
  }

  /** Where the child writes its files. */
  get localDirectory(): string {
    return this.#localDirectory;
  }

  /** `extra` of `register-worker`: what `worker.startup_information` gave. */
  get startupInformation(): Value {
    return this.#startup;
  }

  get metrics(): ReadonlyMap<string, number> {
    return this.#metrics;
  }

  execute(requests: readonly ExecuteRequest[]): void {
    if (requests.length > 0) this.#child.send({ op: "execute", tasks: requests.map(taskRow) });
  }

  cancel(key: Key): void {
    this.#child.send({ op: "cancel", key });
  }

  async recall(): Promise<readonly Key[]> {
    return (await this.#request("recall", {})).keys as readonly Key[];
  }

  drop(keys: readonly Key[]): void {
    if (keys.length > 0) this.#child.send({ op: "drop", keys });
  }

  async put(entries: readonly { readonly key: Key; readonly data: Value }[]): Promise<PutOutcome[]> {
    const reply = await this.#request("put", { entries: entries.map(({ key, data }) => [key, data]) });
    return (reply.results as readonly Value[]).map(parsePutOutcome);
  }

  async get(keys: readonly Key[], serializers: Value): Promise<{ readonly key: Key; readonly data: Value }[]> {
    const reply = await this.#request("get", { keys, serializers });
    return (reply.items as readonly [Key, Value][]).map(([key, data]) => ({ key, data }));
  }

  async ping(): Promise<void> {
    await this.#request("ping", {});
  }

  async fetch(address: string, keys: readonly Key[], who: string): Promise<FetchOutcome> {
    const reply = await this.#request("fetch", { address, keys, who });
    if (reply.unreachable !== undefined) return { kind: "unreachable", reason: String(reply.unreachable) };
    if (reply.peer !== undefined) return { kind: "refused", reply: toMessage(reply.peer) };
    return {
      kind: "fetched",
      keys: reply.keys as readonly Key[],
      outcomes: (reply.results as readonly Value[]).map(parsePutOutcome),
      networkS: asNumber(reply.network, 0),
      deserializeS: asNumber(reply.deserialize, 0),
    };
  }

  send(keys: readonly Key[], serializers: Value, socket: Socket): Promise<SendOutcome> | undefined {
    const lent = this.#child.lend(socket);
    if (lent === undefined) return undefined;
    return this.#request("send", { lent, keys, serializers }).then((reply) =>
      reply.broken === undefined
        ? { kind: "sent", keys: reply.keys as readonly Key[], serializeS: asNumber(reply.serialize, 0) }
        : { kind: "broken", reason: String(reply.broken) },
    );
  }

  forgetPeer(address: string): void {
    this.#child.send({ op: "forget-peer", address });
  }

  async call(op: string, fields: Message): Promise<Value> {
    const reply = await this.#request("call", { name: op, fields });
    return reply.value ?? null;
  }

  async close(timeoutMs: number): Promise<void> {
    const end = performance.now() + timeoutMs;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    // a child that dies meanwhile rejects, and is closed all the same
    await Promise.race([this.#child.request("close", {}).catch(() => undefined), late]);
    clearTimeout(timer);
    await this.#child.close(Math.max(0, end - performance.now()));
  }

  /** Ends the child at once. */
  kill(): void {
    this.#child.kill();
  }

  /** Takes a message of the child that is no reply. */
  #onMessage(message: Message): void {
    switch (message.op) {
      case "outcomes":
        for (const row of message.items as readonly Value[]) this.#events.outcome(parseOutcome(row));
        return;
      case "metrics":
        this.#metrics = readFigures(message.figures);
        return;
      case "log":
        this.#events.log(String(message.level), String(message.logger), String(message.text));
        return;
      case "log-event":
        this.#events.logEvent(message.topic ?? null, message.msg ?? null);
        return;
      case "seceded":
        this.#events.seceded(message.key as Key, asNumber(message.duration, 0));
        return;
      case "request":
        void this.#answer(message);
        return;
      default:
        this.#events.log("WARNING", "executor", `unknown message of the executor: ${String(message.op)}`);
    }
  }

  async #answer(message: Message): Promise<void> {
    const name = String(message.name);
    try {
      const value = await this.#events.request(name, toMessage(message.fields));
      this.#child.reply(message.id, { value });
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (message.id === undefined) {
        this.#events.log("ERROR", "executor", `The executor asked for ${name}: ${text}`);
      } else {
        this.#child.reply(message.id, {
          status: "uncaught-error",
          exception: text,
          traceback: null,
          exception_text: text,
          traceback_text: "",
        });
      }
    }
  }

  async #request(op: string, fields: Message): Promise<Message> {
    const reply = await this.#child.request(op, fields);
    if (isErrorReply(reply)) throw new ExecutorError(`The executor failed at ${op}`, reply);
    return reply;
  }
}

function readFigures(value: Value | undefined): ReadonlyMap<string, number> {
  const figures = new Map<string, number>();
  if (value instanceof Map) {
    for (const [name, figure] of value) figures.set(String(name), asNumber(figure, 0));
  }
  return figures;
}

/** Where a pipe takes both streams (`2>&1`), one queue: two of them would break each other's lines when it is full. */
function ownOutput(): NonNullable<PythonChildOptions["output"]> {
  const [stdout, stderr] = [fstatSync(1), fstatSync(2)];
  const isShared = stdout.ino === stderr.ino && stdout.dev === stderr.dev && (stdout.isFIFO() || stdout.isSocket());
  return isShared ? { stdout: process.stderr, stderr: process.stderr } : process;
}

function writeLine(stream: "stdout" | "stderr", line: string): void {
  process[stream].write(`${line}\n`);
}
