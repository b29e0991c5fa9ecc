/**
 * The nanny's Python: NannyPlugins and preload modules, which set up what a worker needs (environment variables, files,
 * packages) before it starts, and functions of `Client.run(nanny=True)`. They run in a child (dask_ts.nanny_host), which
 * is started when the first of them comes.
 */
import { delimiter } from "node:path";
import {
  type Config,
  errorMessage,
  INHERIT_VARIABLE,
  levelName,
  type Logger,
  type Message,
  type PythonChild,
  spawnPythonChild,
  type Value,
} from "@dask-ts/protocol";
import { plainLogText } from "../server/log-text.ts";
import { createScratchDirectory, type ScratchDirectory } from "../server/scratch-directory.ts";

/** For all preload modules and plugins together. */
const TEARDOWN_TIMEOUT_MS = 5_000;

export interface NannyPluginsOptions {
  /** The interpreter. */
  readonly python: string;
  /** This process's configuration, so that flags hold in the child too. */
  readonly config?: Config;
}

/** What plugins ask of the nanny. */
export interface NannyForPlugins {
  readonly log: Logger;
  /** The folder in which `nanny.local_directory` is made; null for the system's. */
  readonly localDirectory: string | null;
  /** `nanny.env` before anybody has changed it. */
  readonly environment: Readonly<Record<string, string>>;
  /** Attributes of `nanny`. */
  facts(): Message;
  logEvent(topic: Value, message: Value): void;
  restart(reason: string, timeoutMs: number): Promise<Value>;
  kill(reason: string, timeoutMs: number): Promise<void>;
}

export class NannyPlugins {
  readonly #options: NannyPluginsOptions | undefined;
  readonly #nanny: NannyForPlugins;
  /** In the order in which they came, for a child that takes the place of one that died. */
  readonly #plugins: Map<string, Value> = new Map();
  #child: Promise<PythonChild> | undefined;
  #preloads: Message | undefined;
  #folder: ScratchDirectory | undefined;
  #environment: Readonly<Record<string, string>> = {};
  #paths: readonly string[] = [];
  #closed = false;

  /** @param options undefined where there is no Python: plugins are refused then, by name. */
  constructor(options: NannyPluginsOptions | undefined, nanny: NannyForPlugins) {
    this.#options = options;
    this.#nanny = nanny;
  }

