/** `/json/*`: counts and identity (distributed.http.scheduler.json). */
import { adaptiveTarget } from "../core/adaptive.ts";
import type { SchedulerContext } from "../server/context.ts";
import { toJson } from "../server/scheduler-file.ts";
import { escapeHtml, json, page } from "./page.ts";
import type { Route } from "./server.ts";

export function jsonRoutes(ctx: SchedulerContext): Route[] {
  return [
    { path: /^json\/counts\.json$/, handle: () => json(counts(ctx)) },
    { path: /^json\/identity\.json$/, handle: () => json(toJson(ctx.identity())) },
    {
      path: /^json\/index\.html$/,
      handle: () =>
        page(
          "Index of JSON routes",
          `<ul>${["counts.json", "identity.json"].map((name) => `<li><a href="${name}">${escapeHtml(name)}</a></li>`).join("")}</ul>`,
        ),
    },
  ];
}

function counts(ctx: SchedulerContext): Record<string, number> {
  const { state } = ctx.core;
  let [erred, released, waiting, waitingData] = [0, 0, 0, 0];
  for (const ts of state.tasks.values()) {
    if (ts.exceptionBlame !== null) erred++;
    else if (ts.state === "released") released++;
    if (ts.waitingOn.size > 0) waiting++;
    if (ts.waiters.size > 0) waitingData++;
  }
  let [bytes, cores, memory, processing] = [0, 0, 0, 0];
  for (const ws of state.workers.values()) {
    cores += ws.nthreads;
    memory += ws.hasWhat.size;
    bytes += ws.nbytes;
    processing += ws.processing.size;
  }
  return {
    bytes,
    clients: state.clients.size,
    cores,
    erred,
    hosts: state.hostInfo.size,
    idle: state.idle.size,
    memory,
    processing,
    released,
    saturated: state.saturated.size,
    tasks: state.tasks.size,
    unrunnable: state.unrunnable.size,
    waiting,
    waiting_data: waitingData,
    workers: state.workers.size,
    desired_workers: adaptiveTarget(state, ctx.settings.targetDuration),
  };
}
