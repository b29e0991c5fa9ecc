/** `/metrics` of a worker: the families of distributed.http.worker.prometheus, in the Prometheus text format. */
import { readFileSync } from "node:fs";
import { cpuSeconds } from "./system.ts";

/** What the page is made from; read anew for each scrape. */
export interface WorkerFigures {
  /** Tasks by state; `memory` counts those on disk too. */
  readonly taskCounts: ReadonlyMap<string, number>;
  readonly nthreads: number;
  /** Seconds of a round trip to the scheduler. */
  readonly latencyS: number;
  readonly processBytes: number;
  readonly managedBytes: number;
  readonly spilledMemoryBytes: number;
  readonly spilledDiskBytes: number;
  readonly spilledCount: number;
  readonly incomingBytes: number;
  readonly incomingCount: number;
  readonly incomingCountTotal: number;
  readonly outgoingBytes: number;
  readonly outgoingCount: number;
  readonly outgoingBytesTotal: number;
  readonly outgoingCountTotal: number;
  readonly tickCount: number;
  readonly maxTickS: number;
  readonly gcSeconds: number;
  /** `[family suffix, activity] → value` of the spill buffer, empty where spilling is off. */
  readonly spill: readonly (readonly [family: "bytes" | "count" | "time", activity: string, value: number])[];
}

type Sample = readonly [labels: Readonly<Record<string, string>>, value: number];

/** The page's text. */
export function workerMetricsText(figures: WorkerFigures): string {
  const page = new MetricsPage("dask_worker");
  const tasks: Sample[] = [];
  for (const [state, count] of figures.taskCounts) {
    if (state !== "memory") tasks.push([{ state }, count]);
    else {
      const inMemory = count - figures.spilledCount;
      if (inMemory > 0) tasks.push([{ state: "memory" }, inMemory]);
      if (figures.spilledCount > 0) tasks.push([{ state: "disk" }, figures.spilledCount]);
    }
  }
  page.gauges("tasks", "Number of tasks at worker.", tasks);
  page.counter("gc_collection_seconds", "Total time spent on garbage collection", figures.gcSeconds);
  page.gauge("threads", "Number of worker threads", figures.nthreads);
  page.gauge("latency_seconds", "Latency of worker connection", figures.latencyS);

  const managed = Math.min(figures.processBytes, figures.managedBytes - figures.spilledMemoryBytes);
  page.gauges("memory_bytes", "Memory breakdown", [
    [{ type: "managed" }, managed],
    [{ type: "unmanaged" }, figures.processBytes - managed],
    [{ type: "spilled" }, figures.spilledDiskBytes],
  ]);
  const incoming = "data transfers from other workers";
  const outgoing = "data transfers to other workers";
  page.gauge("transfer_incoming_bytes", `Total size of open ${incoming}`, figures.incomingBytes);
  page.gauge("transfer_incoming_count", `Number of open ${incoming}`, figures.incomingCount);
  page.counter("transfer_incoming_count", `Total number of ${incoming} since start`, figures.incomingCountTotal);
  page.gauge("transfer_outgoing_bytes", `Total size of open ${outgoing}`, figures.outgoingBytes);
  page.gauge("transfer_outgoing_count", `Number of open ${outgoing}`, figures.outgoingCount);
  page.counter("transfer_outgoing_bytes", `Total size of ${outgoing} since start`, figures.outgoingBytesTotal);
  page.counter("transfer_outgoing_count", `Total number of ${outgoing} since start`, figures.outgoingCountTotal);

  for (const family of ["bytes", "count", "time"] as const) {
    const samples: Sample[] = figures.spill
      .filter(([name]) => name === family)
      .map(([, activity, value]) => [{ activity }, value]);
    const name = family === "time" ? "spill_time_seconds" : `spill_${family}`;
    if (samples.length > 0) page.counters(name, "Memory and disk accesses of managed data", samples);
  }
  page.gauge("tick_duration_maximum_seconds", "Maximum tick duration since the last scrape", figures.maxTickS);
  page.counter("tick_count", "Total number of ticks observed since the server started", figures.tickCount);
  return page.text() + processMetricsText();
}

class MetricsPage {
  readonly #prefix: string;
  readonly #lines: string[] = [];

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  gauge(name: string, help: string, value: number): void {
    this.gauges(name, help, [[{}, value]]);
  }

  counter(name: string, help: string, value: number): void {
    this.counters(name, help, [[{}, value]]);
  }

  gauges(name: string, help: string, samples: readonly Sample[]): void {
    this.#family(`${this.#prefix}_${name}`, "gauge", help, samples);
  }

  counters(name: string, help: string, samples: readonly Sample[]): void {
    this.#family(`${this.#prefix}_${name}_total`, "counter", help, samples);
  }

  #family(name: string, type: string, help: string, samples: readonly Sample[]): void {
    this.#lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const [labels, value] of samples) {
      const text = Object.entries(labels).map(([label, v]) => `${label}="${escapeLabel(v)}"`);
      this.#lines.push(`${name}${text.length > 0 ? `{${text.join(",")}}` : ""} ${value}`);
    }
  }

  text(): string {
    return `${this.#lines.join("\n")}\n`;
  }
}

function escapeLabel(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

/** `process_*` of this process, as the Python client library names them. */
function processMetricsText(): string {
  const page = new MetricsPage("process");
  const memory = process.memoryUsage();
  page.gauge("resident_memory_bytes", "Resident memory size in bytes.", memory.rss);
  page.gauge("start_time_seconds", "Start time of the process in seconds.", performance.timeOrigin / 1000);
  const cpu = cpuSeconds(process.pid);
  if (cpu !== undefined) page.counter("cpu_seconds", "Total user and system CPU time spent in seconds.", cpu);
  const virtual = virtualBytes();
  if (virtual !== undefined) page.gauge("virtual_memory_bytes", "Virtual memory size in bytes.", virtual);
  return page.text();
}

function virtualBytes(): number | undefined {
  try {
    const match = /^VmSize:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"));
    return match === null ? undefined : Number(match[1]) * 1024;
  } catch {
    return undefined;
  }
}
