/** `/metrics` of a worker, in the Prometheus text format (distributed.http.worker.prometheus). */
import {
  EventLoopMeter,
  MetricsText,
  metricsPrefix,
  type Sample,
  writeProcessMetrics,
  writePythonInfo,
} from "@dask-ts/protocol";
import type { HttpSource } from "./routes.ts";

/** @param namespace `dashboard.prometheus.namespace` */
export function workerMetricsText(worker: HttpSource, namespace: string): string {
  const out = new MetricsText();
  const prefix = metricsPrefix(namespace, "worker");
  const figures = worker.executorMetrics;
  const figure = (name: string): number => figures.get(name) ?? 0;
  out.gauge(`${prefix}tasks`, "Number of tasks at the worker, by state", taskSamples(worker, figure("spilled_count")));
  out.gauge(`${prefix}threads`, "Number of threads for tasks", worker.nthreads);
  out.gauge(`${prefix}latency_seconds`, "Time of a round trip to the scheduler", worker.latencyS);
  out.gauge(`${prefix}memory_bytes`, "Memory by kind", memorySamples(worker, figure));
  writeTransfers(worker, out, prefix);
  writeSpill(figures, out, prefix);
  writeLoop(out, prefix, figure("gc.seconds"));
  writeProcessMetrics(out);
  writePython(worker, out);
  return out.toString();
}

/** Those in memory and those on disk are one state to the state machine. */
function taskSamples(worker: HttpSource, spilled: number): Sample[] {
  const samples: Sample[] = [];
  for (const [state, count] of worker.machine?.taskCounts() ?? []) {
    if (state !== "memory") samples.push([{ state }, count]);
    else {
      if (count > spilled) samples.push([{ state }, count - spilled]);
      if (spilled > 0) samples.push([{ state: "disk" }, spilled]);
    }
  }
  return samples;
}

function memorySamples({ machine, executorBytes }: HttpSource, figure: (name: string) => number): Sample[] {
  const managed = Math.max(0, Math.min(executorBytes, (machine?.nbytes ?? 0) - figure("spilled_bytes.memory")));
  return [
    [{ type: "managed" }, managed],
    [{ type: "unmanaged" }, executorBytes - managed],
    [{ type: "spilled" }, figure("spilled_bytes.disk")],
  ];
}

function writeTransfers({ machine, transfers }: HttpSource, out: MetricsText, prefix: string): void {
  const gauge = (name: string, help: string, value: number): void =>
    out.gauge(`${prefix}transfer_${name}`, help, value);
  const counter = (name: string, help: string, value: number): void =>
    out.counter(`${prefix}transfer_${name}`, help, value);
  const incoming = "transfers of data from other workers";
  const outgoing = "transfers of data to other workers";
  gauge("incoming_bytes", `Size of the open ${incoming}`, machine?.transferIncomingBytes ?? 0);
  gauge("incoming_count", `Number of open ${incoming}`, machine?.transferIncomingCount ?? 0);
  counter("incoming_count_total", `Total number of ${incoming}`, machine?.transferIncomingCountTotal ?? 0);
  gauge("outgoing_bytes", `Size of the open ${outgoing}`, transfers.outgoingBytes);
  gauge("outgoing_count", `Number of open ${outgoing}`, transfers.outgoingCount);
  counter("outgoing_bytes_total", `Total size of ${outgoing}, failed ones included`, transfers.outgoingBytesTotal);
  counter("outgoing_count_total", `Total number of ${outgoing}`, transfers.outgoingCountTotal);
}

/** Figures `spill.<unit>.<activity>` of the executor, which sends none where spilling is off. */
function writeSpill(figures: ReadonlyMap<string, number>, out: MetricsText, prefix: string): void {
  if (!figures.has("spill.enabled")) return;
  const samples = (unit: string): Sample[] =>
    [...figures].flatMap(([name, value]): Sample[] => {
      const start = `spill.${unit}.`;
      return name.startsWith(start) ? [[{ activity: name.slice(start.length) }, value]] : [];
    });
  const what = "of memory and disk accesses for managed data";
  out.counter(`${prefix}spill_bytes`, `Total size ${what}`, samples("bytes"));
  out.counter(`${prefix}spill_count`, `Total number ${what}`, samples("count"));
  out.counter(`${prefix}spill_time_seconds`, "Total time of spilling and of reading back", samples("seconds"));
}

function writeLoop(out: MetricsText, prefix: string, gcSeconds: number): void {
  const loop = EventLoopMeter.get();
  out.counter(`${prefix}gc_collection_seconds`, "Total time of collecting garbage, in Python", gcSeconds);
  out.gauge(
    `${prefix}tick_duration_maximum_seconds`,
    "The longest turn of the event loop since the last scrape",
    loop.takeMaxTickS(),
  );
  out.counter(`${prefix}tick_count`, "Total number of ticks of the event loop", loop.tickCount);
  out.histogram("dask_ts_event_loop_lag_seconds", "How much later than due the event loop came round", [{}, loop.lag]);
}

const GC_COUNTERS: readonly (readonly [figure: string, family: string, help: string])[] = [
  ["collected", "python_gc_objects_collected", "Objects collected during gc"],
  ["uncollectable", "python_gc_objects_uncollectable", "Uncollectable objects found during GC"],
  ["collections", "python_gc_collections", "Number of times this generation was collected"],
];

/** Of the executor, as the Python client library names them (prometheus_client.gc_collector, platform_collector). */
function writePython({ executorMetrics: figures, pythonVersion }: HttpSource, out: MetricsText): void {
  for (const [figure, family, help] of GC_COUNTERS) {
    const samples = ["0", "1", "2"].flatMap((generation): Sample[] => {
      const value = figures.get(`gc.${figure}.${generation}`);
      return value === undefined ? [] : [[{ generation }, value]];
    });
    if (samples.length > 0) out.counter(family, help, samples);
  }
  if (pythonVersion !== undefined) writePythonInfo(out, "CPython", pythonVersion);
}
