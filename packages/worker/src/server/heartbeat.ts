/** What the worker tells the scheduler of itself, again and again (Worker.get_metrics, Worker.heartbeat). */
import { asNumber, float, isMessage, type Message, type Value } from "@dask-ts/protocol";
import type { WorkerMachine } from "../core/worker-machine.ts";
import type { Executor } from "../executor/executor.ts";
import type { Digests } from "./digests.ts";
import type { SystemMonitor } from "./monitor.ts";
import type { TransferMetrics } from "./transfer-metrics.ts";

/** Where the figures come from. */
export interface MetricsSources {
  readonly machine: WorkerMachine;
  readonly executor: Executor;
  readonly monitor: SystemMonitor;
  readonly transfers: TransferMetrics;
  readonly digests: Digests;
  /** Seconds between two turns of the event loop, as observed. */
  readonly eventLoopIntervalS: number;
}

/**
 * The `metrics` map of `register-worker` and `heartbeat_worker`, and the digests with spans that go beside it. Taking
 * them starts the digests anew.
 */
export function collectMetrics(sources: MetricsSources): { metrics: Map<Value, Value>; spans: Map<Value, Value> } {
  const { machine, executor, monitor, transfers, digests } = sources;
  const { totals, spans } = digests.take();
  const metrics = new Map<Value, Value>([
    ["task_counts", new Map<Value, Value>(machine.taskCounts())],
    ["bandwidth", transfers.bandwidth()],
    ["digests_total_since_heartbeat", totals],
    ["managed_bytes", machine.nbytes],
    [
      "spilled_bytes",
      new Map<Value, Value>([
        ["memory", Math.round(executor.metrics.get("spilled_bytes.memory") ?? 0)],
        ["disk", Math.round(executor.metrics.get("spilled_bytes.disk") ?? 0)],
      ]),
    ],
    [
      "transfer",
      new Map<Value, Value>([
        ["incoming_bytes", machine.transferIncomingBytes],
        ["incoming_count", machine.transferIncomingCount],
        ["incoming_count_total", machine.transferIncomingCountTotal],
        ["outgoing_bytes", transfers.outgoingBytes],
        ["outgoing_count", transfers.outgoingCount],
        ["outgoing_count_total", transfers.outgoingCountTotal],
      ]),
    ],
    ["event_loop_interval", float(sources.eventLoopIntervalS)],
    ...monitor.metrics(),
  ]);
  return { metrics, spans };
}

/** The fields of `heartbeat_worker`. */
export function heartbeatFields(
  address: string,
  now: number,
  schedulerNow: number,
  machine: WorkerMachine,
  metrics: Value,
  extensions: Value,
): Message {
  const executing = new Map<Value, Value>();
  for (const [key, seconds] of machine.executing(schedulerNow)) executing.set(key, float(seconds));
  return {
    address,
    now: float(now),
    metrics,
    executing,
    extensions,
  };
}

/** The scheduler's answer. */
export type HeartbeatReply =
  | { readonly status: "missing" }
  | { readonly status: "OK"; readonly schedulerDelay: number; readonly intervalS: number };

/**
 * @param start when the heartbeat was sent, @param end when its answer came: this host's clock in seconds.
 * @throws {TypeError} where it is no answer to a heartbeat.
 */
export function readHeartbeatReply(reply: Value, start: number, end: number): HeartbeatReply {
  if (!isMessage(reply)) throw new TypeError("the scheduler answered a heartbeat with no map");
  if (reply["status"] === "missing") return { status: "missing" };
  const middle = (start + end) / 2;
  return {
    status: "OK",
    schedulerDelay: asNumber(reply["time"], middle) - middle,
    intervalS: Math.max(0.1, asNumber(reply["heartbeat-interval"], 1)),
  };
}

/** A timer whose period may change and whose callback never overlaps itself (tornado's PeriodicCallback). */
export class PeriodicCallback {
  intervalMs: number;
  readonly #callback: () => void | Promise<void>;
  #timer: NodeJS.Timeout | undefined;
  #running = false;

  constructor(intervalMs: number, callback: () => void | Promise<void>) {
    this.intervalMs = intervalMs;
    this.#callback = callback;
  }

  start(): void {
    if (this.#running) return;
    this.#running = true;
    this.#schedule();
  }

  stop(): void {
    this.#running = false;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    this.#timer = setTimeout(() => void this.#run(), this.intervalMs);
  }

  async #run(): Promise<void> {
    try {
      await this.#callback();
    } finally {
      if (this.#running) this.#schedule();
    }
  }
}
