/** Figures of this process over time (distributed.system_monitor.SystemMonitor), for performance reports. */
import { float, type Value } from "@dask-ts/protocol";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";

export interface MonitorSample {
  /** Seconds since the epoch. */
  readonly time: number;
  /** Percent of one core. */
  readonly cpu: number;
  /** Resident bytes. */
  readonly memory: number;
  readonly tasks: number;
  readonly workers: number;
}

export class SystemMonitor implements SchedulerExtension {
  readonly name = "system-monitor";
  /** Samples ever taken. */
  count = 0;
  #samples: MonitorSample[] = [];
  #maxLength = 1;
  #context!: SchedulerContext;
  #last = { time: 0, cpu: process.cpuUsage() };

  start(context: SchedulerContext): void {
    const { config } = context;
    this.#context = context;
    this.#maxLength = Math.max(1, config.getLength("distributed.admin.system-monitor.log-length"));
    this.#last = { time: context.now(), cpu: process.cpuUsage() };
    this.sample();
    context.every(config.getMs("distributed.admin.system-monitor.interval") ?? 500, () => this.sample());
  }

  sample(): void {
    const { state } = this.#context.core;
    const time = this.#context.now();
    const cpu = process.cpuUsage();
    const micros = cpu.user + cpu.system - this.#last.cpu.user - this.#last.cpu.system;
    this.#samples.push({
      time,
      cpu: Math.round(micros / 1000 / Math.max(0.001, time - this.#last.time)) / 10,
      memory: process.memoryUsage.rss(),
      tasks: state.tasks.size,
      workers: state.workers.size,
    });
    this.#last = { time, cpu };
    this.count++;
    // Cut in blocks: a shift per sample would move the whole array each time.
    if (this.#samples.length >= 2 * this.#maxLength) this.#samples = this.#samples.slice(-this.#maxLength);
  }

  /** Samples taken after `count` was `start`, oldest first; at least the last one. */
  since(start: number): readonly MonitorSample[] {
    const wanted = Math.max(1, Math.min(this.count - start, this.#maxLength));
    return this.#samples.slice(-wanted);
  }

  /** `monitor` as functions on the scheduler see it. */
  get facts(): ReadonlyMap<Value, Value> {
    const last = this.#samples.at(-1);
    return new Map<Value, Value>([
      ["count", this.count],
      ["cpu", float(last?.cpu ?? 0)],
      ["memory", last?.memory ?? 0],
    ]);
  }
}

/** The scheduler's monitor, where it has one. */
export function monitorOf(ctx: SchedulerContext): SystemMonitor | undefined {
  return ctx.extensions.find((extension) => extension instanceof SystemMonitor);
}
