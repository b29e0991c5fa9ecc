/** The scheduler: listens, serves clients and workers, and closes. Decisions are the core's; IO is here. */
import { randomUUID } from "node:crypto";
import { rmSync } from "node:fs";
import {
  type Comm,
  COMMON_RPC,
  type Config,
  ConnectionPool,
  describeError,
  fieldChecker,
  findPython,
  getAddressHost,
  keyId,
  listen,
  type Listener,
  loadConfig,
  loadSecurity,
  Logger,
  LogRing,
  normalizeAddress,
  resolveAddress,
  type RpcHandler,
  SCHEDULER_RPC,
  type Security,
  serveComm,
  type Value,
} from "@dask-ts/protocol";
import { SchedulerCore } from "../core/scheduler-core.ts";
import { standardExtensions } from "../extensions/index.ts";
import { GraphHostPool } from "../graph-host/graph-host-pool.ts";
import type { PluginHost } from "../plugin-host/plugin-host.ts";
import { type HttpServer, startHttp } from "../http/server.ts";
import type { Connections, SchedulerContext, SchedulerExtension } from "./context.ts";
import { contactHost, DEFAULT_PORT, startAddresses } from "./addresses.ts";
import { importPreloads, makePluginHost, startPreloads } from "./beside.ts";
import { EventBroker } from "./events.ts";
import { schedulerHandlers } from "./handlers/table.ts";
import { type Identity, schedulerIdentity } from "./identity.ts";
import { logChildLine } from "./graph-host-log.ts";
import { Plugins } from "./nanny-registration.ts";
import { Measures } from "./measures.ts";
import type { SchedulerOptions } from "./options.ts";
import { readSettings, type SchedulerSettings } from "./settings.ts";
import { writeSchedulerFile } from "./scheduler-file.ts";
import { PeerStreams } from "./streams.ts";
import { Timers } from "./timers.ts";
import { WorkerVersions } from "./versions.ts";
import { checkWorkerTtl } from "./restart-workers.ts";

const DEFAULT_DASHBOARD_ADDRESS = ":8787";

export class Scheduler implements SchedulerContext {
  readonly id: string = `Scheduler-${randomUUID()}`;
  readonly core: SchedulerCore;
  readonly config: Config;
  readonly settings: SchedulerSettings;
  readonly log: Logger;
  readonly logs: LogRing;
  readonly pool: ConnectionPool;
  readonly streams: PeerStreams;
  readonly broker: EventBroker;
  readonly measures: Measures = new Measures();
  readonly plugins: Plugins = new Plugins();
  readonly pluginHost: PluginHost;
  readonly workerVersions: WorkerVersions = new WorkerVersions();
  readonly extensions: readonly SchedulerExtension[];
  /** Seconds since the epoch. */
  readonly started: number;
  status: SchedulerContext["status"] = "init";

  readonly #options: SchedulerOptions;
  readonly #security: Security;
  readonly #timers: Timers;
  readonly #comms: Set<Comm> = new Set();
  readonly #listeners: Listener[] = [];
  #handlers: Record<string, RpcHandler> = {};
  #http: HttpServer | undefined;
  #graphHost: Promise<GraphHostPool> | undefined;
  #graphHostUp: GraphHostPool | undefined;
  #applying = 0;
  #closing: Promise<void> | undefined;
  readonly #finished: PromiseWithResolvers<void> = withResolvers();

