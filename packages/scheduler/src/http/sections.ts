/** What the plain pages show, part by part. Everything that comes from elsewhere is escaped. */
import { EventLoopMeter, escapeHtml, formatBytes, formatKey, htmlTable } from "@dask-ts/protocol";
import type { TaskGroup } from "../core/task-group.ts";
import type { TaskPrefix } from "../core/task-prefix.ts";
import { State } from "../core/task-status.ts";
import type { SchedulerContext } from "../server/context.ts";
import { formatSeconds, taskLink, workerLink } from "./page.ts";
import { metric, workerTable } from "./worker-table.ts";

export type Section = "bandwidth" | "cluster" | "errors" | "groups" | "prefixes" | "progress" | "scheduler" | "workers";

/** Rows of a table at most. */
const MAX_ROWS = 200;
/** Errors at most, newest first. */
const MAX_ERRORS = 20;
const MAX_ERROR_TEXT = 4000;

export const SECTIONS: { readonly [section in Section]: (ctx: SchedulerContext) => string } = {
  cluster,
  workers: (ctx) => `<h2>Workers</h2>${workerTable(ctx, ctx.core.state.workerOrder.list, "")}`,
  progress,
  groups,
  prefixes,
  errors,
  scheduler,
  bandwidth,
};

function cluster(ctx: SchedulerContext): string {
  const { state } = ctx.core;
  let memory = 0;
  let cpu = 0;
  for (const ws of state.workers.values()) {
    memory += metric(ws, "memory");
    cpu += metric(ws, "cpu");
  }
  return facts([
    ["Scheduler", ctx.address],
    ["Workers", `${state.workers.size}, of which ${state.running.size} run and ${state.idle.size} are idle`],
    ["Threads", String(state.totalNthreads)],
    ["CPU", `${cpu.toFixed(0)} %`],
    ["Memory", `${formatBytes(memory)} of ${formatBytes(state.totalMemory)}`],
    ["Clients", String(state.clients.size - 1)],
    ["Tasks", String(state.tasks.size)],
    ["Running for", formatSeconds(ctx.now() - startOf(ctx))],
  ]);
}

function startOf(ctx: SchedulerContext): number {
  return ctx.core.state.totalNthreadsHistory[0]?.[0] ?? ctx.now();
}

/** Names and values, as text. */
function facts(rows: readonly (readonly [name: string, value: string])[]): string {
  const cells = rows.map(([name, value]) => `<tr><th>${escapeHtml(name)}</th><td>${escapeHtml(value)}</td></tr>`);
  return `<table><tbody>${cells.join("")}</tbody></table>`;
}

const STATE_COLUMNS: readonly (readonly [name: string, code: number])[] = [
  ["Waiting", State.waiting],
  ["No worker", State.noWorker],
  ["Queued", State.queued],
  ["Processing", State.processing],
  ["In memory", State.memory],
  ["Released", State.released],
  ["Erred", State.erred],
];

function progress({ core: { state } }: SchedulerContext): string {
  // What is under way comes first; of old prefixes there may be very many.
  const prefixes = [...state.taskPrefixes.values()].filter((prefix) => known(prefix) > 0);
  const chosen = prefixes.sort((a, b) => active(b.states) - active(a.states)).slice(0, MAX_ROWS);
  const rows = chosen.map((prefix) => progressRow(prefix.name, prefix.states, known(prefix)));
  return `<h2>Progress</h2>${table(["Prefix", "", ...STATE_COLUMNS.map(([name]) => name)], rows, prefixes.length)}`;
}

function groups({ core: { state } }: SchedulerContext): string {
  const all = [...state.taskGroups.values()];
  const rows = all
    .slice(-MAX_ROWS)
    .reverse()
    .map((group) => [
      ...progressRow(formatKey(group.name), group.states, group.size),
      escapeHtml(dependenciesOf(group)),
    ]);
  const columns = ["Group", "", ...STATE_COLUMNS.map(([name]) => name), "Needs"];
  return `<h2>Task groups</h2>${table(columns, rows, all.length)}`;
}

function dependenciesOf(group: TaskGroup): string {
  const names = [...group.dependencies].slice(0, 5).map((other) => formatKey(other.name));
  return names.join(", ") + (group.dependencies.size > names.length ? ", …" : "");
}

