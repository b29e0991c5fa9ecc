/** The scheduler's Python child, which opens what only Python can open (packages/python/dask_ts/graph_host.py). */
import {
  type Key,
  type Message,
  type PythonChild,
  RemoteError,
  type Serialized,
  spawnPythonChild,
  type Value,
} from "@dask-ts/protocol";
import type { Graph } from "../core/graph.ts";
import { GraphReader } from "./graph-reader.ts";

export interface GraphHostOptions {
  /** The interpreter, as `findPython` gives it. */
  readonly python: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
  /** The module to run, and what it is called in the log. Default `dask_ts.graph_host`, "graph host". */
  readonly module?: string;
  readonly title?: string;
  /** A new child is ready: what is sent to it here comes before everything else. */
  readonly onStart?: (child: PythonChild) => void;
  /** What the child was doing when it died, for the log. */
  readonly lastWork?: () => string | undefined;
  /** Answers what the child asks of the scheduler. */
  readonly onRequest?: (op: string, fields: Message) => Message | Promise<Message>;
  /** A line for the log: what the child printed, and what became of it. */
  readonly onLine?: (level: "info" | "warn" | "error", line: string) => void;
  /** Called each time the child dies unasked; a new one is being started then. */
  readonly onExit?: (code: number | null, signal: string | null) => void;
}

/** The fields of `update-graph` that Python has to open. */
export interface OpenGraphRequest {
  readonly exprSer: Serialized;
  /** The wanted keys. */
  readonly keys: readonly Key[];
  readonly code?: Value;
  readonly annotations?: Value;
  readonly spanMetadata?: Value;
}

/** A child that ran shorter than this before it died is not started again at once. */
const STABLE_MS = 10_000;
const RESTART_DELAY_MS = 1_000;
const RESTART_DELAY_MAX_MS = 30_000;

export class GraphHost {
  readonly #options: GraphHostOptions;
  /** The child that is there, or the one that is being started. */
  #child: Promise<PythonChild>;
  #current: PythonChild | undefined;
  #versions: Value = null;
  #closing = false;
  #startedAt = 0;
  #restartDelay = 0;
  #restartTimer: NodeJS.Timeout | undefined;
  /** Files that were uploaded, and whether they are imported. */
  readonly #uploads: Map<string, boolean> = new Map();
  /** Requests that wait for an answer. */
  #busy = 0;

  private constructor(options: GraphHostOptions) {
    this.#options = options;
    this.#child = this.#spawn();
  }

  /**
   * Starts the child and waits until it is ready.
   *
   * @throws {PythonChildError} where it cannot be started.
   */
  static async start(options: GraphHostOptions): Promise<GraphHost> {
    const host = new GraphHost(options);
    await host.#child;
    return host;
  }

  /** `distributed.versions.get_versions()` of the child: `{host, packages}`. */
  get versions(): Value {
    return this.#versions;
  }
  get pid(): number | undefined {
    return this.#current?.pid;
  }
  get busy(): number {
    return this.#busy;
  }

  /**
   * Imports a file, now and in each later child.
   *
   * @throws {RemoteError} where it cannot be imported.
   */
  async upload(path: string, load: boolean): Promise<void> {
    this.#uploads.set(path, load);
    await this.call("import-file", { path, load });
  }

  async #spawn(): Promise<PythonChild> {
    const { python, env, cwd } = this.#options;
    const child = await spawnPythonChild({
      python,
      module: this.#options.module ?? "dask_ts.graph_host",
      ...(env === undefined ? {} : { env }),
      ...(cwd === undefined ? {} : { cwd }),
      onMessage: (message) => void this.#onRequest(message),
      onLine: (stream, line) => this.#log(stream === "stdout" ? "info" : levelOf(line), line),
      onExit: (code, signal) => this.#onExit(code, signal),
    });
    this.#current = child;
    this.#versions = child.ready.versions ?? null;
    this.#startedAt = performance.now();
    this.#options.onStart?.(child);
    // What cannot be imported any more is for the graphs that need it to tell.
    for (const [path, load] of this.#uploads) void child.request("import-file", { path, load }).catch(() => undefined);
    if (this.#closing) await child.close();
    return child;
  }

  get #title(): string {
    return this.#options.title ?? "graph host";
  }

