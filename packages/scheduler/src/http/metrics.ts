/** `/metrics` in Prometheus text format (distributed.http.scheduler.prometheus). */
import { monitorEventLoopDelay, PerformanceObserver } from "node:perf_hooks";
import { adaptiveTarget } from "../core/adaptive.ts";
import { TASK_STATES } from "../core/task-status.ts";
import type { SchedulerContext } from "../server/context.ts";
import type { Route } from "./server.ts";

type Labels = Readonly<Record<string, string>>;
type Sample = readonly [labels: Labels, value: number];

export function metricsRoutes(ctx: SchedulerContext): Route[] {
  const loop = monitorEventLoopDelay({ resolution: 20 });
  loop.enable();
  let gcSeconds = 0;
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) gcSeconds += entry.duration / 1000;
  });
  observer.observe({ entryTypes: ["gc"] });
  return [
    {
      path: /^metrics$/,
      handle: () => {
        const delay = loop.max / 1e9;
        loop.reset();
        const text = new MetricsText(`${ctx.settings.prometheusNamespace}_scheduler`);
        writeMetrics(ctx, text, { gcSeconds, delay });
        return { type: "text/plain; version=0.0.4; charset=utf-8", body: text.toString() };
      },
    },
  ];
}

class MetricsText {
  readonly #prefix: string;
  readonly #lines: string[] = [];

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  gauge(name: string, help: string, ...samples: readonly Sample[]): void {
    this.#family("gauge", name, name, help, samples);
  }

  /** `_total` is added, as the Prometheus client does. */
  counter(name: string, help: string, ...samples: readonly Sample[]): void {
    this.#family("counter", `${name}_total`, `${name}_total`, help, samples);
  }

  /** A family outside the scheduler's own names. */
  process(type: "gauge" | "counter", name: string, help: string, value: number): void {
    this.#lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, `${name} ${value}`);
  }

  #family(type: string, family: string, name: string, help: string, samples: readonly Sample[]): void {
    this.#lines.push(`# HELP ${this.#prefix}_${family} ${help}`, `# TYPE ${this.#prefix}_${family} ${type}`);
    for (const [labels, value] of samples) {
      const parts = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
      this.#lines.push(`${this.#prefix}_${name}${parts.length === 0 ? "" : `{${parts.join(",")}}`} ${format(value)}`);
    }
  }

  toString(): string {
    return `${this.#lines.join("\n")}\n`;
  }
}

function escapeLabel(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

function format(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}

function writeMetrics(ctx: SchedulerContext, out: MetricsText, process_: { gcSeconds: number; delay: number }): void {
  const { state } = ctx.core;
  const one = (value: number): Sample => [{}, value];
  out.gauge("clients", "Number of clients connected", one(state.clients.size - 1));
  out.counter("client_connections_added", "Total number of client connections", one(state.clientsAdded));
  out.counter("client_connections_removed", "Total number of client connections removed", one(state.clientsRemoved));
  out.gauge(
    "desired_workers",
    "Number of workers scheduler needs for task graph",
    one(adaptiveTarget(state, ctx.settings.targetDuration)),
  );
  out.gauge("workers", "Number of workers known by scheduler", ...workerStates(ctx));
  out.counter("workers_added", "Total number of workers added", one(state.workersAdded));
  out.counter("workers_removed", "Total number of workers removed", one(state.workersRemoved));
  out.counter("gc_collection_seconds", "Total time spent on garbage collection", one(process_.gcSeconds));
  out.counter("last_time", "SystemMonitor last time", one(ctx.now()));
  writeTasks(ctx, out);
  out.gauge(
    "tick_duration_maximum_seconds",
    "Maximum tick duration observed since Prometheus last scraped metrics",
    one(process_.delay),
  );
  out.counter(
    "tick_count",
    "Total number of ticks observed since the server started",
    one(Math.floor(performance.now() / 20)),
  );
  const memory = process.memoryUsage.rss();
  const cpu = process.cpuUsage();
  out.process("gauge", "process_resident_memory_bytes", "Resident memory size in bytes.", memory);
  out.process(
    "gauge",
    "process_start_time_seconds",
    "Start time of the process since unix epoch in seconds.",
    performance.timeOrigin / 1000,
  );
  out.process(
    "counter",
    "process_cpu_seconds_total",
    "Total user and system CPU time spent in seconds.",
    (cpu.user + cpu.system) / 1e6,
  );
}

function workerStates(ctx: SchedulerContext): Sample[] {
  const { state } = ctx.core;
  const counts = { idle: 0, partially_saturated: 0, saturated: 0, paused: 0, retiring: 0 };
  for (const ws of state.workers.values()) {
    if (ws.status === "paused") counts.paused++;
    else if (ws.status === "closing_gracefully") counts.retiring++;
    else if (state.idle.has(ws)) counts.idle++;
    else if (state.saturated.has(ws)) counts.saturated++;
    else if (ws.status === "running") counts.partially_saturated++;
  }
  return Object.entries(counts).map(([name, count]): Sample => [{ state: name }, count]);
}

function writeTasks(ctx: SchedulerContext, out: MetricsText): void {
  const { state } = ctx.core;
  const counts = TASK_STATES.map(() => 0);
  const [suspicious, compute, transfer, output, states]: Sample[][] = [[], [], [], [], []];
  let forgotten = 0;
  for (const prefix of state.taskPrefixes.values()) {
    const labels = { task_prefix_name: prefix.name };
    prefix.states.forEach((count, code) => {
      counts[code] = (counts[code] ?? 0) + count;
    });
    suspicious?.push([labels, prefix.suspicious]);
    compute?.push([labels, (prefix.allDurationsUs.get("compute") ?? 0) / 1e6]);
    transfer?.push([labels, (prefix.allDurationsUs.get("transfer") ?? 0) / 1e6]);
    output?.push([labels, prefix.nbytesTotal]);
    prefix.stateCounts.forEach((count, code) => {
      const name = TASK_STATES[code];
      if (name === "forgotten") forgotten += count;
      if (name !== undefined) states?.push([{ ...labels, state: name }, count]);
    });
  }
  const shown = TASK_STATES.map((name, code): Sample => [{ state: name }, counts[code] ?? 0]).filter(
    ([labels]) => labels["state"] !== "forgotten",
  );
  out.gauge("tasks", "Number of tasks known by scheduler", ...shown);
  out.counter("tasks_forgotten", "Total number of processed tasks no longer in memory", [{}, forgotten]);
  out.gauge("task_groups", "Number of task groups known by scheduler", [{}, state.taskGroups.size]);
  out.counter("tasks_suspicious", "Total number of times a task has been marked suspicious", ...(suspicious ?? []));
  out.counter("tasks_compute_seconds", "Total amount of compute time spent in each prefix", ...(compute ?? []));
  out.counter("tasks_transfer_seconds", "Total amount of transfer time spent in each prefix", ...(transfer ?? []));
  out.gauge("tasks_output_bytes", "Current size of in memory tasks, broken down by task prefix", ...(output ?? []));
  out.counter("prefix_state_totals", "Accumulated count of task prefix in each state", ...(states ?? []));
}