function progressRow(name: string, states: readonly number[], size: number): string[] {
  const done = size - active(states);
  const bar = `<progress value="${done}" max="${Math.max(1, size)}"></progress> ${done} / ${size}`;
  return [escapeHtml(name), bar, ...STATE_COLUMNS.map(([, code]) => String(states[code] ?? 0))];
}

/** Tasks that are on their way. */
function active(states: readonly number[]): number {
  const of = (code: number): number => states[code] ?? 0;
  return of(State.waiting) + of(State.noWorker) + of(State.queued) + of(State.processing);
}

/** Tasks that the scheduler still knows. */
function known(prefix: TaskPrefix): number {
  return prefix.states.reduce((sum, count, code) => (code === State.forgotten ? sum : sum + count), 0);
}

function prefixes({ core: { state } }: SchedulerContext): string {
  const all = [...state.taskPrefixes.values()];
  const rows = all
    .sort((a, b) => b.durationUs - a.durationUs)
    .slice(0, MAX_ROWS)
    .map((prefix) => [
      escapeHtml(prefix.name),
      formatBytes(prefix.nbytesTotal),
      prefix.durationAverage < 0 ? "" : formatSeconds(prefix.durationAverage),
      ...["compute", "transfer", "disk-read", "disk-write", "deserialize"].map((action) =>
        formatSeconds((prefix.allDurationsUs.get(action) ?? 0) / 1e6),
      ),
    ]);
  const columns = ["Prefix", "In memory", "Average", "Compute", "Transfer", "Disk read", "Disk write", "Deserialize"];
  return `<h2>Memory and time by prefix</h2>${table(columns, rows, all.length)}`;
}

function errors({ core: { state } }: SchedulerContext): string {
  const recent = state.erredTasks.slice(-MAX_ERRORS).reverse();
  if (recent.length === 0) return "<h2>Errors</h2><p>None</p>";
  const rows = recent.map((task) => {
    const text = `${task.exceptionText}\n${task.tracebackText}`;
    const cut = text.length > MAX_ERROR_TEXT ? `${text.slice(0, MAX_ERROR_TEXT)}…` : text;
    return [
      escapeHtml(new Date(task.timestamp * 1000).toISOString()),
      taskLink(task.key, ""),
      task.erredOn.map((address) => workerLink(address, "")).join(", "),
      `<pre>${escapeHtml(cut)}</pre>`,
    ];
  });
  const heading = `<h2>Errors</h2><p>The last ${recent.length}</p>`;
  return heading + htmlTable(["Time", "Task", "Workers", "Error"], rows);
}

function scheduler({ core: { state } }: SchedulerContext): string {
  const loop = EventLoopMeter.get();
  const memory = process.memoryUsage();
  const cpu = process.cpuUsage();
  const mean = loop.lag.count === 0 ? 0 : loop.lag.sum / loop.lag.count;
  return `<h2>System</h2>${facts([
    ["Memory", formatBytes(memory.rss)],
    ["Heap", `${formatBytes(memory.heapUsed)} of ${formatBytes(memory.heapTotal)}`],
    ["CPU time", formatSeconds((cpu.user + cpu.system) / 1e6)],
    ["Time of collecting garbage", formatSeconds(loop.gcSeconds)],
    ["Lag of the event loop, mean", formatSeconds(mean)],
    ["Ticks of the event loop", String(loop.tickCount)],
    ["Transitions", String(state.transitionCounter)],
  ])}`;
}

function bandwidth({ core: { state } }: SchedulerContext): string {
  const rate = (value: number): string => `${formatBytes(value)}/s`;
  const types = [...state.bandwidthTypes].slice(0, MAX_ROWS).map(([name, value]) => [escapeHtml(name), rate(value)]);
  const pairs: string[][] = [];
  for (const [from, others] of state.bandwidthWorkers) {
    for (const [to, value] of others) {
      if (pairs.length < MAX_ROWS) pairs.push([workerLink(from, ""), workerLink(to, ""), rate(value)]);
    }
  }
  return (
    `<h2>Bandwidth</h2><p>${rate(state.bandwidth)} on average</p>` +
    htmlTable(["Type", "Bandwidth"], types) +
    htmlTable(["Worker", "Other", "Bandwidth"], pairs)
  );
}

/** @param total rows there are; those left out are counted */
function table(columns: readonly string[], rows: readonly (readonly string[])[], total: number): string {
  return htmlTable(columns, rows) + (total > rows.length ? `<p>and ${total - rows.length} more</p>` : "");
}
