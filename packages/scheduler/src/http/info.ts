/** `/info/*`: plain pages on workers, tasks and logs (distributed.http.scheduler.info). */
import { formatBytes, formatKey, type Key, pythonRepr, type Value } from "@dask-ts/protocol";
import { occupancyOf } from "../core/occupancy.ts";
import type { TaskState } from "../core/task-state.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "../server/context.ts";
import { taskDetails } from "../server/task-details.ts";
import { escapeHtml, link, page, table } from "./page.ts";
import type { HttpReply, Route } from "./server.ts";

/** `up` leads from the page to `info/`. */
const NAVIGATION =
  '<nav><a href="../main/workers.html">Workers</a> <a href="../main/exceptions.html">Exceptions</a> ' +
  '<a href="../main/logs.html">Logs</a></nav>';

export function infoRoutes(ctx: SchedulerContext): Route[] {
  return [
    { path: /^info\/?$/, handle: () => ({ status: 302, location: "info/main/workers.html" }) },
    { path: /^info\/main\/workers\.html$/, handle: () => workersPage(ctx) },
    { path: /^info\/main\/exceptions\.html$/, handle: () => exceptionsPage(ctx) },
    { path: /^info\/main\/logs\.html$/, handle: () => logsPage("Scheduler logs", ctx.logs.lines().reverse()) },
    { path: /^info\/worker\/(.+)\.html$/, handle: (_, [name]) => onWorker(ctx, name, (ws) => workerPage(ws)) },
    { path: /^info\/task\/(.+)\.html$/, handle: (_, [name]) => onTask(ctx, name, (ts) => taskPage(ctx, ts)) },
    {
      path: /^info\/logs\/(.+)\.html$/,
      handle: (_, [name]) =>
        onWorker(ctx, name, async (ws) => {
          const logs = await ctx.pool.call(ws.address, "get_logs");
          const lines = Array.isArray(logs) ? logs.map((entry) => String((entry as Value[])[1])) : [];
          return logsPage(`Logs of ${ws.address}`, lines);
        }),
    },
    {
      path: /^info\/call-stacks\/(.+)\.html$/,
      handle: (_, [name]) =>
        onWorker(ctx, name, async (ws) =>
          stacksPage(`Call stacks of ${ws.address}`, await ctx.pool.call(ws.address, "call_stack", { keys: null })),
        ),
    },
    {
      path: /^info\/call-stack\/(.+)\.html$/,
      handle: (_, [name]) =>
        onTask(ctx, name, async (ts) => {
          const title = `Call stack of ${formatKey(ts.key)}`;
          const ws = ts.processingOn;
          if (ws === null)
            return page(title, "<p>Task not actively running. It may be finished or not yet started</p>", NAVIGATION);
          return stacksPage(title, await ctx.pool.call(ws.address, "call_stack", { keys: [ts.key] }));
        }),
    },
  ];
}

type Page = HttpReply | undefined | Promise<HttpReply | undefined>;

function onWorker(ctx: SchedulerContext, name: string | undefined, make: (ws: WorkerState) => Page): Page {
  const address = decode(name);
  const ws = address === undefined ? undefined : ctx.core.state.workers.get(address);
  return ws === undefined ? undefined : make(ws);
}