  /** Variables for the next executor. */
  get environment(): Readonly<Record<string, string>> {
    if (this.#paths.length === 0) return this.#environment;
    const before = this.#environment["PYTHONPATH"] ?? process.env["PYTHONPATH"];
    const path = [...this.#paths, ...(before ? [before] : [])].join(delimiter);
    return { ...this.#environment, PYTHONPATH: path };
  }

  /** Folders that plugins put on `sys.path`, and `nanny.local_directory`. */
  get paths(): readonly string[] {
    return this.#paths;
  }

  /** Nanny.plugin_add: an OK message, with `restart` where the worker must start anew, or an error message. */
  async add(name: string, plugin: Value): Promise<Message> {
    const reply = await this.#ask("plugin-add", name, { plugin, name });
    if (reply["status"] === "OK") this.#plugins.set(name, plugin);
    return reply;
  }

  /** Nanny.plugin_remove. */
  async remove(name: string): Promise<Message> {
    this.#plugins.delete(name);
    return await this.#ask("plugin-remove", name, { name });
  }

  /**
   * Imports preload modules and runs their `dask_setup` (distributed.preloading).
   *
   * @throws {Error} where a module cannot be imported.
   */
  async preload(modules: readonly string[], argv: readonly string[]): Promise<void> {
    if (modules.length === 0) return;
    const reply = await this.#request(await this.#start(), "preload", { modules, argv });
    if (reply["status"] !== "OK") throw new Error(`a preload module of the nanny: ${String(reply["exception_text"])}`);
    this.#preloads = { modules, argv };
  }

  /** Nanny.run: the reply of `run`. */
  async run(fields: Message): Promise<Value> {
    const reply = await this.#request(await this.#start(), "run", {
      fields: new Map(Object.entries(fields).map(([name, value]): [Value, Value] => [name, value ?? null])),
    });
    // An error of the function is a value; what remains is one of the call itself.
    return reply["value"] ?? reply;
  }

  async #request(child: PythonChild, op: string, fields: Message): Promise<Message> {
    const reply = await child.request(op, { ...fields, facts: this.#facts() });
    const { op: _, id: __, env, paths, ...message } = reply;
    this.#learn(env ?? null, paths ?? null);
    return message;
  }

  async #ask(op: string, name: string, fields: Message): Promise<Message> {
    try {
      return await this.#request(await this.#start(), op, fields);
    } catch (error) {
      const text = `Nanny plugin ${name}: ${(error as Error).message}`;
      this.#nanny.log.error(text);
      return errorMessage({ kind: "RuntimeError", text });
    }
  }

  #facts(): Value {
    return new Map<Value, Value>([
      ...Object.entries(this.#nanny.facts()).map(([name, value]): [Value, Value] => [name, value ?? null]),
      ["local_directory", this.#folder?.path ?? ""],
      ["env", new Map<Value, Value>(Object.entries(this.#nanny.environment))],
    ]);
  }

  #learn(env: Value, paths: Value): void {
    if (env instanceof Map) {
      this.#environment = Object.fromEntries([...env].map(([key, value]) => [String(key), String(value)]));
    }
    const added = Array.isArray(paths) ? (paths as readonly Value[]).map(String) : [];
    this.#paths = [...added, ...(this.#folder === undefined ? [] : [this.#folder.path])];
  }

  #start(): Promise<PythonChild> {
    this.#child ??= this.#spawn().catch((error: unknown) => {
      this.#child = undefined;
      throw error;
    });
    return this.#child;
  }

  async #spawn(): Promise<PythonChild> {
    const options = this.#options;
    if (options === undefined) throw new Error("this nanny has no Python to run it");
    this.#folder ??= createScratchDirectory(this.#nanny.localDirectory, () => undefined, "nanny-");
    const child: PythonChild = await spawnPythonChild({
      python: options.python,
      module: "dask_ts.nanny_host",
      env: options.config === undefined ? {} : { [INHERIT_VARIABLE]: options.config.serialize() },
      onMessage: (message) => void this.#onMessage(child, message),
      onLine: (_stream, line) => this.#nanny.log.info(line),
      onExit: (code, signal) => this.#onExit(code, signal),
    });
    // One that takes the place of another: its plugins have no effect on this process before they are set up here.
    if (this.#preloads !== undefined) await this.#request(child, "preload", this.#preloads);
    for (const [name, plugin] of this.#plugins) await this.#request(child, "plugin-add", { plugin, name });
    return child;
  }

  #onExit(code: number | null, signal: string | null): void {
    this.#child = undefined;
    if (this.#closed) return;
    const how = signal === null ? `with code ${code}` : `by ${signal}`;
    this.#nanny.log.error(`The nanny's Python process ended ${how}; it starts anew when it is needed`);
  }

  async #onMessage(child: PythonChild, { op, id, ...fields }: Message): Promise<void> {
    const timeoutMs = Number(fields["timeout"] ?? 30) * 1000;
    const reason = String(fields["reason"] ?? "nanny-plugin");
    if (op === "log") {
      const { level, text, logger } = fields;
      this.#nanny.log.write(levelName(String(level)), plainLogText(String(text)), String(logger));
    } else if (op === "log-event") {
      this.#nanny.logEvent(fields["topic"] ?? null, fields["msg"] ?? null);
    } else if (op === "restart") {
      child.reply(id, { value: await this.#nanny.restart(reason, timeoutMs).catch(() => "timed out") });
    } else if (op === "kill") {
      await this.#nanny.kill(reason, timeoutMs).catch(() => undefined);
      child.reply(id, {});
    }
  }

  /** Tears preload modules and plugins down, then ends the child. Never rejects. */
  async close(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((done) => {
      timer = setTimeout(done, TEARDOWN_TIMEOUT_MS);
    });
    await Promise.race([this.#tearDown(), late]);
    clearTimeout(timer);
    this.#closed = true;
    await (await this.#child?.catch(() => undefined))?.close();
    await this.#folder?.release();
  }

  async #tearDown(): Promise<void> {
    if (this.#child === undefined) return;
    if (this.#preloads !== undefined) await this.#ask("preload-teardown", "preload", {});
    for (const name of this.#plugins.keys()) await this.remove(name);
  }
}
