/**
 * NannyPlugins: Python objects that set up what a worker needs (environment variables, files, packages) before it
 * starts. They run in a Python child of the nanny (dask_ts.nanny_host), which is started when the first one comes.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import {
  type Config,
  errorMessage,
  INHERIT_VARIABLE,
  type Logger,
  type Message,
  type PythonChild,
  spawnPythonChild,
  type Value,
} from "@dask-ts/protocol";

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
  #folder: string | undefined;
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

  async #ask(op: string, name: string, fields: Message): Promise<Message> {
    try {
      const child = await this.#start();
      const reply = await child.request(op, { ...fields, facts: this.#facts() });
      const { op: _, id: __, env, paths, ...message } = reply;
      this.#learn(env ?? null, paths ?? null);
      return message;
    } catch (error) {
      const text = `Nanny plugin ${name}: ${(error as Error).message}`;
      this.#nanny.log.error(text);
      return errorMessage({ kind: "RuntimeError", text });
    }
  }

  #facts(): Value {
    return new Map<Value, Value>([
      ...Object.entries(this.#nanny.facts()).map(([name, value]): [Value, Value] => [name, value ?? null]),
      ["local_directory", this.#folder ?? ""],
    ]);
  }

  #learn(env: Value, paths: Value): void {
    if (env instanceof Map) {
      this.#environment = Object.fromEntries([...env].map(([key, value]) => [String(key), String(value)]));
    }
    const added = Array.isArray(paths) ? (paths as readonly Value[]).map(String) : [];
    this.#paths = [...added, ...(this.#folder === undefined ? [] : [this.#folder])];
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
    this.#folder ??= mkdtempSync(join(this.#nanny.localDirectory ?? tmpdir(), "dask-ts-nanny-"));
    const child: PythonChild = await spawnPythonChild({
      python: options.python,
      module: "dask_ts.nanny_host",
      env: options.config === undefined ? {} : { [INHERIT_VARIABLE]: options.config.serialize() },
      onMessage: (message) => void this.#onMessage(child, message),
      onLine: (_stream, line) => this.#nanny.log.info(line.replace(/^[A-Z]+ - distributed\.nanny - /, "")),
      onExit: (code, signal) => this.#onExit(code, signal),
    });
    // One that takes the place of another: its plugins have no effect on this process before they are set up here.
    for (const [name, plugin] of this.#plugins) {
      const reply = await child.request("plugin-add", { plugin, name, facts: this.#facts() });
      this.#learn(reply["env"] ?? null, reply["paths"] ?? null);
    }
    return child;
  }

  #onExit(code: number | null, signal: string | null): void {
    this.#child = undefined;
    if (this.#closed) return;
    const how = signal === null ? `with code ${code}` : `by ${signal}`;
    this.#nanny.log.error(`The process of the nanny plugins ended ${how}; it starts anew with the next plugin`);
  }

  async #onMessage(child: PythonChild, { op, id, ...fields }: Message): Promise<void> {
    const timeoutMs = Number(fields["timeout"] ?? 30) * 1000;
    const reason = String(fields["reason"] ?? "nanny-plugin");
    if (op === "log-event") {
      this.#nanny.logEvent(fields["topic"] ?? null, fields["msg"] ?? null);
    } else if (op === "restart") {
      child.reply(id, { value: await this.#nanny.restart(reason, timeoutMs).catch(() => "timed out") });
    } else if (op === "kill") {
      await this.#nanny.kill(reason, timeoutMs).catch(() => undefined);
      child.reply(id, {});
    }
  }

  /** Tears the plugins down, then ends the child. Never rejects. */
  async close(): Promise<void> {
    if (this.#child !== undefined) {
      for (const name of this.#plugins.keys()) await this.remove(name);
    }
    this.#closed = true;
    await (await this.#child?.catch(() => undefined))?.close();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }
}