  private constructor(options: SchedulerOptions) {
    this.#options = options;
    this.config = options.config ?? loadConfig({ env: process.env });
    this.settings = readSettings(this.config, options);
    this.#security = options.security ?? loadSecurity(this.config, "scheduler");
    this.logs = new LogRing(this.settings.logLength);
    this.log = new Logger("distributed.scheduler", this.logs.sink, ...(options.log === undefined ? [] : [options.log]));
    for (const text of this.#security.warnings) this.log.warning(text);
    this.started = this.now();
    this.core = new SchedulerCore(this.settings.core, this.started);
    this.streams = new PeerStreams(this.log.named("distributed.batched"));
    this.broker = new EventBroker(this.settings.lowLevelLogLength, (client, message) => {
      this.streams.toClient(client, [message]);
    });
    this.pool = new ConnectionPool({
      connect: {
        ...this.#security.connect,
        // The common denominator, as stock's scheduler says where it connects.
        handshake: { ...this.#security.connect.handshake, pickleProtocol: 4 },
      },
    });
    this.extensions = options.extensions ?? standardExtensions();
    this.pluginHost = makePluginHost(this, () => this.#handlers, options.python);
    this.#timers = new Timers((error) => this.log.error("A timer of the scheduler failed", error));
  }

  /**
   * Listens and serves. Does not wait for Python: what needs it waits by itself.
   *
   * @throws where an address cannot be listened on, or an option or the configuration is wrong.
   */
  static async start(options: SchedulerOptions = {}): Promise<Scheduler> {
    const scheduler = new Scheduler(options);
    try {
      await scheduler.#start();
    } catch (error) {
      await scheduler.#release();
      throw error;
    }
    return scheduler;
  }

  /** The first contact address. */
  get address(): string {
    return this.#listeners[0]?.contactAddress ?? "";
  }

  /** All contact addresses. */
  get addresses(): readonly string[] {
    return this.#listeners.map((listener) => listener.contactAddress);
  }

  connections(): Connections {
    const streams = this.streams.clients.size + this.streams.workers.size;
    return {
      listeners: this.#listeners,
      incoming: this.#comms.size,
      streams,
    };
  }

  /** Null where there is no HTTP server. */
  get httpPort(): number | null {
    return this.#http?.port ?? null;
  }

  /** Resolves when the scheduler has closed, for whatever reason. */
  get finished(): Promise<void> {
    return this.#finished.promise;
  }

  identity(nWorkers = -1, live = true): Identity {
    const { state } = this.core;
    return schedulerIdentity(
      {
        id: this.id,
        address: this.address,
        services: new Map(this.#http === undefined ? [] : [["dashboard", this.#http.port]]),
        started: this.started,
        totalNthreads: state.totalNthreads,
        totalMemory: state.totalMemory,
        workers: state.workers,
      },
      nWorkers,
      live,
    );
  }

  now(): number {
    return Date.now() / 1000;
  }

  apply<T>(work: (core: SchedulerCore, now: number) => T): T {
    this.#applying++;
    try {
      return work(this.core, this.now());
    } finally {
      this.#applying--;
      if (this.#applying === 0 && !this.core.outbox.empty) this.#flush();
    }
  }

  logEvent(topics: string | readonly string[], message: Value): void {
    this.broker.publish(topics, message, this.now());
  }

  graphHost(): Promise<GraphHostPool> {
    // A start that failed is tried again by the next who asks.
    this.#graphHost ??= this.#startGraphHost().catch((error: unknown) => {
      this.#graphHost = undefined;
      throw error;
    });
    return this.#graphHost;
  }

  versionsNow(): Value {
    return this.#graphHostUp?.versions ?? null;
  }

  async coerceAddress(worker: Value): Promise<string> {
    const known = this.coerceKnown(worker);
    if (this.core.state.workers.has(known)) return known;
    return await resolveAddress(known, this.settings.defaultScheme);
  }

  coerceKnown(worker: Value): string {
    const { state } = this.core;
    const alias = state.aliases.get(keyId(worker));
    if (alias !== undefined) return alias;
    const text = Array.isArray(worker) && worker.length === 2 ? `${String(worker[0])}:${String(worker[1])}` : worker;
    if (typeof text !== "string") throw new TypeError("addresses should be strings or tuples");
    if (state.workers.has(text)) return text;
    return normalizeAddress(text, this.settings.defaultScheme);
  }

  every(intervalMs: number, work: () => void | Promise<void>): () => void {
    return this.#timers.every(intervalMs, work);
  }

  after(delayMs: number, work: () => void): () => void {
    return this.#timers.after(delayMs, work);
  }

  sleep(ms: number): Promise<void> {
    return this.#timers.sleep(ms);
  }

  requestClose(reason: string): void {
    void this.close(reason);
  }

  /** Tells the workers to close, ends all comms, the graph host and the HTTP server. Safe to call more than once. */
  close(reason = "unknown"): Promise<void> {
    this.#closing ??= this.#close(reason);
    return this.#closing;
  }

  async #start(): Promise<void> {
    const options = this.#options;
    // Python starts while this process listens, and finds everything ready.
    this.graphHost().catch((error: unknown) => {
      if (this.status !== "closing") this.log.error(`Graphs cannot be opened: ${(error as Error).message}`);
    });
    this.#handlers = { ...this.measures.timed(schedulerHandlers(this, this.plugins)) };
    await importPreloads(this, options);
    this.core.listeners.removeWorker.push((ws) => this.workerVersions.remove(ws));
    for (const address of startAddresses(options, this.settings.defaultScheme, this.#security.requireEncryption)) {
      this.#listeners.push(await this.#listen(address));
    }
    if (options.dashboardAddress !== null) {
      this.#http = await startHttp(this, {
        address: options.dashboardAddress ?? DEFAULT_DASHBOARD_ADDRESS,
        prefix: options.dashboardPrefix ?? "",
        dashboard: options.dashboard ?? true,
        share: ({ port }) => this.#listeners.find((listener) => listener.port === port)?.share,
      });
    }
    this.#announce();
    for (const extension of this.extensions) await extension.start?.(this);
    this.#startTimers();
    this.status = "running";
    await startPreloads(this);
    if (options.schedulerFile) writeSchedulerFile(options.schedulerFile, this.identity());
  }

  async #listen(address: string): Promise<Listener> {
    const checkFields = fieldChecker(COMMON_RPC, SCHEDULER_RPC);
    return await listen(address, {
      ...this.#security.listen,
      defaultPort: DEFAULT_PORT,
      contactHost: contactHost(this.#options.contactAddress ?? this.settings.contactAddress),
      onComm: (comm) => {
        this.#comms.add(comm);
        comm.onClose(() => this.#comms.delete(comm));
        void serveComm(comm, this.#handlers, {
          name: "Scheduler",
          blockedHandlers: this.settings.blockedHandlers,
          checkFields,
          onError: (error, op, peer) => {
            if (this.status === "closing") return;
            if (op === "") this.log.warning(`Connection of ${peer} closed: ${describeError(error)}`);
            else this.log.error(`Exception while handling op ${op} of ${peer}`, error);
          },
        });
      },
      onRejected: (error, peer) => {
        if (this.status !== "closing") this.log.warning(`Connection of ${peer} refused: ${error.message}`);
      },
    });
  }

  /** The lines that deployers look for. */
  #announce(): void {
    for (const listener of this.#listeners) {
      this.log.info(`  Scheduler at: ${listener.contactAddress.padStart(25)}`);
    }
    if (this.#http === undefined) return;
    const link = this.#http.link(getAddressHost(this.address));
    this.log.info(`${"dashboard".padStart(11)} at:  ${link.padStart(25)}`);
  }

  #startTimers(): void {
    const { core } = this.settings;
    this.every(250, () => {
      if (this.apply((api, now) => api.checkIdle(now)).close) {
        this.log.info(`Scheduler closing after being idle for ${core.idleTimeout} s`);
        this.requestClose("idle-timeout-exceeded");
      }
    });
    if (core.noWorkersTimeout !== null) {
      this.every(250, () => this.apply((api, now) => api.checkNoWorkers(now)));
    }
    if (core.workerTtl !== null) this.every(core.workerTtl * 1000, () => checkWorkerTtl(this));
  }

