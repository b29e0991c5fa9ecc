/** The pages of the worker's HTTP port. */
import { formatBytes, formatKey } from "@dask-ts/protocol";
import type { WorkerMachine } from "../core/worker-machine.ts";
import { eventLoopIntervalS, takeMaxTickS, tickCount } from "./event-loop.ts";
import type { WorkerServices } from "./handlers/services.ts";
import { escapeHtml, type Page } from "./http.ts";
import { type WorkerFigures, workerMetricsText } from "./prometheus.ts";

/** Rows of the task table; a page with a million of them helps nobody. */
const MAX_ROWS = 1000;

export interface PagesSource extends WorkerServices {
  readonly latencyS: number;
  /** The state machine and what the executor reports, while there is one. */
  readonly machine: WorkerMachine | undefined;
  readonly executorMetrics: ReadonlyMap<string, number>;
}

export function workerPages(worker: PagesSource, prefix: string): ReadonlyMap<string, Page> {
  const html = "text/html; charset=utf-8";
  const pages = new Map<string, Page>([
    ["/health", { contentType: "text/plain; charset=utf-8", render: () => "ok" }],
    ["/metrics", { contentType: "text/plain; version=0.0.4", render: () => workerMetricsText(figures(worker)) }],
    ["/info/main.html", { contentType: html, render: () => mainPage(worker) }],
    ["/info/logs.html", { contentType: html, render: () => logsPage(worker) }],
    ["/statics/css/base.css", { contentType: "text/css", render: () => STYLE }],
  ]);
  pages.set("/sitemap.json", {
    contentType: "application/json",
    render: () => JSON.stringify({ paths: [...pages.keys()] }),
  });
  const base = prefix.replace(/\/+$/, "");
  return new Map([...pages].map(([path, page]) => [base + path, page]));
}

const STYLE = "body{font-family:sans-serif;margin:2em}td,th{padding:.2em 1em;text-align:left}pre{white-space:pre-wrap}";

function figures(worker: PagesSource): WorkerFigures {
  const { machine, transfers, executorMetrics: metrics } = worker;
  return {
    taskCounts: machine?.taskCounts() ?? new Map<string, number>(),
    nthreads: worker.nthreads,
    latencyS: worker.latencyS,
    processBytes: worker.monitor.processMemory(),
    managedBytes: machine?.nbytes ?? 0,
    spilledMemoryBytes: metrics.get("spilled_bytes.memory") ?? 0,
    spilledDiskBytes: metrics.get("spilled_bytes.disk") ?? 0,
    spilledCount: metrics.get("spilled_count") ?? 0,
    incomingBytes: machine?.transferIncomingBytes ?? 0,
    incomingCount: machine?.transferIncomingCount ?? 0,
    incomingCountTotal: machine?.transferIncomingCountTotal ?? 0,
    outgoingBytes: transfers.outgoingBytes,
    outgoingCount: transfers.outgoingCount,
    outgoingBytesTotal: transfers.outgoingBytesTotal,
    outgoingCountTotal: transfers.outgoingCountTotal,
    tickCount: tickCount(),
    maxTickS: takeMaxTickS(),
    gcSeconds: metrics.get("gc_seconds") ?? 0,
    spill: [],
  };
}

function layout(title: string, body: string): string {
  const link = '<link rel="stylesheet" href="../statics/css/base.css">';
  return `<!DOCTYPE html><html><head><title>${escapeHtml(title)}</title>${link}</head><body>${body}</body></html>\n`;
}

function mainPage(worker: PagesSource): string {
  const { machine } = worker;
  const rows: [string, string][] = [
    ["Address", worker.address],
    ["Scheduler", worker.schedulerAddress],
    ["Status", worker.status],
    ["Threads", String(worker.nthreads)],
    ["Memory", formatBytes(worker.monitor.processMemory())],
    ["Memory limit", worker.memoryLimit === null ? "none" : formatBytes(worker.memoryLimit)],
    ["Local directory", worker.localDirectory],
    ["Event loop interval", `${(eventLoopIntervalS() * 1000).toFixed(1)} ms`],
  ];
  const facts = rows.map(([name, value]) => `<tr><th>${name}</th><td>${escapeHtml(value)}</td></tr>`).join("");
  let tasks = "";
  let shown = 0;
  for (const task of machine?.tasks.values() ?? []) {
    if (++shown > MAX_ROWS) break;
    tasks += `<tr><td>${escapeHtml(formatKey(task.key))}</td><td>${task.state}</td><td>${task.nbytes ?? ""}</td></tr>`;
  }
  const title = `Dask worker ${worker.address}`;
  const heading = `<h1>${escapeHtml(title)}</h1><p><a href="logs.html">Logs</a></p>`;
  return layout(title, `${heading}<table>${facts}</table><h2>Tasks</h2><table>${tasks}</table>`);
}

function logsPage(worker: PagesSource): string {
  const lines = worker.logs.lines().map(escapeHtml).join("\n");
  return layout(`Logs of ${worker.address}`, `<h1>Logs</h1><pre>${lines}</pre>`);
}
