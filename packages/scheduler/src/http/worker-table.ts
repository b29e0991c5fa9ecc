/** The table of workers on several pages (worker-table.html of stock). */
import { asNumber, escapeHtml, formatBytes, htmlTable, link, type Value } from "@dask-ts/protocol";
import { occupancyOf } from "../core/occupancy.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "../server/context.ts";
import { formatSeconds, workerLink } from "./page.ts";
import { pythonStr } from "./python-str.ts";

/** Rows of a table; a page of thousands of workers helps nobody. */
const MAX_ROWS = 1000;

const COLUMNS: readonly string[] = [
  "Worker",
  "Name",
  "Status",
  "Cores",
  "CPU",
  "Memory",
  "Memory limit",
  "Data",
  "Spilled",
  "Occupancy",
  "Processing",
  "In memory",
  "Transfers in, out",
  "Services",
  "Logs",
  "Last seen",
];

/** @param up from the page to the prefix */
export function workerTable(ctx: SchedulerContext, workers: readonly WorkerState[], up: string): string {
  const rows = workers.slice(0, MAX_ROWS).map((ws) => workerRow(ctx, ws, up));
  const more = workers.length > MAX_ROWS ? `<p>and ${workers.length - MAX_ROWS} more</p>` : "";
  return htmlTable(COLUMNS, rows) + more;
}

function workerRow(ctx: SchedulerContext, ws: WorkerState, up: string): string[] {
  const memory = metric(ws, "memory");
  const port = ws.services.get("dashboard");
  const isPort = typeof port === "number";
  return [
    workerLink(ws.address, up),
    escapeHtml(pythonStr(ws.name)),
    escapeHtml(ws.status),
    String(ws.nthreads),
    `${metric(ws, "cpu").toFixed(0)} %`,
    `${bar(memory, ws.memoryLimit)} ${formatBytes(memory)}`,
    ws.memoryLimit > 0 ? formatBytes(ws.memoryLimit) : "",
    formatBytes(ws.nbytes),
    formatBytes(metric(ws, "spilled_bytes", "disk")),
    formatSeconds(occupancyOf(ctx.core.state, ws)),
    String(ws.processing.size),
    String(ws.hasWhat.size),
    `${formatBytes(metric(ws, "transfer", "incoming_bytes"))}, ${formatBytes(metric(ws, "transfer", "outgoing_bytes"))}`,
    isPort ? link(`${up}proxy/${port}/${encodeURIComponent(ws.host)}/status`, `dashboard :${port}`) : "",
    link(`${up}info/logs/${encodeURIComponent(ws.address)}.html`, "logs"),
    formatSeconds(Math.max(0, ctx.now() - ws.lastSeen)),
  ];
}

function bar(value: number, max: number): string {
  return max > 0 ? `<progress value="${Math.min(value, max)}" max="${max}"></progress>` : "";
}

/** A number of the worker's last heartbeat; 0 where it said none. */
export function metric(ws: WorkerState, ...path: readonly string[]): number {
  let value: Value | undefined = ws.metrics;
  for (const name of path) value = value instanceof Map ? (value as ReadonlyMap<Value, Value>).get(name) : undefined;
  return asNumber(value, 0);
}