  async #startGraphHost(): Promise<GraphHostPool> {
    const python = await findPython({ python: this.#options.python });
    const host = await GraphHostPool.start(
      {
        python: python.path,
        onLine: (level, line) => logChildLine(this.log, level, line),
      },
      this.#options.graphHosts ?? 1,
    );
    host.elsewhere = (request) => this.pluginHost.openGraph(request);
    this.#graphHostUp = host;
    if (this.status === "closing" || this.status === "closed") await host.close();
    return host;
  }

  /** Does what the core asked for: clients first, then workers (Scheduler.send_all). */
  #flush(): void {
    const { outbox } = this.core;
    for (const [level, text] of outbox.logs) this.log.write(LEVELS[level], text);
    for (const [topic, message] of outbox.events) this.logEvent(topic, message);
    for (const [client, messages] of outbox.toClients) this.streams.toClient(client, messages);
    for (const [address, messages] of outbox.toWorkers) this.streams.toWorker(address, messages);
    const removed = outbox.closeWorkers.length > 0 ? [...outbox.closeWorkers] : [];
    outbox.clear();
    for (const address of removed) {
      this.streams.detachWorker(address);
      this.pool.remove(address);
      for (const extension of this.extensions) extension.onRemoveWorker?.(address);
      this.after(this.settings.eventsCleanupDelayMs, () => {
        if (!this.core.state.workers.has(address)) this.broker.truncate(address);
      });
    }
  }

  async #close(reason: string): Promise<void> {
    this.status = "closing";
    this.log.info(`Closing scheduler. Reason: ${reason}`);
    await this.pluginHost.beforeClose();
    for (const extension of this.extensions) await extension.stop?.();
    this.log.info("Scheduler closing all comms");
    const closing: Promise<void>[] = [];
    for (const stream of this.streams.workers.values()) {
      if (stream.comm.closed) continue;
      stream.release();
      stream.queue([{ op: "close", reason: "scheduler-close" }, { op: "close-stream" }]);
      closing.push(stream.send.close());
    }
    await Promise.allSettled(closing);
    for (const send of this.streams.clients.values()) send.abort();
    await this.#release();
    this.log.info(`Stopped scheduler at '${this.address}'`);
    this.status = "closed";
    this.#finished.resolve();
  }

  /** Lets go of everything that was opened. */
  async #release(): Promise<void> {
    this.#timers.stop();
    for (const listener of this.#listeners) listener.close();
    for (const comm of this.#comms) comm.abort();
    if (this.status !== "init" && this.#options.schedulerFile) rmSync(this.#options.schedulerFile, { force: true });
    this.status = "closing";
    await this.pool.close();
    await this.#http?.close();
    // A child that is still starting is ended as soon as it is up; nobody waits for that.
    await Promise.all([this.#graphHostUp?.close(), this.pluginHost.close()]);
  }
}

const LEVELS = { debug: "DEBUG", info: "INFO", warn: "WARNING", error: "ERROR" } as const;

interface PromiseWithResolvers<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
}

/** Promise.withResolvers, which Node 20 does not have. */
function withResolvers(): PromiseWithResolvers<void> {
  let resolve: () => void = () => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
