/** Plain pages at the addresses of stock's Bokeh pages of a worker. */
import {
  EventLoopMeter,
  escapeHtml,
  formatBytes,
  formatKey,
  type HttpReply,
  type HttpRoute,
  htmlPage,
  htmlTable,
} from "@dask-ts/protocol";
import type { HttpSource } from "./routes.ts";

/** Rows of the task table; a page with a million of them helps nobody. */
const MAX_ROWS = 1000;
const REFRESH_S = 3;

const NAVIGATION: readonly (readonly [path: string, text: string])[] = [
  ["status", "Status"],
  ["system", "System"],
  ["info/logs.html", "Logs"],
  ["metrics", "Metrics"],
];

export function pageRoutes(worker: HttpSource): HttpRoute[] {
  const page =
    (name: string, body: () => string): (() => HttpReply) =>
    () =>
      htmlPage({
        title: `Dask worker ${worker.address}`,
        body: `${body()}\n<p class="note">In place of stock's Bokeh page /${name}.</p>`,
        depth: 0,
        navigation: NAVIGATION,
        refreshS: REFRESH_S,
      });
  const system = (): string => systemTable(worker);
  return [
    { path: "status", handle: page("status", () => system() + countsTable(worker) + tasksTable(worker)) },
    ...["system", "counters", "profile", "profile-server"].map((name) => ({ path: name, handle: page(name, system) })),
    { path: "info/main.html", handle: () => ({ status: 301, location: "status" }) },
    { path: "info/logs.html", handle: () => logsPage(worker) },
  ];
}

function systemTable(worker: HttpSource): string {
  const loop = EventLoopMeter.get();
  const { transfers, machine } = worker;
  const cpu = worker.executorMetrics.get("cpu") ?? 0;
  const rows: (readonly [string, string])[] = [
    ["Address", worker.address],
    ["Scheduler", worker.schedulerAddress],
    ["Status", worker.status],
    ["Threads", String(worker.nthreads)],
    ["CPU", `${cpu.toFixed(0)} %`],
    ["Memory", formatBytes(worker.executorBytes)],
    ["Memory limit", worker.memoryLimit === null ? "none" : formatBytes(worker.memoryLimit)],
    ["Data", formatBytes(machine?.nbytes ?? 0)],
    ["Spilled", formatBytes(worker.executorMetrics.get("spilled_bytes.disk") ?? 0)],
    ["Transfers in", `${machine?.transferIncomingCount ?? 0} of ${formatBytes(machine?.transferIncomingBytes ?? 0)}`],
    ["Transfers out", `${transfers.outgoingCount} of ${formatBytes(transfers.outgoingBytes)}`],
    ["Latency to the scheduler", `${(worker.latencyS * 1000).toFixed(1)} ms`],
    ["Event loop interval", `${(loop.intervalS * 1000).toFixed(1)} ms`],
    ["Local directory", worker.localDirectory],
  ];
  const cells = rows.map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`);
  return `<h2>System</h2><table><tbody>${cells.join("")}</tbody></table>`;
}

function countsTable({ machine }: HttpSource): string {
  const rows = [...(machine?.taskCounts() ?? [])].map(([state, count]) => [escapeHtml(state), String(count)]);
  return `<h2>Tasks by state</h2>${htmlTable(["State", "Tasks"], rows)}`;
}

function tasksTable({ machine }: HttpSource): string {
  const rows: string[][] = [];
  for (const task of machine?.tasks.values() ?? []) {
    if (rows.length === MAX_ROWS) break;
    rows.push([
      escapeHtml(formatKey(task.key)),
      escapeHtml(task.state),
      typeof task.nbytes === "number" ? formatBytes(task.nbytes) : "",
    ]);
  }
  const more = (machine?.tasks.size ?? 0) - rows.length;
  return `<h2>Tasks</h2>${htmlTable(["Task", "State", "Size"], rows)}${more > 0 ? `<p>and ${more} more</p>` : ""}`;
}

function logsPage(worker: HttpSource): HttpReply {
  return htmlPage({
    title: `Logs of ${worker.address}`,
    body: `<pre>${escapeHtml(worker.logs.lines().reverse().join("\n"))}</pre>`,
    depth: 1,
    navigation: NAVIGATION,
  });
}
