/**
 * The process in which the scheduler's user code runs (dask_ts.plugin_host): plugins, preload modules, functions of
 * run_on_scheduler, feeds. Started when it is first needed; when it dies it is started anew and gets back what it had.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CLIENT_TO_SCHEDULER,
  type Message,
  type Pickled,
  type PythonChild,
  RemoteError,
  type Serialized,
  type Value,
  WORKER_TO_SCHEDULER,
} from "@dask-ts/protocol";
import type { Graph } from "../core/graph.ts";
import { GraphHost, type GraphHostOptions, type OpenGraphRequest } from "../graph-host/graph-host.ts";
import { HookMark } from "./hook-mark.ts";
import { PluginEvents, type PluginEventsOptions } from "./plugin-events.ts";
import { PythonPolicies } from "./python-policies.ts";

/** A plugin in whose hooks the process died this often is not brought back. */
const MAX_DEATHS = 3;
/** `valid_workers_downscaling` must answer within this time; else all workers may go. */
const DOWNSCALING_MS = 2_000;
/** `before_close`, `close` and `dask_teardown` have this long when the scheduler closes. */
const CLOSING_MS = 10_000;

/** Pickled plugins come as bytes or closed. */
export type PickledPlugin = Uint8Array | Pickled | Serialized;

/** Preload modules and their arguments, as `dask scheduler` has them. */
export interface Preloads {
  readonly preload: readonly string[];
  readonly preloadArgv: Value;
  /** Arguments come from a command line: they must be some click command's. */
  readonly check: boolean;
}

export interface PluginHostOptions extends Pick<PluginEventsOptions, "core" | "lastFacts"> {
  /** The interpreter; asked when the process is first needed. */
  readonly python: () => Promise<string>;
  readonly onLine: NonNullable<GraphHostOptions["onLine"]>;
  /** Answers questions about the scheduler (server/scheduler-view.ts). */
  readonly onRequest: (op: string, fields: Message) => Promise<Message>;
  /** Variables for the child, beside those of this process. */
  readonly env: Readonly<Record<string, string>>;
  /** The ops that user code put into `scheduler.handlers` now. */
  readonly onHandlers: (ops: readonly string[]) => void;
  /** A file is to be there where graphs are opened as well. */
  readonly onUpload: (path: string, load: boolean) => Promise<void>;
}

interface StoredPlugin {
  readonly plugin: PickledPlugin;
  deaths: number;
}

/** The arguments of a preload module's click command are wrong. */
export class PreloadUsageError extends Error {
  readonly code = "DASK_PRELOAD_USAGE";
  override readonly name = "PreloadUsageError";
}

export class PluginHost {
  readonly events: PluginEvents;
  /** Those of the active memory manager. */
  readonly policies: PythonPolicies = new PythonPolicies({ call: (op, fields) => this.call(op, fields) });
  readonly #options: PluginHostOptions;
  readonly #plugins: Map<string, StoredPlugin> = new Map();
  readonly #uploads: Map<string, boolean> = new Map();
  #preloads: Preloads | undefined;
  #host: Promise<GraphHost> | undefined;
  #up: GraphHost | undefined;
  #folder: string | undefined;
  #mark: HookMark | undefined;
  #starts = 0;
  #closed = false;
  /** Ops that user code put into `scheduler.stream_handlers`. */
  #streamHandlers: ReadonlySet<string> = new Set();
  /** Those of them that are not used, with a line. */
  readonly #refusedOps: Set<string> = new Set();
  #feeds = 0;

  constructor(options: PluginHostOptions) {
    this.#options = options;
    this.events = new PluginEvents({
      core: options.core,
      lastFacts: options.lastFacts,
      warn: (line) => this.#log("warn", line),
      send: async (rows) => {
        try {
          await this.#up?.call("events", { rows });
        } catch {
          // The line about its end says it all; what it was told is lost with it.
        }
      },
    });
  }

  /** Whether there is one, or one is being started. */
  get running(): boolean {
    return this.#host !== undefined;
  }

  hasStreamHandler(op: string): boolean {
    return this.#streamHandlers.has(op);
  }

