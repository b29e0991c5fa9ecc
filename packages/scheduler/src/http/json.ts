/** `/json/*`: counts and identity (distributed.http.scheduler.json). */
import { type HttpRoute, htmlPage, jsonReply, link } from "@dask-ts/protocol";
import type { SchedulerContext } from "../server/context.ts";
import { adaptiveTarget } from "../server/downscaling.ts";
import { toJson } from "../server/scheduler-file.ts";
import { NAVIGATION } from "./page.ts";

/** Tasks looked at in one turn of the event loop. */
const SLICE = 20_000;

export function jsonRoutes(ctx: SchedulerContext): HttpRoute[] {
  let counting: Promise<Record<string, number>> | undefined;
  return [
    {
      path: "json/counts.json",
      handle: async () => {
        // Who asks while tasks are being counted gets that answer.
        counting ??= counts(ctx).finally(() => {
          counting = undefined;
        });
        return jsonReply(await counting);
      },
    },
    { path: "json/identity.json", handle: () => jsonReply(toJson(ctx.identity())) },
    {
      path: "json/index.html",
      handle: () => {
        const items = ["counts.json", "identity.json"].map((name) => `<li>${link(name, name)}</li>`).join("");
        return htmlPage({
          title: "Index of JSON routes",
          body: `<ul>${items}</ul>`,
          depth: 1,
          navigation: NAVIGATION,
        });
      },
    },
  ];
}

async function counts(ctx: SchedulerContext): Promise<Record<string, number>> {
  const { state } = ctx.core;
  let [erred, released, waiting, waitingData, looked] = [0, 0, 0, 0, 0];
  // Streams have their turn in between: with a million tasks this takes a while.
  for (const ts of state.tasks.values()) {
    if (ts.exceptionBlame !== null) erred++;
    else if (ts.state === "released") released++;
    if (ts.waitingOn.size > 0) waiting++;
    if (ts.waiters.size > 0) waitingData++;
    if (++looked % SLICE === 0) await new Promise((resolve) => setImmediate(resolve));
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
    desired_workers: await adaptiveTarget(ctx),
  };
}
