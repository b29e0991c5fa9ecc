/** `/metrics` in Prometheus text format (distributed.http.scheduler.prometheus); always there, whatever is installed. */
import {
  EventLoopMeter,
  type HttpRoute,
  METRICS_TYPE,
  MetricsText,
  metricsPrefix,
  type Sample,
  writeProcessMetrics,
  writePythonInfo,
} from "@dask-ts/protocol";
import { COST_MULTIPLIERS } from "../core/stealing/stealable.ts";
import { WorkStealing } from "../core/stealing/work-stealing.ts";
import { TASK_STATES } from "../core/task-status.ts";
import { Semaphores } from "../extensions/semaphores.ts";
import type { SchedulerContext } from "../server/context.ts";
import { adaptiveTarget } from "../server/downscaling.ts";
import { writeOwnMetrics } from "./own-metrics.ts";

export function metricsRoutes(ctx: SchedulerContext): HttpRoute[] {
  // Measuring starts now, not with the first scrape.
  EventLoopMeter.get();
  return [{ path: "metrics", handle: async () => ({ type: METRICS_TYPE, body: await metricsText(ctx) }) }];
}

async function metricsText(ctx: SchedulerContext): Promise<string> {
  const desired = await adaptiveTarget(ctx);
  const out = new MetricsText();
  const prefix = metricsPrefix(ctx.settings.prometheusNamespace, "scheduler");
  writeCluster(ctx, out, prefix, desired);
  writeTasks(ctx, out, prefix);
  writeLoop(out, prefix);
  writeSemaphores(ctx, out);
  writeStealing(ctx, out);
  writeProcessMetrics(out);
  const python = pythonVersion(ctx);
  if (python !== undefined) writePythonInfo(out, "CPython", python);
  writeOwnMetrics(ctx, out);
  return out.toString();
}

function writeCluster(ctx: SchedulerContext, out: MetricsText, prefix: string, desired: number): void {
  const { state } = ctx.core;
  out.gauge(`${prefix}clients`, "Number of clients connected", state.clients.size - 1);
  out.counter(
    `${prefix}client_connections_added`,
    "Total number of client connections that were opened",
    state.clientsAdded,
  );
  out.counter(
    `${prefix}client_connections_removed`,
    "Total number of client connections that were closed",
    state.clientsRemoved,
  );
  out.gauge(`${prefix}desired_workers`, "Number of workers that the tasks could make use of", desired);
  out.gauge(`${prefix}workers`, "Number of workers by state", workerStates(ctx));
  out.counter(`${prefix}workers_added`, "Total number of workers that joined", state.workersAdded);
  out.counter(`${prefix}workers_removed`, "Total number of workers that left", state.workersRemoved);
}

/** As SchedulerMetricCollector counts them; a worker that is neither running nor paused counts as retiring. */
function workerStates({ core: { state } }: SchedulerContext): Sample[] {
  let paused = 0;
  for (const ws of state.workers.values()) if (ws.status === "paused") paused++;
  const running = state.running.size;
  const counts = {
    idle: state.idle.size,
    partially_saturated: running - state.idle.size - state.saturated.size,
    saturated: state.saturated.size,
    paused,
    retiring: state.workers.size - paused - running,
  };
  return Object.entries(counts).map(([name, count]): Sample => [{ state: name }, count]);
}

function writeTasks({ core: { state } }: SchedulerContext, out: MetricsText, prefix: string): void {
  const counts = TASK_STATES.map(() => 0);
  const suspicious: Sample[] = [];
  const compute: Sample[] = [];
  const transfer: Sample[] = [];
  const output: Sample[] = [];
  const states: Sample[] = [];
  for (const tp of state.taskPrefixes.values()) {
    const labels = { task_prefix_name: tp.name };
    tp.states.forEach((count, code) => {
      counts[code] = (counts[code] ?? 0) + count;
    });
    suspicious.push([labels, tp.suspicious]);
    compute.push([labels, (tp.allDurationsUs.get("compute") ?? 0) / 1e6]);
    transfer.push([labels, (tp.allDurationsUs.get("transfer") ?? 0) / 1e6]);
    output.push([labels, tp.nbytesTotal]);
    TASK_STATES.forEach((name, code) => states.push([{ ...labels, state: name }, tp.stateCounts[code] ?? 0]));
  }
  out.counter(`${prefix}tasks_suspicious`, "Total number of times a task's worker died under it", suspicious);
  const forgotten = TASK_STATES.indexOf("forgotten");
  out.counter(
    `${prefix}tasks_forgotten`,
    "Total number of tasks that were done and let go of; groups of which nothing is left are not counted",
    counts[forgotten] ?? 0,
  );
  const shown = TASK_STATES.map((name, code): Sample => [{ state: name }, counts[code] ?? 0]);
  out.gauge(
    `${prefix}tasks`,
    "Number of tasks by state",
    shown.filter((_, code) => code !== forgotten),
  );
  out.gauge(`${prefix}task_groups`, "Number of task groups", state.taskGroups.size);
  out.counter(`${prefix}tasks_compute_seconds`, "Total time of computing, by prefix", compute);
  out.counter(`${prefix}tasks_transfer_seconds`, "Total time of transfers, by prefix", transfer);
  out.gauge(`${prefix}tasks_output_bytes`, "Size of the results in memory, each counted once, by prefix", output);
  out.counter(`${prefix}prefix_state_totals`, "Total number of times a task came into a state, by prefix", states);
}

