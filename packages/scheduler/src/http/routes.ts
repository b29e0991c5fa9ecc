/** The scheduler's routes, by the part of stock's configuration that installs each (`scheduler.http.routes`). */
import { healthRoutes, type HttpReply, type HttpRoute, jsonReply, staticRoutes } from "@dask-ts/protocol";
import type { SchedulerContext } from "../server/context.ts";
import { apiRoutes } from "./api.ts";
import { eventStreamRoutes } from "./event-stream.ts";
import { infoRoutes } from "./info.ts";
import { jsonRoutes } from "./json.ts";
import { metricsRoutes } from "./metrics.ts";
import { pageRoutes } from "./pages.ts";
import { proxyRoutes } from "./proxy.ts";
import type { RouteOptions } from "./server.ts";

/** Python module names in the configuration stand for these. */
const GROUPS: { readonly [module: string]: (ctx: SchedulerContext, options: RouteOptions) => HttpRoute[] } = {
  "distributed.http.health": (ctx) => healthRoutes(() => notReady(ctx)),
  "distributed.http.scheduler.prometheus": metricsRoutes,
  "distributed.http.scheduler.info": (ctx) => [...infoRoutes(ctx), ...eventStreamRoutes(ctx)],
  "distributed.http.scheduler.json": jsonRoutes,
  "distributed.http.scheduler.api": apiRoutes,
  "distributed.http.proxy": proxyRoutes,
  "distributed.http.statics": staticRoutes,
};

export function schedulerRoutes(ctx: SchedulerContext, options: RouteOptions): HttpRoute[] {
  const routes: HttpRoute[] = [];
  for (const module of new Set(ctx.settings.httpRoutes)) {
    const make = GROUPS[module];
    if (make !== undefined) routes.push(...make(ctx, options));
    else ctx.log.warning(`scheduler.http.routes names ${module}, a Python module that this server cannot serve`);
  }
  routes.push(...pageRoutes(ctx, options));
  routes.push({ path: "sitemap.json", handle: () => siteMap(routes) });
  return routes;
}

/** The paths of all routes, stars where they vary (distributed.http.routing.DirectoryHandler). */
function siteMap(routes: readonly HttpRoute[]): HttpReply {
  return jsonReply({ paths: [...new Set(routes.map(({ path }) => `/${path}`))].sort() });
}

function notReady(ctx: SchedulerContext): string | undefined {
  const reasons: string[] = [];
  if (ctx.status !== "running") reasons.push(`the scheduler is ${ctx.status}`);
  if (ctx.versionsNow() === null) reasons.push("the graph host is not up yet");
  return reasons.length === 0 ? undefined : reasons.join("\n");
}
