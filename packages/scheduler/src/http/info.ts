/** `/info/*`: plain pages on workers, tasks and logs (distributed.http.scheduler.info). */
import {
  decodePart,
  escapeHtml,
  formatBytes,
  formatKey,
  HttpError,
  type HttpReply,
  type HttpRoute,
  htmlPage,
  htmlTable,
  interpretValue,
  isKey,
  type Key,
  keyId,
  link,
  type Message,
  pythonRepr,
  type Value,
} from "@dask-ts/protocol";
import type { TaskState } from "../core/task-state.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "../server/context.ts";
import { taskDetails } from "../server/task-details.ts";
import { NAVIGATION, taskLink, workerLink } from "./page.ts";
import { workerTable } from "./worker-table.ts";

/** For a worker that is asked for what a page shows. */
const ANSWER_MS = 30_000;

/** From a page to the prefix. */
const UP = "../../";

export function infoRoutes(ctx: SchedulerContext): HttpRoute[] {
  return [
    { path: "info", handle: () => ({ status: 302, location: "info/main/workers.html" }) },
    { path: "info/main/workers.html", handle: () => workersPage(ctx) },
    { path: "info/main/exceptions.html", handle: () => exceptionsPage(ctx) },
    { path: "info/main/logs.html", handle: () => logsPage("Scheduler logs", ctx.logs.lines().reverse()) },
    { path: "info/worker/*.html", handle: ({ parts }) => onWorker(ctx, parts[0], (ws) => workerPage(ctx, ws)) },
    { path: "info/task/*.html", handle: ({ parts }) => onTask(ctx, parts[0], (ts) => taskPage(ctx, ts)) },
    {
      path: "info/logs/*.html",
      handle: ({ parts }) =>
        onWorker(ctx, parts[0], async (ws) => {
          const logs = await ask(ctx, ws, "get_logs");
          const lines = Array.isArray(logs) ? logs.map((entry) => String((entry as Value[])[1])) : [];
          return logsPage(`Logs of ${ws.address}`, lines);
        }),
    },
    {
      path: "info/call-stacks/*.html",
      handle: ({ parts }) =>
        onWorker(ctx, parts[0], async (ws) =>
          stacksPage(`Call stacks of ${ws.address}`, await ask(ctx, ws, "call_stack", { keys: null })),
        ),
    },
    {
      path: "info/call-stack/*.html",
      handle: ({ parts }) =>
        onTask(ctx, parts[0], async (ts) => {
          const title = `Call stack of ${formatKey(ts.key)}`;
          const ws = ts.processingOn;
          if (ws === null)
            return page(title, "<p>Task not actively running. It may be finished or not yet started</p>");
          return stacksPage(title, await ask(ctx, ws, "call_stack", { keys: [ts.key] }));
        }),
    },
  ];
}

/** @throws {HttpError} 504 where the worker does not answer in time, 502 where it fails. */
async function ask(ctx: SchedulerContext, ws: WorkerState, op: string, fields: Message = {}): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new HttpError(504, `${ws.address} does not answer`)), ANSWER_MS);
  });
  try {
    return await Promise.race([ctx.pool.call(ws.address, op, fields), late]);
  } catch (error) {
    if (error instanceof HttpError) throw error;
    throw new HttpError(502, `${ws.address} failed: ${error instanceof Error ? error.message : String(error)}`);
  } finally {
    clearTimeout(timer);
  }
}

function page(title: string, body: string): HttpReply {
  return htmlPage({ title, body, depth: 2, navigation: NAVIGATION });
}

type Page = HttpReply | undefined | Promise<HttpReply | undefined>;

function onWorker(ctx: SchedulerContext, name: string | undefined, make: (ws: WorkerState) => Page): Page {
  const ws = ctx.core.state.workers.get(decodePart(name));
  return ws === undefined ? undefined : make(ws);
}

