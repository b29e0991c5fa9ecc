/**
 * The nanny (distributed.nanny.Nanny): supervises one worker. Stock's is a process that owns a worker process; here both
 * live in this process, and what dies and is replaced is the executor. The scheduler sees no difference: a nanny has an
 * address of its own, `kill` ends the worker, and a new one registers from a new address.
 */
import {
  type Comm,
  COMMON_RPC,
  ConnectionPool,
  fieldChecker,
  isMessage,
  type Listener,
  Logger,
  LogRing,
  type Message,
  NANNY_RPC,
  normalizeAddress,
  parseMemoryLimit,
  pickle,
  PyGlobal,
  serveComm,
  TimeoutError,
  type Value,
} from "@dask-ts/protocol";
import { PeriodicCallback } from "../server/heartbeat.ts";
import { contactHost, listenWorker } from "../server/listening.ts";
import type { WorkerExit, WorkerOptions } from "../server/options.ts";
import { abortable, delay } from "../server/registration.ts";
import { DEFAULT_WORKER_SETTINGS, type WorkerSettings } from "../server/settings.ts";
import { cpuCount, systemMemoryLimit } from "../server/system.ts";
import { Worker } from "../server/worker.ts";
import { nannyHandlers } from "./handlers.ts";
import { NannyPlugins, type NannyPluginsOptions } from "./nanny-plugins.ts";
import { TerminationMonitor } from "./termination-monitor.ts";

const UNREGISTER_TIMEOUT_MS = 10_000;
const KILL_TIMEOUT_MS = 5_000;
const CONNECT_RETRY_MS = 100;
const SAY_WAITING_EVERY_S = 30;

const CHECK_FIELDS = fieldChecker(NANNY_RPC, COMMON_RPC);

export type NannyStatus = "init" | "running" | "closing_gracefully" | "closing" | "closed";

export interface NannyOptions extends Omit<WorkerOptions, "nanny"> {
  /** `--nanny-port`: ports to try in order; 0 takes a free one. */
  readonly nannyPorts?: readonly number[];
  /** `--preload-nanny`: Python modules, and the arguments of their `dask_setup`. */
  readonly preloadNanny?: readonly string[];
  readonly preloadNannyArgv?: readonly string[];
  /** Where NannyPlugins, preload modules and functions run; without it they are refused. */
  readonly pluginPython?: NannyPluginsOptions;
}

export class Nanny {
  readonly schedulerAddress: string;
  readonly log: Logger;
  readonly logs: LogRing;
  readonly settings: WorkerSettings;
  /** Resolves when nanny and worker are closed, for whatever reason. */
  readonly finished: Promise<WorkerExit>;

