/**
 * Scheduler.performance_report: one HTML file that tells what the cluster did. Stock draws it with bokeh; here it is
 * tables and data with a small script of its own, and loads nothing from elsewhere.
 */
import { asNumber, formatBytes, type Message, type Value } from "@dask-ts/protocol";
import { monitorOf } from "../extensions/system-monitor.ts";
import type { SchedulerContext } from "./context.ts";
import { optionalNumber, optionalString } from "./fields.ts";
import { collectProfile } from "./profile.ts";
import { dataElement, reportPage, reportTable, escapeText, type Tab } from "./performance-report-page.ts";
import { profileNode, taskRectangles } from "./performance-report-data.ts";
import { taskStream } from "./task-stream.ts";
import { seconds } from "./performance-report-text.ts";

/** A worker that is too busy to answer must not hold up the report. */
const PROFILE_MS = 30_000;

/** @returns the document. `mode` (where bokeh's scripts come from) has no meaning here. */
export async function performanceReport(ctx: SchedulerContext, fields: Message): Promise<string> {
  const start = asNumber(fields["start"], 0);
  const stop = ctx.now();
  const [compute, administrative] = await Promise.all([
    collectProfile(ctx, { start, timeoutMs: PROFILE_MS }),
    collectProfile(ctx, { start, server: true, timeoutMs: PROFILE_MS }),
  ]);
  const records = taskStream(ctx).collect({ start });
  const tabs: Tab[] = [
    { title: "Summary", body: summary(ctx, stop - start, records, optionalString(fields, "code") ?? "") },
    {
      title: "Task Stream",
      body: `${dataElement("task-stream", taskRectangles(records))}<div class="plot" data-plot="tasks"></div>`,
    },
    { title: "System", body: system(ctx, optionalNumber(fields, "last_count") ?? 0) },
    { title: "Scheduler Logs", body: `<pre>${escapeText(logLines(ctx, start))}</pre>` },
    { title: "Worker Profile (compute)", body: profile("compute", compute) },
    { title: "Worker Profile (administrative)", body: profile("administrative", administrative) },
    { title: "Bandwidth (Workers)", body: bandwidthWorkers(ctx) },
    { title: "Bandwidth (Types)", body: bandwidthTypes(ctx) },
  ];
  return reportPage("Dask Performance Report", tabs);
}

function summary(ctx: SchedulerContext, duration: number, records: readonly Value[], code: string): string {
  const { state } = ctx.core;
  const items = (lines: readonly string[]): string =>
    `<ul>${lines.map((line) => `<li> ${escapeText(line)} </li>`).join("\n")}</ul>`;
  let memory = 0;
  for (const ws of state.workers.values()) memory += ws.memoryLimit;
  const spent = [...timeSpent(records)].sort(([a], [b]) => (a < b ? -1 : 1));
  return `
<h1> Dask Performance Report </h1>
<i> Select different tabs on the top for additional information </i>
<h2> Duration: ${seconds(duration)} </h2>
<h2> Tasks Information </h2>
${items([`number of tasks: ${records.length}`, ...spent.map(([action, time]) => `${action} time: ${seconds(time)}`)])}
<h2> Scheduler Information </h2>
${items([
  `Address: ${ctx.address}`,
  `Workers: ${state.workers.size}`,
  `Threads: ${state.totalNthreads}`,
  `Memory: ${formatBytes(memory)}`,
  ...packageVersions(ctx).map(([name, version]) => `${name} Version: ${version}`),
])}
<h2> Calling Code </h2>
<pre>
${escapeText(code)}
</pre>`;
}

/** Seconds by action. */
function timeSpent(records: readonly Value[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const record of records) {
    const startstops = record instanceof Map ? record.get("startstops") : null;
    for (const startstop of Array.isArray(startstops) ? (startstops as readonly Value[]) : []) {
      if (!(startstop instanceof Map)) continue;
      const action = String(startstop.get("action"));
      const time = asNumber(startstop.get("stop"), 0) - asNumber(startstop.get("start"), 0);
      sums.set(action, (sums.get(action) ?? 0) + time);
    }
  }
  return sums;
}

function packageVersions(ctx: SchedulerContext): [string, string][] {
  const versions = ctx.versionsNow();
  const packages = versions instanceof Map ? versions.get("packages") : null;
  if (!(packages instanceof Map)) return [];
  return [
    ["Dask", String(packages.get("dask"))],
    ["Dask.Distributed", String(packages.get("distributed"))],
  ];
}

function system(ctx: SchedulerContext, lastCount: number): string {
  const monitor = monitorOf(ctx);
  if (monitor === undefined) return "<p>not measured</p>";
  const samples = monitor.since(lastCount);
  const series = (title: string, values: readonly number[], unit: string): unknown => ({ title, unit, values });
  const data = {
    times: samples.map(({ time }) => time),
    series: [
      series(
        "CPU of the scheduler's process",
        samples.map(({ cpu }) => cpu),
        "%",
      ),
      series(
        "Memory of the scheduler's process",
        samples.map(({ memory }) => memory),
        "B",
      ),
      series(
        "Tasks known to the scheduler",
        samples.map(({ tasks }) => tasks),
        "",
      ),
      series(
        "Workers",
        samples.map(({ workers }) => workers),
        "",
      ),
    ],
  };
  return `${dataElement("system", data)}<div class="plot" data-plot="system"></div>`;
}

function logLines(ctx: SchedulerContext, start: number): string {
  const lines = ctx.logs.get(start, null, false) as readonly Value[];
  const texts = lines.map((line) => (Array.isArray(line) ? String(line[1]) : ""));
  return texts.length === 0 ? "No logs to report" : texts.reverse().join("\n");
}

function profile(id: string, tree: ReadonlyMap<Value, Value>): string {
  if (asNumber(tree.get("count"), 0) === 0) return "<p>Nothing was sampled.</p>";
  return `${dataElement(`profile-${id}`, profileNode(tree))}<div class="plot" data-plot="profile" data-of="profile-${id}"></div>`;
}

function bandwidthWorkers(ctx: SchedulerContext): string {
  const rows: string[][] = [];
  for (const [from, row] of ctx.core.state.bandwidthWorkers) {
    for (const [to, bandwidth] of row) rows.push([from, to, `${formatBytes(bandwidth)}/s`]);
  }
  return reportTable(["Destination", "Source", "Bandwidth"], rows);
}

function bandwidthTypes(ctx: SchedulerContext): string {
  const rows = [...ctx.core.state.bandwidthTypes].map(([name, bandwidth]) => [name, `${formatBytes(bandwidth)}/s`]);
  return reportTable(["Type", "Bandwidth"], rows);
}