function writeLoop(out: MetricsText, prefix: string): void {
  const loop = EventLoopMeter.get();
  out.counter(`${prefix}gc_collection_seconds`, "Total time of collecting garbage", loop.gcSeconds);
  out.counter(`${prefix}last_time`, "Time of the last measurement, of a clock that never goes back", monotonic());
  out.gauge(
    `${prefix}tick_duration_maximum_seconds`,
    "The longest turn of the event loop since the last scrape",
    loop.takeMaxTickS(),
  );
  out.counter(`${prefix}tick_count`, "Total number of ticks of the event loop", loop.tickCount);
}

function monotonic(): number {
  return performance.now() / 1000;
}

function writeSemaphores(ctx: SchedulerContext, out: MetricsText): void {
  const semaphores = ctx.extensions.find((extension) => extension instanceof Semaphores);
  if (semaphores === undefined) return;
  const prefix = metricsPrefix(ctx.settings.prometheusNamespace, "semaphore");
  const known = [...semaphores.values()].map(({ name, leases, maxLeases }) => ({
    labels: { name },
    leases,
    maxLeases,
    metrics: semaphores.metrics.get(name),
  }));
  const samples = (value: (one: (typeof known)[number]) => number): Sample[] =>
    known.map((one): Sample => [one.labels, value(one)]);
  out.gauge(
    `${prefix}max_leases`,
    "Leases of a semaphore at most",
    samples((one) => one.maxLeases),
  );
  out.gauge(
    `${prefix}active_leases`,
    "Leases of a semaphore in use",
    samples((one) => one.leases),
  );
  out.gauge(
    `${prefix}pending_leases`,
    "Leases of a semaphore that are waited for",
    samples((one) => one.metrics?.pending ?? 0),
  );
  out.counter(
    `${prefix}acquire`,
    "Total number of leases given",
    samples((one) => one.metrics?.acquireTotal ?? 0),
  );
  out.counter(
    `${prefix}release`,
    "Total number of leases given back; those of a closed semaphore are not",
    samples((one) => one.metrics?.releaseTotal ?? 0),
  );
  out.gauge(
    `${prefix}average_pending_lease_time_s`,
    "Moving average of the time that a lease was waited for on the scheduler",
    samples((one) => one.metrics?.averagePendingLeaseTime ?? 0),
  );
}

function writeStealing(ctx: SchedulerContext, out: MetricsText): void {
  const stealing = ctx.core.stealing instanceof WorkStealing ? ctx.core.stealing : undefined;
  const prefix = metricsPrefix(ctx.settings.prometheusNamespace, "stealing");
  const samples = (values: readonly number[] | undefined): Sample[] =>
    COST_MULTIPLIERS.map((multiplier, level): Sample => {
      // Python spells the first ones as floats: 1.0, 1.03125, …, 1.5, 2, 3.
      const label = level === 0 ? "1.0" : String(multiplier);
      return [{ cost_multiplier: label }, values?.[level] ?? 0];
    });
  out.counter(
    `${prefix}request_count`,
    "Total number of requests to steal, by cost multiplier",
    samples(stealing?.requestCount),
  );
  out.counter(
    `${prefix}request_cost`,
    "Total cost of requests to steal, by cost multiplier",
    samples(stealing?.requestCost),
  );
}

/** Of the graph host. */
function pythonVersion(ctx: SchedulerContext): string | undefined {
  const versions = ctx.versionsNow();
  const host = versions instanceof Map ? (versions.get("host") as unknown) : undefined;
  const python = host instanceof Map ? (host.get("python") as unknown) : undefined;
  return typeof python === "string" ? python : undefined;
}