  readonly #options: NannyOptions;
  readonly #memoryLimit: number | null;
  readonly #pool: ConnectionPool;
  readonly plugins: NannyPlugins;
  readonly #stop = new AbortController();
  readonly #comms = new Set<Comm>();
  #finish: (exit: WorkerExit) => void = () => undefined;
  #status: NannyStatus = "init";
  #listener: Listener | undefined;
  #worker: Worker | undefined;
  #starting: Promise<void> | undefined;
  #terminator: PeriodicCallback | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: NannyOptions) {
    this.#options = options;
    this.settings = options.settings ?? DEFAULT_WORKER_SETTINGS;
    this.schedulerAddress = normalizeAddress(options.scheduler, options.comms?.connect.defaultScheme);
    this.logs = new LogRing(this.settings.logLength);
    this.log = new Logger("distributed.nanny", this.logs.sink, ...(options.logSinks ?? []));
    this.#memoryLimit = parseMemoryLimit(
      options.memoryLimit === undefined ? "auto" : options.memoryLimit,
      options.nthreads ?? cpuCount(),
      { memory: systemMemoryLimit(), cores: cpuCount() },
      (message) => this.log.child("memory").warning(message),
    );
    this.#pool = new ConnectionPool({
      connect: {
        timeoutMs: this.settings.connectTimeoutMs,
        ...options.comms?.connect,
        serverHostname: options.serverHostname,
      },
    });
    this.finished = new Promise((resolve) => {
      this.#finish = resolve;
    });
    this.plugins = new NannyPlugins(options.pluginPython, {
      log: this.log,
      localDirectory: options.localDirectory ?? this.settings.temporaryDirectory,
      environment: { ...this.settings.nannyEnvironment, ...options.environment },
      facts: () => this.#facts(),
      logEvent: (topic, msg) => {
        this.#pool.call(this.schedulerAddress, "log_event", { topic, msg }).catch(() => undefined);
      },
      restart: (reason, timeoutMs) => this.restart(reason, timeoutMs),
      kill: (reason, timeoutMs) => this.kill(reason, timeoutMs),
    });
  }

  /** Starts a nanny and waits until its worker is registered; throws what {@link start} throws. */
  static async start(options: NannyOptions): Promise<Nanny> {
    const nanny = new Nanny(options);
    await nanny.start();
    return nanny;
  }

  get address(): string {
    return this.#listener?.contactAddress ?? "";
  }
  get status(): NannyStatus {
    return this.#status;
  }
  get worker(): Worker | undefined {
    return this.#worker;
  }
  get workerAddress(): string | undefined {
    return this.#worker?.workerAddress;
  }

  callScheduler(op: string, fields: Message, timeoutMs: number): Promise<Value> {
    return this.#pool.call(this.schedulerAddress, op, fields, { timeoutMs });
  }

  endWithWorker(reason: string): void {
    this.closeGracefully(reason);
  }

  /**
   * Nanny.start_unsafe.
   *
   * @throws {TimeoutError} where the scheduler does not answer within the death timeout; all is closed then.
   * @throws {RegistrationError} where it refuses the worker.
   */
  async start(): Promise<void> {
    const { deathTimeoutS = null } = this.#options;
    const timer =
      deathTimeoutS === null
        ? undefined
        : setTimeout(
            () => this.#stop.abort(new TimeoutError(`Nanny failed to start within ${deathTimeoutS} s`)),
            deathTimeoutS * 1000,
          );
    try {
      await this.#listen();
      const { preloadNanny = [], preloadNannyArgv = [] } = this.#options;
      await this.plugins.preload(preloadNanny, preloadNannyArgv);
      const comm = await this.#register();
      try {
        this.log.info(`        Start Nanny at: '${this.address}'`);
        await this.instantiate();
        comm.send({ status: "ok" });
        await comm.close();
      } catch (error) {
        // The scheduler waits for the end of the start before it hands out nanny plugins.
        if (!comm.closed) comm.send({ status: "error" });
        await comm.close();
        throw error;
      }
    } catch (error) {
      if (error instanceof TimeoutError) {
        this.log.error(`Timed out connecting Nanny '${this.address}' to scheduler '${this.schedulerAddress}'`);
      }
      await this.close({ reason: "nanny-start-failed", exitCode: 1 });
      throw error;
    } finally {
      clearTimeout(timer);
    }
    this.#startTerminator();
  }

  async #listen(): Promise<void> {
    const { nannyPorts = [0], host, interface: networkInterface } = this.#options;
    const isPlaced = Boolean(host) || Boolean(networkInterface);
    this.#listener = await listenWorker(
      {
        ...this.#options,
        ports: nannyPorts,
        host: isPlaced ? (host ?? null) : await contactHost(this.schedulerAddress),
      },
      this.schedulerAddress,
      { onComm: (comm) => this.#serve(comm) },
    );
  }

  #serve(comm: Comm): void {
    this.#comms.add(comm);
    comm.onClose(() => this.#comms.delete(comm));
    void serveComm(comm, this.#handlers, {
      name: "Nanny",
      checkFields: CHECK_FIELDS,
      blockedHandlers: this.settings.nannyBlockedHandlers,
      onError: (error, op, peer) => this.log.error(`Exception while handling op ${op} of ${peer}`, error),
    });
  }

  readonly #handlers = nannyHandlers(this);

  /** Tells the scheduler of this nanny; the comm stays open until the worker runs (wire-protocol.md §13.3). */
  async #register(): Promise<Comm> {
    let said = Date.now();
    for (;;) {
      this.#stop.signal.throwIfAborted();
      try {
        const { signal } = this.#stop;
        const comm = await this.#pool.take(this.schedulerAddress, { signal });
        comm.send({ op: "register_nanny", address: this.address });
        const reply = await abortable(comm.receive(), signal);
        await this.#setUp(isMessage(reply) ? (reply["nanny-plugins"] ?? null) : null);
        return comm;
      } catch (error) {
        this.#stop.signal.throwIfAborted();
        this.log.debug(`The scheduler did not answer: ${error instanceof Error ? error.message : String(error)}`);
        if (Date.now() - said >= SAY_WAITING_EVERY_S * 1000) {
          said = Date.now();
          this.log.info(`Waiting to connect to: ${this.schedulerAddress.padStart(26)}`);
        }
        await delay(CONNECT_RETRY_MS, this.#stop.signal);
      }
    }
  }

  /** Plugins that the scheduler had before this nanny came. One that fails is logged, as in stock. */
  async #setUp(plugins: Value): Promise<void> {
    if (!(plugins instanceof Map)) return;
    for (const [name, plugin] of plugins as ReadonlyMap<Value, Value>) await this.plugins.add(String(name), plugin);
  }

  /** Nanny.plugin_add: the worker starts anew where the plugin wants that, with what the plugin has set up. */
  async addPlugin(name: string, plugin: Value): Promise<Message> {
    const { restart = false, ...reply } = await this.plugins.add(name, plugin);
    if (reply["status"] !== "OK") return reply;
    if (restart === true) await this.restart(`nanny-plugin-${name}-restart`);
    else await this.#extendPath();
    return reply;
  }

  /** The executor that runs can import what plugins have put into a folder. */
  async #extendPath(): Promise<void> {
    const function_ = pickle(new PyGlobal("sys", "path.insert"));
    for (const path of this.plugins.paths) {
      await this.#worker?.session().executor.call("run", { function: function_, args: pickle([0, path]) });
    }
  }

  /** Attributes of `nanny` that plugins may look at. */
  #facts(): Message {
    const { nthreads, name, protocol } = this.#options;
    return {
      address: this.address,
      scheduler_addr: this.schedulerAddress,
      worker_address: this.#worker?.address ?? null,
      name: name ?? null,
      nthreads: nthreads ?? cpuCount(),
      memory_limit: this.#memoryLimit,
      protocol: protocol ?? null,
      pid: process.pid,
    };
  }

  /** Starts the worker, unless there is one. Concurrent calls share one start (Nanny.instantiate). */
  instantiate(): Promise<void> {
    if (this.#worker !== undefined && this.#starting === undefined) return Promise.resolve();
    this.#starting ??= this.#startWorker().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async #startWorker(): Promise<void> {
    this.#stop.signal.throwIfAborted();
    const worker = new Worker({
      ...this.#options,
      environment: { ...this.#options.environment, ...this.plugins.environment },
      memoryLimit: this.#memoryLimit,
      nanny: { address: this.address, closeGracefully: (reason) => this.closeGracefully(reason) },
    });
    this.#worker = worker;
    const onStop = (): void => void worker.close({ reason: "nanny-close", nanny: false });
    this.#stop.signal.addEventListener("abort", onStop);
    try {
      await worker.start();
    } catch (error) {
      this.#worker = undefined;
      // A start that was given up fails in whatever way: why it was given up says more.
      this.#stop.signal.throwIfAborted();
      throw error;
    } finally {
      this.#stop.signal.removeEventListener("abort", onStop);
    }
    if (this.#status === "init") this.#status = "running";
    void worker.finished.then((exit) => this.#onWorkerExit(worker, exit));
  }

  /** Nanny._on_worker_exit. */
  async #onWorkerExit(worker: Worker, exit: WorkerExit): Promise<void> {
    if (this.#worker === worker) this.#worker = undefined;
    if (this.#status === "closing_gracefully") {
      await this.close({ reason: "nanny-close-gracefully", exitCode: exit.exitCode });
      return;
    }
    if (this.#status !== "running") return;
    try {
      this.log.info(`Unregistering worker (status=${this.#status})`);
      await this.#unregister(worker.address);
      if (this.#status !== "running") return;
      this.log.warning(`Restarting worker (status=${this.#status})`);
      await this.instantiate();
    } catch (error) {
      if (this.#closing !== undefined) return;
      this.log.error("Failed to restart worker after its process exited", error);
      await this.close({ reason: "nanny-instantiate-failed", exitCode: 1 });
    }
  }

  async #unregister(address: string): Promise<void> {
    try {
      const fields = { address, stimulus_id: `nanny-close-${Date.now() / 1000}` };
      await this.#pool.call(this.schedulerAddress, "unregister", fields, { timeoutMs: UNREGISTER_TIMEOUT_MS });
    } catch (error) {
      this.log.debug(`unregister: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Ends the worker; another one follows by itself (Nanny.kill). */
  async kill(reason = "nanny-kill", timeoutMs: number = KILL_TIMEOUT_MS): Promise<void> {
    await this.#worker?.close({ reason, nanny: false, timeoutMs });
  }

  /** Nanny.restart. */
  async restart(reason = "nanny-restart", timeoutMs = 30_000): Promise<"OK" | "timed out"> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<"timed out">((done) => {
      timer = setTimeout(() => done("timed out"), timeoutMs);
    });
    const restarted = this.kill(reason).then(async () => {
      await this.instantiate();
      return "OK" as const;
    });
    try {
      const outcome = await Promise.race([restarted, late]);
      if (outcome === "timed out") {
        this.log.error(`Restart timed out after ${timeoutMs / 1000}s; returning before finished`);
        restarted.catch(() => undefined);
      }
      return outcome;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The worker is about to end for good: no other one will be started. */
  closeGracefully(reason = "nanny-close-gracefully"): void {
    if (this.#closing !== undefined) return;
    this.#status = "closing_gracefully";
    this.log.info(`Closing Nanny gracefully at '${this.address}'. Reason: ${reason}`);
  }

  #startTerminator(): void {
    const { terminate, monitorIntervalMs } = this.settings.memory;
    if (this.#memoryLimit === null || terminate === false || this.#closing !== undefined) return;
    const monitor = new TerminationMonitor(this.#memoryLimit, terminate, this.log, (event) => {
      const message: Message = { topic: "worker-restart-memory", msg: event };
      this.#pool.call(this.schedulerAddress, "log_event", message).catch(() => undefined);
    });
    this.#terminator = new PeriodicCallback(monitorIntervalMs, () => {
      if (this.#status === "running" && this.#worker !== undefined) {
        monitor.check(this.#worker.address, this.#worker.executorPid);
      }
    });
    this.#terminator.start();
  }

  /** Ends worker and nanny. A second call waits for the first. */
  close({ reason = "nanny-close", timeoutMs = KILL_TIMEOUT_MS, exitCode = 0 }: CloseNannyOptions = {}): Promise<void> {
    this.#closing ??= this.#close(reason, timeoutMs, exitCode);
    return this.#closing;
  }

  async #close(reason: string, timeoutMs: number, exitCode: number): Promise<void> {
    this.#status = "closing";
    this.log.info(`Closing Nanny at '${this.address}'. Reason: ${reason}`);
    this.#terminator?.stop();
    const worker = this.#worker;
    // A start that is still under way ends by the signal; a running worker is closed with its reason.
    const starting = this.#starting;
    const closing = worker?.close({ reason, nanny: false, timeoutMs });
    this.#stop.abort(new Error(`the nanny closes: ${reason}`));
    await closing;
    await starting?.catch(() => undefined);
    this.#worker = undefined;
    await this.plugins.close();
    this.#listener?.close();
    await this.#pool.close();
    for (const comm of this.#comms) comm.abort();
    this.#status = "closed";
    this.log.info(`Nanny at '${this.address}' closed.`);
    this.#finish({ reason, exitCode });
  }
}

export interface CloseNannyOptions {
  readonly reason?: string;
  /** For the worker to end by itself. */
  readonly timeoutMs?: number;
  readonly exitCode?: number;
}
