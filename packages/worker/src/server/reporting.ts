/** The worker's timers: heartbeats, find-missing, keep-alive, the samples of its process, its lifetime. */
import { EventLoopMeter, type Value } from "@dask-ts/protocol";
import { ExecutorFigures } from "./executor-figures.ts";
import { collectMetrics, heartbeatFields, PeriodicCallback, readHeartbeatReply } from "./heartbeat.ts";
import { MemoryMonitor } from "./memory.ts";
import type { Session } from "./session.ts";
import { StoppedExecutorWatch } from "./stopped-executor.ts";
import { ANY_RUNNING } from "./status.ts";
import type { Worker } from "./worker.ts";

const KEEP_ALIVE_MS = 60_000;
const STOPPED_MS = 1000;
const FIND_MISSING_MS = 1000;
const FIRST_HEARTBEAT_MS = 1000;
/** setTimeout's longest. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export class Reporting {
  /** Seconds of a round trip to the scheduler, an exponential average. */
  latencyS = 0.001;
  /** From the start on, where the worker has a memory limit. */
  memory: MemoryMonitor | undefined;
  readonly #worker: Worker;
  readonly #figures: ExecutorFigures;
  readonly #timers: PeriodicCallback[] = [];
  #lifetime: NodeJS.Timeout | undefined;

  constructor(worker: Worker) {
    this.#worker = worker;
    this.#figures = new ExecutorFigures(worker.digests);
  }

  start(): void {
    const worker = this.#worker;
    const { memory, monitorIntervalMs } = worker.settings;
    const heartbeat = new PeriodicCallback(FIRST_HEARTBEAT_MS, async () => {
      const intervalS = await this.heartbeat();
      if (intervalS !== undefined) heartbeat.intervalMs = intervalS * 1000;
    });
    const findMissing = new PeriodicCallback(FIND_MISSING_MS, () => {
      worker.sessions.current?.dispatch({ kind: "find-missing", stimulusId: `find-missing-${worker.now()}` });
      // As in stock: the heartbeat's interval grows with the cluster, so this one does too.
      findMissing.intervalMs = heartbeat.intervalMs;
    });
    this.#timers.push(heartbeat, findMissing);
    this.#timers.push(new PeriodicCallback(KEEP_ALIVE_MS, () => worker.sessions.current?.send({ op: "keep-alive" })));
    this.#timers.push(new PeriodicCallback(monitorIntervalMs, () => worker.sessions.monitor?.update()));
    if (worker.memoryLimit !== null && (memory.pause !== false || memory.spill !== false)) {
      const monitored = {
        processMemory: () => worker.sessions.monitor?.processMemory() ?? 0,
        status: () => worker.status,
        setStatus: (status: string) => worker.setStatus(status),
      };
      const limits = { limit: worker.memoryLimit, pause: memory.pause };
      const monitor = new MemoryMonitor(monitored, limits, worker.log);
      this.#timers.push(new PeriodicCallback(memory.monitorIntervalMs, () => monitor.check(performance.now() / 1000)));
      this.memory = monitor;
    }
    if (worker.settings.workerTtlMs !== null) {
      const watch = new StoppedExecutorWatch(worker.settings.workerTtlMs, worker.log);
      this.#timers.push(new PeriodicCallback(STOPPED_MS, () => watch.check(worker.executorPid, performance.now())));
    }
    for (const timer of this.#timers) timer.start();
    this.#startLifetime();
  }

  stop(): void {
    for (const timer of this.#timers) timer.stop();
    clearTimeout(this.#lifetime);
  }

  #startLifetime(): void {
    const { options, settings } = this.#worker;
    const { lifetimeS = settings.lifetimeS, lifetimeStaggerS = settings.lifetimeStaggerS } = options;
    if (lifetimeS === null || lifetimeS <= 0) return;
    const seconds = lifetimeS + (Math.random() * 2 - 1) * lifetimeStaggerS;
    this.#endAt(performance.now() + seconds * 1000);
  }

  /** @param deadline by `performance.now()`. */
  #endAt(deadline: number): void {
    const left = deadline - performance.now();
    this.#lifetime = setTimeout(
      () => {
        if (left > MAX_TIMER_MS) this.#endAt(deadline);
        else void this.#worker.closeGracefully("worker-lifetime-reached");
      },
      Math.min(left, MAX_TIMER_MS),
    );
  }

  updateLatency(latencyS: number): void {
    this.latencyS = latencyS * 0.05 + this.latencyS * 0.95;
    this.#worker.digests.add(["latency"], latencyS);
  }

  /** `metrics`, and the digests with spans beside it; both start anew with it. */
  collect(session: Session): { metrics: Map<Value, Value>; spans: Map<Value, Value> } {
    const { monitor, transfers, digests } = this.#worker;
    monitor.update();
    const { machine, executor } = session;
    const collected = collectMetrics({
      machine,
      executor,
      monitor,
      transfers,
      digests,
      eventLoopIntervalS: EventLoopMeter.get().intervalS,
    });
    this.#figures.addMetrics(collected.metrics);
    return collected;
  }

  /** One heartbeat; the seconds until the next, where the scheduler said so. */
  async heartbeat(): Promise<number | undefined> {
    const worker = this.#worker;
    const session = worker.sessions.current;
    if (session?.active !== true || !ANY_RUNNING.has(worker.status)) return undefined;
    try {
      const start = worker.now();
      const { metrics, spans } = this.collect(session);
      const extensions = this.#figures.takeExtensions(spans);
      const fields = heartbeatFields(worker.address, start, session.now(), session.machine, metrics, extensions);
      this.#figures.refresh(session.executor);
      const reply = readHeartbeatReply(await worker.callScheduler("heartbeat_worker", fields), start, worker.now());
      if (!session.active) return undefined;
      this.updateLatency(worker.now() - start);
      if (reply.status === "missing") {
        worker.log.warning("Scheduler was unaware of this worker; shutting down.");
        void worker.close({ reason: "worker-heartbeat-missing" });
        return undefined;
      }
      session.schedulerDelay = reply.schedulerDelay;
      worker.transfers.clearRecent();
      return reply.intervalS;
    } catch (error) {
      // A scheduler that is gone closes the stream too, which is what ends the worker.
      if (session.active) worker.log.error("Failed to communicate with scheduler during heartbeat.", error);
      return undefined;
    }
  }
}