  #log(level: "info" | "warn" | "error", line: string): void {
    this.#options.onLine?.(level, line);
  }

  #onExit(code: number | null, signal: string | null): void {
    this.#current = undefined;
    if (this.#closing) return;
    const how = signal === null ? `with code ${code}` : `by ${signal}`;
    const work = this.#options.lastWork?.();
    this.#log("error", `the ${this.#title} ended ${how}${work === undefined ? "" : ` ${work}`}; a new one is started`);
    const stable = performance.now() - this.#startedAt > STABLE_MS;
    this.#restartDelay = stable ? 0 : this.#nextDelay();
    this.#restart();
    this.#options.onExit?.(code, signal);
  }

  #nextDelay(): number {
    return Math.min(Math.max(this.#restartDelay * 2, RESTART_DELAY_MS), RESTART_DELAY_MAX_MS);
  }

  #restart(): void {
    const delay = this.#restartDelay;
    this.#child = (async (): Promise<PythonChild> => {
      // the first restart is at once: one bad graph should not make others wait
      if (delay > RESTART_DELAY_MS) {
        await new Promise<void>((resolve) => {
          this.#restartTimer = setTimeout(resolve, delay);
        });
      }
      return await this.#spawn();
    })();
    this.#child.catch((error: unknown) => {
      if (this.#closing) return;
      this.#log("error", `the ${this.#title} cannot be started: ${(error as Error).message}`);
      this.#restartDelay = this.#nextDelay();
      this.#restart();
    });
  }

  async #onRequest(message: Message): Promise<void> {
    const child = this.#current;
    const { op, id, ...fields } = message;
    let reply: Message;
    try {
      const handler = this.#options.onRequest;
      if (handler === undefined) throw new Error(`nobody answers ${String(op)} here`);
      reply = await handler(String(op), fields);
    } catch (error) {
      reply = { status: "error", ...errorFields((error as Error).message) };
    }
    child?.reply(id, reply);
  }

  /**
   * Asks for any op of the child: `evaluate-key`, `shuffle-run-spec`, `error-pickle`,
   * `open-pickle-plain`, `versions`; those of the plugin host. The reply is as it came, with `op` and `id` taken away; that
   * of `run-function` may have `status: "error"`, when the user's function failed.
   *
   * @throws {RemoteError} with the Python exception, or one that says that the child died before it answered.
   */
  async call(op: string, fields: Message, onChunk?: (chunk: Message) => void): Promise<Message> {
    this.#busy++;
    let answer: Message;
    try {
      const child = await this.#child;
      answer = await child.request(op, fields, onChunk);
    } catch (error) {
      throw new RemoteError(errorFields(`The ${this.#title} could not do ${op}: ${(error as Error).message}`));
    } finally {
      this.#busy--;
    }
    const { op: _, id: __, ...reply } = answer;
    if (reply.status === "uncaught-error") throw new RemoteError(reply);
    return reply;
  }

  /**
   * Opens the graph of an `update-graph`: unpickled, materialised, culled, annotated, one pickle per task.
   *
   * @throws {RemoteError} with the exception for `task-erred`, where it cannot be opened.
   */
  async openGraph(request: OpenGraphRequest): Promise<Graph> {
    const fields: Message = {
      expr: request.exprSer,
      code: request.code ?? null,
      annotations: request.annotations ?? null,
      span_metadata: request.spanMetadata ?? null,
    };
    if (!looksLikeMap(request.exprSer)) fields.keys = request.keys;
    const reader = new GraphReader();
    const addChunk = (chunk: Message): void => reader.add(chunk);
    let reply = await this.call("open-graph", fields, addChunk);
    if (reply.needs === "keys") reply = await this.call("open-graph", { ...fields, keys: request.keys }, addChunk);
    return reader.finish(reply);
  }

  /** Ends the child; what is asked then fails. */
  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#restartTimer);
    const child = this.#current ?? (await this.#child.catch(() => undefined));
    await child?.close();
  }
}

const MAP_CLASS = Buffer.from("_MapExpr");

/**
 * Whether the pickle names the class of `Client.map` at its start: then the keys, which may be as large as the graph,
 * need not be sent, for only an LLGExpr is culled. Where this guess is wrong the child asks for them.
 */
function looksLikeMap(expr: Serialized): boolean {
  const pickle = expr.frames[0];
  if (pickle === undefined) return false;
  return Buffer.from(pickle.buffer, pickle.byteOffset, Math.min(pickle.byteLength, 200)).includes(MAP_CLASS);
}

/** `error_message` without Python: receivers make an `Exception` of a text (distributed.core.clean_exception). */
function errorFields(text: string): Message {
  return { exception: text, traceback: null, exception_text: text, traceback_text: "" };
}

function levelOf(line: string): "info" | "warn" | "error" {
  if (/^(ERROR|CRITICAL|Traceback|Fatal Python error)\b/.test(line)) return "error";
  return line.startsWith("INFO") ? "info" : "warn";
}