  #log(level: "info" | "warn" | "error", line: string): void {
    this.#options.onLine(level, line);
  }

  #start(): Promise<GraphHost> {
    // A start that failed is tried again by the next who needs it.
    this.#host ??= this.#spawn().catch((error: unknown) => {
      this.#host = undefined;
      throw error;
    });
    return this.#host;
  }

  async #spawn(): Promise<GraphHost> {
    const python = await this.#options.python();
    this.#folder ??= mkdtempSync(join(tmpdir(), "dask-ts-scheduler-"));
    this.#mark ??= new HookMark(join(this.#folder, ".at-work"));
    const host = await GraphHost.start({
      python,
      module: "dask_ts.plugin_host",
      title: "plugin host",
      env: { ...this.#options.env, DASK_TS_MARK: this.#mark.path, DASK_TS_FOLDER: this.#folder },
      onStart: (child) => this.#onStart(child),
      lastWork: () => this.#lastWork(),
      onRequest: (op, fields) => this.#onRequest(op, fields),
      onLine: this.#options.onLine,
    });
    this.#up = host;
    if (this.#closed) await host.close();
    return host;
  }

  /** A new process: what the one before had been given. */
  #onStart(child: PythonChild): void {
    if (this.#starts++ === 0) return;
    const bringBack = async (what: string, op: string, fields: Message): Promise<boolean> => {
      const reply = await child.request(op, fields).catch(() => null);
      if (reply?.["status"] === undefined) return reply !== null;
      this.#log("error", `${what} could not be brought back: ${textOf(reply)}`);
      return false;
    };
    const ask = (what: string, op: string, fields: Message): void => void bringBack(what, op, fields);
    this.#mark?.clear();
    for (const [path, load] of this.#uploads) ask(`the file ${path}`, "upload", { path, load });
    if (this.#preloads !== undefined) {
      ask("preload modules", "preload", preloadFields({ ...this.#preloads, check: false }));
      ask("preload modules", "preload-start", {});
    }
    for (const [name, { plugin, deaths }] of this.#plugins) {
      if (deaths < MAX_DEATHS) {
        ask(`scheduler plugin '${name}'`, "plugin-add", { plugin, name, idempotent: false });
      }
    }
    this.policies.restore(bringBack);
  }

  /** For the log line about its end; a plugin in whose hook it happened is remembered. */
  #lastWork(): string | undefined {
    const work = this.#mark?.read();
    this.events.setHooks([]);
    this.#options.onHandlers([]);
    this.#streamHandlers = new Set();
    const policyLeftOut = this.policies.died(work?.who);
    if (work === undefined) return undefined;
    const name = /^scheduler plugin ['"](.*)['"]$/.exec(work.who)?.[1];
    const stored = name === undefined ? undefined : this.#plugins.get(name);
    const pluginLeftOut = stored !== undefined && ++stored.deaths >= MAX_DEATHS;
    const said = `while ${work.who} was in ${work.what}`;
    if (!pluginLeftOut && !policyLeftOut) return said;
    const what = pluginLeftOut ? "plugin" : "policy";
    return `${said}, for the ${MAX_DEATHS}rd time: that ${what} is left out from now on`;
  }

  async #onRequest(op: string, fields: Message): Promise<Message> {
    if (op.startsWith("amm-")) return this.policies.answer(op, fields);
    switch (op) {
      case "hooks":
        this.events.setHooks((fields["hooks"] as readonly Value[]).map(String));
        return {};
      case "handlers":
        this.#options.onHandlers((fields["handlers"] as readonly Value[]).map(String));
        this.#serveStreams((fields["stream_handlers"] as readonly Value[]).map(String));
        return {};
      case "plugin-stored":
        this.#plugins.set(String(fields["name"]), { plugin: fields["plugin"] as Uint8Array, deaths: 0 });
        return {};
      case "plugin-removed":
        this.#plugins.delete(String(fields["name"]));
        return {};
      case "uploaded": {
        const path = String(fields["path"]);
        const load = fields["load"] === true;
        this.#uploads.set(path, load);
        await this.#options.onUpload(path, load);
        return {};
      }
      default:
        return await this.#options.onRequest(op, fields);
    }
  }

  /** The scheduler's own ops are not to be replaced: the core must hear of them. */
  #serveStreams(ops: readonly string[]): void {
    const served = new Set<string>();
    for (const op of ops) {
      if (!Object.hasOwn(CLIENT_TO_SCHEDULER, op) && !Object.hasOwn(WORKER_TO_SCHEDULER, op)) served.add(op);
      else if (!this.#refusedOps.has(op)) {
        this.#refusedOps.add(op);
        this.#log("warn", `The stream handler of '${op}' is the scheduler's own; one of user code is not used`);
      }
    }
    this.#streamHandlers = served;
  }

  /**
   * Any op of the plugin host, after what happened before has been handed to the hooks.
   *
   * @throws {RemoteError} with the Python exception, or one that says that the process died.
   */
  async call(op: string, fields: Message): Promise<Message> {
    const host = await this.#start();
    await this.events.flush();
    return await host.call(op, fields);
  }

  /** Opens a graph that needs what user code did here; undefined where none ran. */
  openGraph(request: OpenGraphRequest): Promise<Graph> | undefined {
    return this.#up?.openGraph(request);
  }

  /** An op of a worker's or client's stream that a plugin handles; `peer` says whose. */
  streamMessage(op: string, peer: Message, message: Message): void {
    const { op: _, ...fields } = message;
    this.call("handle-stream", { name: op, fields: { ...peer, ...fields } }).catch((error: unknown) => {
      this.#log("error", `the stream handler '${op}' of a scheduler plugin failed: ${(error as Error).message}`);
    });
  }

  /** Imports preload modules. @throws {PreloadUsageError}; {@link RemoteError} where one cannot be imported. */
  async preload(preloads: Preloads): Promise<void> {
    const reply = await this.call("preload", preloadFields(preloads));
    if (typeof reply["usage"] === "string") throw new PreloadUsageError(reply["usage"]);
    this.#preloads = preloads;
  }

  /** Calls `dask_setup` of the preload modules. */
  async startPreloads(): Promise<void> {
    await this.call("preload-start", {});
  }

  /** Scheduler.register_scheduler_plugin. @throws {RemoteError} with what the plugin raised. */
  async addPlugin(plugin: PickledPlugin, name: string | null, idempotent: boolean): Promise<void> {
    const reply = await this.call("plugin-add", { plugin, name, idempotent });
    if (typeof reply["name"] === "string") this.#plugins.set(reply["name"], { plugin, deaths: 0 });
  }

  /** Scheduler.unregister_scheduler_plugin. @throws {RemoteError} a ValueError where there is none of that name. */
  async removePlugin(name: string): Promise<void> {
    await this.call("plugin-remove", { name });
    this.#plugins.delete(name);
  }

  /** SchedulerPlugin.valid_workers_downscaling: addresses of the workers that may go, of those given. */
  async validWorkers(workers: readonly string[]): Promise<ReadonlySet<string>> {
    if (this.#up === undefined || !this.events.has("valid_workers_downscaling")) return new Set(workers);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), DOWNSCALING_MS);
    });
    try {
      const reply = await Promise.race([this.call("valid-workers-downscaling", { workers }), late]);
      if (reply !== undefined) return new Set((reply["workers"] as readonly Value[]).map(String));
      this.#log(
        "warn",
        `valid_workers_downscaling of the scheduler plugins took more than ${DOWNSCALING_MS / 1000} s: any worker may go`,
      );
    } catch (error) {
      this.#log("warn", `valid_workers_downscaling of the scheduler plugins failed: ${(error as Error).message}`);
    } finally {
      clearTimeout(timer);
    }
    return new Set(workers);
  }

  /** A number for a new feed. */
  nextFeed(): number {
    return ++this.#feeds;
  }

  /** before_close, dask_teardown and close, within a time limit. Never rejects. */
  async beforeClose(): Promise<void> {
    const host = this.#up;
    if (host === undefined) return;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"late">((resolve) => {
      timer = setTimeout(() => resolve("late"), CLOSING_MS);
    });
    try {
      await this.events.flush();
      if ((await Promise.race([host.call("closing", {}), late])) === "late") {
        this.#log("warn", `scheduler plugins took more than ${CLOSING_MS / 1000} s to close; they are given up`);
      }
    } catch (error) {
      this.#log("warn", `scheduler plugins could not be closed: ${(error as Error).message}`);
    } finally {
      clearTimeout(timer);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.events.setHooks([]);
    this.events.clear();
    // One that is still starting is ended as soon as it is up; nobody waits for that.
    await this.#up?.close();
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true });
  }
}

function preloadFields({ preload, preloadArgv, check }: Preloads): Message {
  return { preload: [...preload], preload_argv: preloadArgv, check };
}

function textOf(reply: Message): string {
  return new RemoteError(reply).exceptionText;
}
