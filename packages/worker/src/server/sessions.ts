/**
 * One session after the other: an executor is started, the worker registers, and when the executor dies, under a nanny,
 * the same follows again from the same address. The scheduler sees a worker that went away unexpectedly (so that the
 * tasks which ran there become suspicious) and one that came.
 */
import { connect, levelName, type Value } from "@dask-ts/protocol";
import { WorkerMachine } from "../core/worker-machine.ts";
import type { Executor, ExecutorEvents } from "../executor/executor.ts";
import { answerExecutor } from "./executor-requests.ts";
import { abortTransfers } from "./handlers/data.ts";
import { addPlugin } from "./handlers/python.ts";
import { plainLogText } from "./log-text.ts";
import { SystemMonitor } from "./monitor.ts";
import { delay, type Identity, register, type Registered } from "./registration.ts";
import { RestartPace } from "./restart-pace.ts";
import { Session } from "./session.ts";
import type { Worker } from "./worker.ts";

const REGISTER_RETRY_MS = 100;
/** A scheduler that dropped our registration (it still knows the address) says nothing: try again after this. */
const REGISTER_REPLY_MS = 30_000;
/** How long a restarted executor waits for the scheduler to forget the dead one. */
const FORGET_TIMEOUT_S = 30;
const FORGET_POLL_MS = 20;
/** Variables that stock's nanny sets beside the configured ones; one seed lets `hash()` of a str agree everywhere. */
const PYTHON_HASH_SEED = "6640";

/** The executor ended while somebody waited for it. */
class ExecutorLostError extends Error {
  readonly code = "DASK_EXECUTOR_LOST";
  override readonly name = "ExecutorLostError";
}

/** The child died; `PythonChildError` where it did so while it was being set up. */
function isExecutorLoss(error: unknown): boolean {
  return error instanceof ExecutorLostError || (error instanceof Error && error.name === "PythonChildError");
}

export class Sessions {
  readonly #worker: Worker;
  readonly #pace = new RestartPace();
  #current: Session | undefined;
  #executor: Executor | undefined;
  #monitor: SystemMonitor | undefined;
  /** Aborted when the executor of a session that is being opened is lost. */
  #opening: AbortController | undefined;

  constructor(worker: Worker) {
    this.#worker = worker;
  }

  /** The session that is registered, if there is one; it may have ended. */
  get current(): Session | undefined {
    return this.#current;
  }
  get executor(): Executor | undefined {
    return this.#executor;
  }
  /** The figures of the last executor's process. */
  get monitor(): SystemMonitor | undefined {
    return this.#monitor;
  }

  /**
   * Opens a session; with a nanny, again and again while executors die before they are registered.
   *
   * @throws {RegistrationError} where the scheduler refuses.
   */
  async open(): Promise<void> {
    const worker = this.#worker;
    for (;;) {
      try {
        await this.#openOnce();
        return;
      } catch (error) {
        worker.stopSignal.throwIfAborted();
        if (!isExecutorLoss(error) || !worker.options.nanny) throw error;
        worker.log.error("The executor ended before the worker was registered", error);
        await this.#pause();
        await this.#waitUntilForgotten();
      }
    }
  }

  async #openOnce(): Promise<void> {
    const worker = this.#worker;
    const opening = new AbortController();
    this.#opening = opening;
    const executor = await this.#startExecutor();
    if (worker.stopSignal.aborted) {
      void executor.close(0);
      worker.stopSignal.throwIfAborted();
    }
    this.#executor = executor;
    this.#monitor = new SystemMonitor(executor.pid, worker.settings.monitorLogLength);
    const session = new Session(worker, this.#newMachine(), executor, worker.settings.lowLevelLogLength);
    const registered = await register({
      scheduler: worker.schedulerAddress,
      connect: () => connect(worker.schedulerAddress, { ...worker.connectSettings, signal: worker.stopSignal }),
      identity: () => this.#identity(executor, worker.reporting.collect(session).metrics),
      log: worker.log,
      signal: AbortSignal.any([worker.stopSignal, opening.signal]),
      replyTimeoutMs: REGISTER_REPLY_MS,
      retryDelayMs: REGISTER_RETRY_MS,
      now: () => worker.now(),
    });
    this.#opening = undefined;
    await this.#begin(session, registered);
  }

