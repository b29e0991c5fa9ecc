/** `/status` and what belongs to the dashboard: the facts of the cluster on one plain page. */
import { formatBytes } from "@dask-ts/protocol";
import type { SchedulerContext } from "../server/context.ts";
import { escapeHtml, json, page, table } from "./page.ts";
import type { HttpReply, Route } from "./server.ts";

export function statusRoutes(ctx: SchedulerContext): Route[] {
  return [
    { path: /^$/, handle: () => ({ status: 301, location: "status" }) },
    { path: /^status$/, handle: () => statusPage(ctx) },
    // The JupyterLab extension takes an answer here for a sign of life, and lists what it finds.
    { path: /^individual-plots\.json$/, handle: () => json({}) },
  ];
}

function statusPage(ctx: SchedulerContext): HttpReply {
  const { state } = ctx.core;
  const counts = new Map<string, number>();
  for (const prefix of state.taskPrefixes.values()) {
    prefix.states.forEach((count, code) => {
      const name = TASK_STATE_LABELS[code];
      if (name !== undefined) counts.set(name, (counts.get(name) ?? 0) + count);
    });
  }
  const facts = table(
    ["Address", "Workers", "Threads", "Memory", "Clients"],
    [
      [
        escapeHtml(ctx.address),
        String(state.workers.size),
        String(state.totalNthreads),
        formatBytes(state.totalMemory),
        String(state.clients.size - 1),
      ],
    ],
  );
  const tasks = table([...counts.keys()], [[...counts.values()].map(String)]);
  const links =
    '<nav><a href="info/main/workers.html">Workers</a> <a href="info/main/logs.html">Logs</a> ' +
    '<a href="metrics">Metrics</a> <a href="json/index.html">JSON</a></nav>';
  return page("Dask scheduler", `${facts}<h2>Tasks</h2>${tasks}`, links);
}

const TASK_STATE_LABELS = ["released", "waiting", "no-worker", "queued", "processing", "memory", "erred"];
