/** The scheduler's routes, by the part of stock's configuration that installs each (`scheduler.http.routes`). */
import type { SchedulerContext } from "../server/context.ts";
import { apiRoutes } from "./api.ts";
import { infoRoutes } from "./info.ts";
import { jsonRoutes } from "./json.ts";
import { metricsRoutes } from "./metrics.ts";
import { json } from "./page.ts";
import type { HttpOptions, Route } from "./server.ts";
import { statusRoutes } from "./status.ts";

/** Python module names in the configuration stand for these. */
const GROUPS: { readonly [module: string]: (ctx: SchedulerContext) => Route[] } = {
  "distributed.http.health": healthRoutes,
  "distributed.http.scheduler.prometheus": metricsRoutes,
  "distributed.http.scheduler.info": infoRoutes,
  "distributed.http.scheduler.json": jsonRoutes,
  "distributed.http.scheduler.api": apiRoutes,
};

export function schedulerRoutes(ctx: SchedulerContext, options: HttpOptions): Route[] {
  const routes: Route[] = [];
  for (const [module, make] of Object.entries(GROUPS)) {
    if (ctx.settings.httpRoutes.includes(module)) routes.push(...make(ctx));
  }
  if (options.dashboard) routes.push(...statusRoutes(ctx));
  routes.push({
    path: /^sitemap\.json$/,
    handle: () => json({ paths: routes.map((route) => sitePath(route.path)).sort() }),
  });
  return routes;
}

function healthRoutes(ctx: SchedulerContext): Route[] {
  return [
    { path: /^health$/, handle: () => ({ body: "ok" }) },
    { path: /^livez$/, handle: () => ({ body: "ok" }) },
    {
      path: /^readyz$/,
      handle: () => {
        const reasons: string[] = [];
        if (ctx.status !== "running") reasons.push(`the scheduler is ${ctx.status}`);
        if (ctx.versionsNow() === null) reasons.push("the graph host is not up yet");
        return reasons.length === 0 ? { body: "ok" } : { status: 503, body: `${reasons.join("\n")}\n` };
      },
    },
  ];
}

function sitePath(path: RegExp): string {
  return `/${path.source
    .replace(/^\^|\$$/g, "")
    .replaceAll("\\", "")
    .replaceAll("(.+)", "*")}`;
}