  #newMachine(): WorkerMachine {
    const { settings, memoryLimit, address, nthreads, resources } = this.#worker;
    const { transfer } = settings.memory;
    return new WorkerMachine({
      address,
      nthreads,
      resources,
      totalOutConnections: settings.connectionsOutgoing,
      transferMessageBytesLimit: settings.transferMessageBytes,
      transferIncomingBytesLimit:
        memoryLimit === null || transfer === false ? Number.POSITIVE_INFINITY : Math.floor(memoryLimit * transfer),
      defaultDataSize: settings.defaultDataSize,
      logLength: settings.lowLevelLogLength,
      validate: settings.validate,
      seed: Math.floor(Math.random() * 2 ** 31),
    });
  }

  async #begin(session: Session, registered: Registered): Promise<void> {
    const worker = this.#worker;
    this.#current = session;
    worker.reporting.updateLatency(registered.latencyS);
    session.start(registered.comm, registered.schedulerDelay);
    worker.setStatus("running");
    worker.plugins.clear();
    const plugins = [...registered.plugins];
    try {
      await Promise.all(plugins.map(([name, plugin]) => addPlugin(worker, { name, plugin })));
    } catch (error) {
      // The executor died over a plugin; its end is reported by itself.
      worker.log.error("Worker plugins could not be set up", error);
    }
    worker.log.info(`        Registered to: ${worker.schedulerAddress.padStart(26)}`);
    worker.log.info("-".repeat(49));
    session.listen();
  }

  #startExecutor(): Promise<Executor> {
    const worker = this.#worker;
    const { nanny = null, preload = [], preloadArgv = [], security = null, environment } = worker.options;
    const underNanny = {
      PYTHONHASHSEED: process.env["PYTHONHASHSEED"] || PYTHON_HASH_SEED,
      ...worker.settings.nannyEnvironment,
    };
    const spec = {
      address: worker.address,
      schedulerAddress: worker.schedulerAddress,
      name: worker.name,
      nthreads: worker.nthreads,
      resources: worker.resources,
      localDirectory: worker.localDirectory,
      memoryLimit: worker.memoryLimit,
      nanny: nanny?.address ?? null,
      environment: { ...(nanny === null ? {} : underNanny), ...environment },
      preload,
      preloadArgv,
      security,
    };
    return worker.options.startExecutor(spec, this.#executorEvents());
  }

  #executorEvents(): ExecutorEvents {
    const worker = this.#worker;
    // Only one executor lives at a time, and its last event is its exit: they all belong to the current session.
    return {
      outcome: (outcome) => this.#current?.onOutcome(outcome),
      seceded: (key, computeDuration) => {
        this.#current?.dispatch({ kind: "secede", key, computeDuration, stimulusId: `secede-${worker.now()}` });
      },
      logEvent: (topic, message) => this.#current?.logEvent(topic, message),
      request: (op, fields) => answerExecutor(worker, op, fields),
      log: (level, logger, text) => worker.log.write(levelName(level), plainLogText(text), logger),
      exit: (code, signal) => this.#onExecutorExit(code, signal),
    };
  }

  #identity(executor: Executor, metrics: Value): Identity {
    const worker = this.#worker;
    const services = new Map<string, number>();
    if (worker.dashboardPort !== undefined) services.set("dashboard", worker.dashboardPort);
    return {
      address: worker.address,
      status: worker.status,
      nthreads: worker.nthreads,
      name: worker.name,
      resources: worker.resources,
      memoryLimit: worker.memoryLimit,
      localDirectory: worker.localDirectory,
      services,
      nanny: worker.options.nanny?.address ?? null,
      pid: executor.pid,
      versions: executor.versions,
      metrics,
      extra: executor.startupInformation ?? new Map(),
      serverId: worker.id,
    };
  }

  #onExecutorExit(code: number | null, signal: string | null): void {
    const worker = this.#worker;
    const pid = this.#executor?.pid;
    this.#executor = undefined;
    if (worker.closing) return;
    const nanny = worker.log.named("distributed.nanny");
    const how = signal === null ? `exited with status ${code}` : `was killed by signal ${signal}`;
    nanny.info(`Worker process ${pid ?? ""} ${how}`);
    const session = this.#current;
    this.#current = undefined;
    // Peers wait for values that are gone: for them this is a lost worker.
    abortTransfers(worker.openTransfers);
    if (session === undefined) {
      this.#opening?.abort(new ExecutorLostError(`the executor ${how}`));
      return;
    }
    session.abort();
    if (!worker.options.nanny) {
      worker.log.error("The executor is gone, and with it the tasks and results of this worker");
      void worker.close({ reason: "worker-executor-lost", exitCode: 1 });
      return;
    }
    nanny.warning(`Restarting worker (status=${worker.status})`);
    worker.awaitSession();
    void this.#reopen();
  }

  async #reopen(): Promise<void> {
    const worker = this.#worker;
    try {
      await this.#pause();
      await this.#waitUntilForgotten();
      await worker.clearScratch();
      await this.open();
    } catch (error) {
      if (worker.closing) return;
      worker.log.error("Failed to restart worker after its process exited", error);
      void worker.close({ reason: "worker-restart-failed", exitCode: 1 });
    }
  }

  /** The scheduler refuses an address and a name that it still knows; the broken stream takes a moment to arrive. */
  async #waitUntilForgotten(): Promise<void> {
    const worker = this.#worker;
    const deadline = worker.now() + FORGET_TIMEOUT_S;
    while (worker.now() < deadline) {
      try {
        const known = await worker.callScheduler("ncores", { workers: [worker.address] });
        const count = known instanceof Map ? known.size : Object.keys(known ?? {}).length;
        if (count === 0) return;
      } catch {
        // Nobody there: registering waits for the scheduler anyway.
        return;
      }
      await delay(FORGET_POLL_MS, worker.stopSignal);
    }
  }

  async #pause(): Promise<void> {
    const worker = this.#worker;
    const seconds = this.#pace.died(worker.now());
    if (seconds > 0) worker.log.warning(`The executor keeps dying; the next one starts in ${seconds} s`);
    await delay(seconds * 1000, worker.stopSignal);
  }
}