/** Tasks are named by `str(key)` (_get_actual_scheduler_key): a text as it is, other keys as Python writes them. */
function onTask(ctx: SchedulerContext, name: string | undefined, make: (ts: TaskState) => Page): Page {
  const { tasks } = ctx.core.state;
  const text = decodePart(name);
  const direct = tasks.get(keyId(text));
  if (direct !== undefined) return make(direct);
  if (!/^[("'b\d-]/.test(text)) return undefined;
  const literal = interpretValue(text) as Value;
  const read = isKey(literal) ? tasks.get(keyId(literal)) : undefined;
  if (read !== undefined && formatKey(read.key) === text) return make(read);
  // Keys with bytes in them are no plain literals.
  for (const ts of tasks.values()) if (typeof ts.key !== "string" && formatKey(ts.key) === text) return make(ts);
  return undefined;
}

function workersPage(ctx: SchedulerContext): HttpReply {
  const { state } = ctx.core;
  const facts = `<p>${escapeHtml(ctx.address)}: ${state.workers.size} workers, ${state.totalNthreads} threads, ${formatBytes(state.totalMemory)}</p>`;
  return page("Workers", facts + workerTable(ctx, state.workerOrder.list, UP));
}

function exceptionsPage(ctx: SchedulerContext): HttpReply {
  const rows = ctx.core.state.erredTasks.map((task) => [
    taskLink(task.key, UP),
    task.erredOn.map((address) => workerLink(address, UP)).join(", "),
    `<pre>${escapeHtml(`${task.exceptionText}\n${task.tracebackText}`)}</pre>`,
  ]);
  return page("Exceptions", htmlTable(["Task", "Workers", "Exception"], rows));
}

function logsPage(title: string, lines: readonly string[]): HttpReply {
  return page(title, `<pre>${escapeHtml(lines.join("\n"))}</pre>`);
}

function workerPage(ctx: SchedulerContext, ws: WorkerState): HttpReply {
  const resources = [...ws.resources].map(([name, total]) => [
    escapeHtml(name),
    String(ws.usedResources.get(name) ?? 0),
    String(total),
  ]);
  const body =
    workerTable(ctx, [ws], UP) +
    `<p>${link(`../call-stacks/${encodeURIComponent(ws.address)}.html`, "Call stacks")}</p>` +
    (resources.length === 0 ? "" : `<h2>Resources</h2>${htmlTable(["Resource", "Consumed", "Total"], resources)}`) +
    `<h2>Processing</h2>${taskList(ws.processing)}` +
    `<h2>In memory</h2>${taskList(ws.hasWhat)}`;
  return page(`Worker ${ws.address}`, body);
}

/** Tasks in one list of a page at most. */
const MAX_LISTED = 1000;

function taskList(tasks: ReadonlySet<TaskState>): string {
  const rows: string[][] = [];
  for (const ts of tasks) {
    if (rows.length === MAX_LISTED) break;
    rows.push([taskLink(ts.key, UP), escapeHtml(ts.state), nbytesOf(ts)]);
  }
  const more = tasks.size > rows.length ? `<p>and ${tasks.size - rows.length} more</p>` : "";
  return htmlTable(["Task", "State", "Size"], rows) + more;
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
      taskLink(entry.key, UP),
      escapeHtml(entry.start),
      escapeHtml(entry.finish),
      escapeHtml(entry.stimulusId),
    ]);
  const traceback = ts.error === null ? "" : `<h2>Traceback</h2><pre>${escapeHtml(ts.error.tracebackText)}</pre>`;
  const body =
    `<p>${link(`../call-stack/${encodeURIComponent(formatKey(ts.key))}.html`, "Call stack")}</p>` +
    htmlTable(["Attribute", "Value"], rows) +
    traceback +
    `<h2>Transition log</h2>${htmlTable(["Time", "Task", "From", "To", "Cause"], story)}`;
  return page(`Task ${formatKey(ts.key)}`, body);
}

function stacksPage(title: string, reply: Value): HttpReply {
  const parts: string[] = [];
  const entries = reply instanceof Map ? [...(reply as ReadonlyMap<Value, Value>)] : Object.entries(reply ?? {});
  for (const [key, frames] of entries) {
    const text = Array.isArray(frames) ? (frames as readonly Value[]).join("") : "";
    parts.push(`<h2>${escapeHtml(formatKey(key as Key))}</h2><pre>${escapeHtml(text)}</pre>`);
  }
  return page(title, parts.length === 0 ? "<p>Nothing is running</p>" : parts.join(""));
}