/** Tasks are named by `str(key)`; texts are looked up directly, other keys by how they are shown. */
function onTask(ctx: SchedulerContext, name: string | undefined, make: (ts: TaskState) => Page): Page {
  const text = decode(name);
  if (text === undefined) return undefined;
  const direct = ctx.core.state.tasks.get(text);
  if (direct !== undefined) return make(direct);
  if (!/^[("'\d-]/.test(text)) return undefined;
  for (const ts of ctx.core.state.tasks.values()) {
    if (typeof ts.key !== "string" && formatKey(ts.key) === text) return make(ts);
  }
  return undefined;
}

function decode(part: string | undefined): string | undefined {
  try {
    return decodeURIComponent(part ?? "");
  } catch {
    return undefined;
  }
}

function workersPage(ctx: SchedulerContext): HttpReply {
  const { state } = ctx.core;
  const rows = state.workerOrder.list.map((ws) => [
    link(`../worker/${encodeURIComponent(ws.address)}.html`, ws.address),
    escapeHtml(typeof ws.name === "string" ? ws.name : pythonRepr(ws.name)),
    escapeHtml(ws.status),
    String(ws.nthreads),
    formatBytes(ws.memoryLimit),
    formatBytes(ws.nbytes),
    occupancyOf(state, ws).toFixed(3),
    String(ws.processing.size),
    String(ws.hasWhat.size),
    link(`../logs/${encodeURIComponent(ws.address)}.html`, "logs"),
    `${Math.max(0, ctx.now() - ws.lastSeen).toFixed(1)} s`,
  ]);
  const columns = [
    "Worker",
    "Name",
    "Status",
    "Cores",
    "Memory",
    "Memory use",
    "Occupancy",
    "Processing",
    "In-memory",
    "Logs",
    "Last seen",
  ];
  const facts = `<p>${escapeHtml(ctx.address)}: ${state.workers.size} workers, ${state.totalNthreads} threads, ${formatBytes(state.totalMemory)}</p>`;
  return page("Workers", facts + table(columns, rows), NAVIGATION);
}

function exceptionsPage(ctx: SchedulerContext): HttpReply {
  const rows = ctx.core.state.erredTasks.map((task) => [
    link(`../task/${encodeURIComponent(formatKey(task.key))}.html`, formatKey(task.key)),
    escapeHtml(task.erredOn.join(", ")),
    `<pre>${escapeHtml(`${task.exceptionText}\n${task.tracebackText}`)}</pre>`,
  ]);
  return page("Exceptions", table(["Task", "Workers", "Exception"], rows), NAVIGATION);
}

function logsPage(title: string, lines: readonly string[]): HttpReply {
  return page(title, `<pre>${escapeHtml(lines.join("\n"))}</pre>`, NAVIGATION);
}

function workerPage(ws: WorkerState): HttpReply {
  const facts = table(
    ["Name", "Status", "Cores", "Memory limit", "Data"],
    [
      [
        escapeHtml(pythonRepr(ws.name)),
        escapeHtml(ws.status),
        String(ws.nthreads),
        formatBytes(ws.memoryLimit),
        formatBytes(ws.nbytes),
      ],
    ],
  );
  const body =
    facts +
    `<h2>Processing</h2>${taskList([...ws.processing])}` +
    `<h2>In memory</h2>${taskList([...ws.hasWhat])}` +
    `<p>${link(`../call-stacks/${encodeURIComponent(ws.address)}.html`, "Call stacks")}</p>`;
  return page(`Worker ${ws.address}`, body, NAVIGATION);
}

/** Tasks in one list of a page at most. */
const MAX_LISTED = 1000;

function taskList(tasks: readonly TaskState[]): string {
  const rows = tasks.slice(0, MAX_LISTED).map((ts) => [taskLink(ts.key), escapeHtml(ts.state), nbytesOf(ts)]);
  const more = tasks.length > MAX_LISTED ? `<p>and ${tasks.length - MAX_LISTED} more</p>` : "";
  return table(["Task", "State", "Size"], rows) + more;
}

function taskLink(key: Key): string {
  return link(`../task/${encodeURIComponent(formatKey(key))}.html`, formatKey(key));
}

function nbytesOf(ts: TaskState): string {
  return ts.nbytes < 0 ? "" : formatBytes(ts.nbytes);
}

function taskPage(ctx: SchedulerContext, ts: TaskState): HttpReply {
  const rows = [...taskDetails(ts)]
    .filter(([name]) => name !== "traceback_text")
    .map(([name, value]) => [escapeHtml(String(name)), `<pre>${escapeHtml(pythonRepr(value))}</pre>`]);
  const story = ctx.core
    .story([ts.key])
    .map((entry) => [
      new Date(entry.time * 1000).toISOString(),
      taskLink(entry.key),
      escapeHtml(entry.start),
      escapeHtml(entry.finish),
      escapeHtml(entry.stimulusId),
    ]);
  const traceback = ts.error === null ? "" : `<h2>Traceback</h2><pre>${escapeHtml(ts.error.tracebackText)}</pre>`;
  const body =
    `<p>${link(`../call-stack/${encodeURIComponent(formatKey(ts.key))}.html`, "Call stack")}</p>` +
    table(["Attribute", "Value"], rows) +
    traceback +
    `<h2>Transition log</h2>${table(["Time", "Task", "From", "To", "Cause"], story)}`;
  return page(`Task ${formatKey(ts.key)}`, body, NAVIGATION);
}

function stacksPage(title: string, reply: Value): HttpReply {
  const parts: string[] = [];
  const entries = reply instanceof Map ? [...(reply as ReadonlyMap<Value, Value>)] : Object.entries(reply ?? {});
  for (const [key, frames] of entries) {
    const text = Array.isArray(frames) ? (frames as readonly Value[]).join("") : "";
    parts.push(`<h2>${escapeHtml(formatKey(key as Key))}</h2><pre>${escapeHtml(text)}</pre>`);
  }
  return page(title, parts.length === 0 ? "<p>Nothing is running</p>" : parts.join(""), NAVIGATION);
}
