/**
 * A worker: listener, HTTP port, scratch directory and log, around one session after the other (distributed.worker.
 * Worker). Stock's worker ends with its process; here only the executor does, and a new session takes its place.
 */
import { randomUUID } from "node:crypto";
import {
  type Comm,
  COMMON_RPC,
  connect,
  ConnectionPool,
  type ConnectSettings,
  fieldChecker,
  type HttpServer,
  type Listener,
  Logger,
  LogRing,
  type Message,
  normalizeAddress,
  parseMemoryLimit,
  serveComm,
  TimeoutError,
  type Value,
  WORKER_RPC,
} from "@dask-ts/protocol";
import type { ErrorFields } from "../core/events.ts";
import type { WorkerMachine } from "../core/worker-machine.ts";
import { type HttpSource, serveWorkerHttp } from "../http/routes.ts";
import { Digests } from "./digests.ts";
import { errorFieldsOf } from "./error-fields.ts";
import { WorkerUnavailableError } from "./handlers/services.ts";
import { workerHandlers } from "./handlers/table.ts";
import { listenWorker } from "./listening.ts";
import type { SystemMonitor } from "./monitor.ts";
import type { WorkerExit, WorkerOptions } from "./options.ts";
import { Reporting } from "./reporting.ts";
import { createScratchDirectory, type ScratchDirectory } from "./scratch-directory.ts";
import type { Session, SessionHost } from "./session.ts";
import { Sessions } from "./sessions.ts";
import { DEFAULT_WORKER_SETTINGS, type WorkerSettings } from "./settings.ts";
import { logStarted } from "./startup-log.ts";
import { ANY_RUNNING } from "./status.ts";
import { cpuCount, systemMemoryLimit } from "./system.ts";
import { TransferMetrics } from "./transfer-metrics.ts";

const CLOSE_TIMEOUT_MS = 30_000;
/** An executor that hangs is killed after this, so that a signal ends the worker soon. */
const EXECUTOR_CLOSE_MS = 5_000;

const CHECK_FIELDS = fieldChecker(WORKER_RPC, COMMON_RPC);

export interface CloseOptions {
  readonly reason?: string;
  /** Tell the nanny not to start another worker. */
  readonly nanny?: boolean;
  readonly timeoutMs?: number;
  readonly exitCode?: number;
}

export class Worker implements SessionHost, HttpSource {
  readonly id: string = `Worker-${randomUUID()}`;
  readonly schedulerAddress: string;
  readonly nthreads: number;
  readonly memoryLimit: number | null;
  readonly resources: ReadonlyMap<string, number>;
  readonly settings: WorkerSettings;
  readonly log: Logger;
  readonly logs: LogRing;
  readonly digests: Digests = new Digests();
  readonly transfers: TransferMetrics;
  readonly peers: ConnectionPool;
  readonly openTransfers: Set<Comm> = new Set();
  readonly plugins: Set<string> = new Set();
  /** Resolves when the worker is closed, for whatever reason. */
  readonly finished: Promise<WorkerExit>;
  readonly options: WorkerOptions;
  readonly connectSettings: ConnectSettings;
  readonly sessions: Sessions = new Sessions(this);
  readonly reporting: Reporting = new Reporting(this);

  readonly #stop = new AbortController();
  readonly #comms = new Set<Comm>();
  #finish: (exit: WorkerExit) => void = () => undefined;
  #status = "undefined";
  #address = "";
  #name: Value = null;
  #listener: Listener | undefined;
  #http: HttpServer | undefined;
  #scratch: ScratchDirectory | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: WorkerOptions) {
    this.options = options;
    this.settings = options.settings ?? DEFAULT_WORKER_SETTINGS;
    this.schedulerAddress = normalizeAddress(options.scheduler, options.comms?.connect.defaultScheme);
    this.nthreads = options.nthreads ?? cpuCount();
    this.resources = options.resources ?? this.settings.resources;
    this.logs = new LogRing(this.settings.logLength);
    this.log = new Logger("distributed.worker", this.logs.sink, ...(options.logSinks ?? []));
    this.transfers = new TransferMetrics(this.settings.bandwidthBytesPerS, this.settings.lowLevelLogLength);
    this.memoryLimit = parseMemoryLimit(
      options.memoryLimit === undefined ? "auto" : options.memoryLimit,
      this.nthreads,
      { memory: systemMemoryLimit(), cores: cpuCount() },
      (message) => this.log.child("memory").warning(message),
    );
    this.connectSettings = {
      timeoutMs: this.settings.connectTimeoutMs,
      ...options.comms?.connect,
      serverHostname: options.serverHostname,
    };
    this.peers = new ConnectionPool({ connect: this.connectSettings });
    this.finished = new Promise((resolve) => {
      this.#finish = resolve;
    });
  }

  /**
   * Starts a worker and waits until it is registered.
   *
   * @throws {TimeoutError} where the scheduler does not answer within the death timeout; the worker is closed then.
   * @throws {RegistrationError} where it refuses.
   */
  static async start(options: WorkerOptions): Promise<Worker> {
    const worker = new Worker(options);
    await worker.start();
    return worker;
  }

  async start(): Promise<void> {
    const { deathTimeoutS = null } = this.options;
    const timer =
      deathTimeoutS === null
        ? undefined
        : setTimeout(() => {
            const text = `Worker failed to start within ${deathTimeoutS} s`;
            this.#stop.abort(new TimeoutError(text));
          }, deathTimeoutS * 1000);
    this.#status = "init";
    try {
      await this.#listen();
      await this.sessions.open();
    } catch (error) {
      await this.close({ reason: "worker-start-failed", nanny: false, exitCode: 1 });
      throw error;
    } finally {
      clearTimeout(timer);
    }
    if (!this.closing) this.reporting.start();
  }

  // What the handlers, the session and the pages see.

  get address(): string {
    return this.#address;
  }
  get name(): Value {
    return this.#name;
  }
  get status(): string {
    return this.#status;
  }
  get localDirectory(): string {
    return this.#scratch?.path ?? "";
  }
  get connectionsIncoming(): number | false {
    return this.settings.connectionsIncoming;
  }
  get monitor(): SystemMonitor {
    const { monitor } = this.sessions;
    if (monitor === undefined) throw new WorkerUnavailableError(`${this.address} has no executor yet`);
    return monitor;
  }
  get machine(): WorkerMachine | undefined {
    return this.sessions.current?.machine;
  }
  get executorMetrics(): ReadonlyMap<string, number> {
    return this.sessions.executor?.metrics ?? new Map();
  }
  get executorBytes(): number {
    return this.sessions.monitor?.processMemory() ?? 0;
  }
  get pythonVersion(): string | undefined {
    return pythonVersionOf(this.sessions.executor?.versions);
  }
  /** The process that runs the tasks; undefined while there is none. */
  get executorPid(): number | undefined {
    return this.sessions.executor?.pid;
  }
  get dashboardPort(): number | undefined {
    return this.#http?.port;
  }
  get latencyS(): number {
    return this.reporting.latencyS;
  }
  get closing(): boolean {
    return this.#closing !== undefined;
  }
  /** Aborted when the worker begins to close, or could not start in time. */
  get stopSignal(): AbortSignal {
    return this.#stop.signal;
  }

  session(): Session {
    const session = this.sessions.current;
    if (session?.active === true) return session;
    const why = this.closing ? "it is closing" : "its executor is starting";
    throw new WorkerUnavailableError(`${this.address} cannot do this now: ${why}`);
  }

  now(): number {
    return Date.now() / 1000;
  }

  errorFields(error: unknown): ErrorFields {
    return errorFieldsOf(error);
  }

  /** Its address, while it is registered. */
  get workerAddress(): string | undefined {
    return this.sessions.current?.active === true ? this.#address : undefined;
  }

  /** Without a nanny there is nobody who would start it again. */
  endWithWorker(): void {}

  callScheduler(op: string, fields: Message, timeoutMs?: number): Promise<Value> {
    return this.peers.call(this.schedulerAddress, op, fields, { timeoutMs });
  }

  callPeer(address: string, op: string, fields: Message): Promise<Value> {
    return this.peers.call(address, op, fields);
  }

  /** `distributed.comm.timeouts.tcp` */
  get silenceMs(): number {
    return this.settings.tcpTimeoutMs;
  }

  async probe(address: string): Promise<void> {
    const comm = await connect(address, { ...this.connectSettings, signal: this.stopSignal });
    comm.abort();
  }

  forgetPeer(address: string): void {
    this.peers.remove(address);
  }

  /** Worker.status.setter: tells scheduler, state machine and executor. */
  setStatus(status: string): void {
    const previous = this.#status;
    this.#status = status;
    const session = this.sessions.current;
    if (session === undefined) return;
    const stimulusId = `worker-status-change-${this.now()}`;
    session.send({ op: "worker-status-change", status, stimulus_id: stimulusId });
    if (previous === "running" && status !== "running") session.dispatch({ kind: "pause", stimulusId });
    else if (status === "running" && (previous === "paused" || previous === "closing_gracefully")) {
      session.dispatch({ kind: "unpause", stimulusId });
    }
    session.executor.call("context", { status }).catch(() => undefined);
  }

  // Starting.

  async #listen(): Promise<void> {
    const { name = null, dashboardAddress = ":0", contactAddress = null, localDirectory = null } = this.options;
    this.#scratch = createScratchDirectory(localDirectory ?? this.settings.temporaryDirectory, (path) =>
      this.log.info(`Found stale lock file and directory '${path}', purging`),
    );
    const listener = await listenWorker(this.options, this.schedulerAddress, {
      onComm: (comm) => this.#serve(comm),
      onRejected: (error, peer) => this.log.warning(`Connection of ${peer} refused: ${error.message}`),
    });
    this.#listener = listener;
    this.#address = contactAddress === null ? listener.contactAddress : normalizeAddress(contactAddress);
    this.#name = name ?? this.#address;
    if (dashboardAddress !== null) {
      this.#http = await serveWorkerHttp(this, dashboardAddress, this.options.dashboard ?? true, this.settings.http);
    }
    logStarted(this, listener.contactAddress, name !== null);
  }

  #serve(comm: Comm): void {
    this.#comms.add(comm);
    comm.onClose(() => this.#comms.delete(comm));
    void serveComm(comm, this.#handlers, {
      name: "Worker",
      checkFields: CHECK_FIELDS,
      blockedHandlers: this.settings.blockedHandlers,
      onError: (error, op, peer) => this.log.error(`Exception while handling op ${op} of ${peer}`, error),
    });
  }

  readonly #handlers = workerHandlers(this);

  /** Back to the state before registration: the executor is gone, and another will come. */
  awaitSession(): void {
    this.#status = "init";
  }

  async clearScratch(): Promise<void> {
    await this.#scratch?.clear();
  }

  // What happens to a session.

  control(op: string, fields: Message): void {
    const { reason, status } = fields;
    switch (op) {
      case "close":
        void this.close({
          reason: typeof reason === "string" ? reason : "worker-close",
          nanny: fields["nanny"] !== false,
        });
        return;
      case "worker-status-change":
        if (typeof status !== "string") throw new TypeError("worker-status-change needs a status");
        this.#onStatusChange(status);
        return;
      case "shuffle-fail":
        this.session()
          .executor.call(op, fields)
          .catch((error: unknown) => this.log.error("shuffle-fail could not be delivered", error));
        return;
      default:
        throw new TypeError(`No stream handler '${op}' found in Worker`);
    }
  }

  /** Worker.handle_worker_status_change. */
  #onStatusChange(status: string): void {
    if (status === "closing_gracefully" && !ANY_RUNNING.has(this.#status)) {
      this.log.error(`Invalid Worker.status transition: ${this.#status} -> ${status}`);
      // Told again, so that both sides agree.
      const stimulusId = `worker-status-change-${this.now()}`;
      this.sessions.current?.send({ op: "worker-status-change", status: this.#status, stimulus_id: stimulusId });
      return;
    }
    this.setStatus(status);
  }

  streamLost(session: Session, error: Error | undefined): void {
    if (session !== this.sessions.current || this.closing) return;
    this.log.info(`Connection to ${this.schedulerAddress} has been closed.`);
    if (error !== undefined) this.log.error("The scheduler stream broke", error);
    void this.close({ reason: "worker-handle-scheduler-connection-broken" });
  }

  failed(session: Session, reason: string): void {
    if (session !== this.sessions.current) return;
    this.log.error(`The worker's state is broken and it closes: ${reason}`);
    void this.close({ reason: "worker-fail-hard", exitCode: 1 });
  }

  // Ending.

  /** Worker.close_gracefully: the scheduler takes tasks and data away first. */
  async closeGracefully(reason = "worker-close-gracefully", restart?: boolean): Promise<void> {
    if (this.closing || this.#status === "closing_gracefully") return;
    this.log.info(`Closing worker gracefully: ${this.address}. Reason: ${reason}`);
    try {
      await this.callScheduler("retire_workers", {
        workers: [this.address],
        close_workers: false,
        remove: true,
        stimulus_id: `worker-close-gracefully-${this.now()}`,
      });
    } catch (error) {
      this.log.error("The scheduler could not retire this worker", error);
    }
    const again = restart ?? this.options.lifetimeRestart ?? this.settings.lifetimeRestart;
    await this.close({ reason, nanny: !again });
  }

  /** Ends the worker. A second call waits for the first. */
  close(options: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#close(options);
    return this.#closing;
  }

  async #close({
    reason = "worker-close",
    nanny = true,
    timeoutMs = CLOSE_TIMEOUT_MS,
    exitCode = 0,
  }: CloseOptions): Promise<void> {
    const session = this.sessions.current;
    const hasStarted = ANY_RUNNING.has(this.#status);
    session?.logEvent(this.address, { action: "closing-worker", reason });
    this.log.info(`Stopping worker at ${this.address}. Reason: ${reason}`);
    if (!hasStarted) this.log.info(`Closed worker has not yet started: ${this.#status}`);
    this.setStatus("closing");
    if (nanny && hasStarted) this.options.nanny?.closeGracefully(reason);
    this.#stop.abort(new Error(`the worker closes: ${reason}`));
    this.reporting.stop();
    this.#listener?.close();
    // Plugins and the client of tasks are torn down in here, and may still use stream and comms.
    await this.sessions.executor?.close(Math.min(timeoutMs, EXECUTOR_CLOSE_MS));
    await session?.close(timeoutMs);
    await this.peers.close();
    for (const comm of this.#comms) comm.abort();
    await this.#http?.close();
    try {
      await this.#scratch?.release();
    } catch (error) {
      this.log.warning(`The local directory ${this.localDirectory} cannot be removed: ${String(error)}`);
    }
    this.#status = "closed";
    this.log.info("Worker closed");
    this.#finish({ reason, exitCode });
  }
}

/** `host.python` of `distributed.versions.get_versions()`. */
function pythonVersionOf(versions: Value | undefined): string | undefined {
  const host = versions instanceof Map ? (versions as ReadonlyMap<Value, Value>).get("host") : undefined;
  const python = host instanceof Map ? (host as ReadonlyMap<Value, Value>).get("python") : undefined;
  return typeof python === "string" ? python : undefined;
}
