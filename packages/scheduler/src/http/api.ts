/** `/api/v1`, where `distributed.http.scheduler.api` is among the routes of the configuration. */
import { pythonStr } from "./python-str.ts";
import { adaptiveTarget, workersToClose } from "../core/adaptive.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "../server/context.ts";
import { retireWorkers } from "../server/retire-workers.ts";
import { toJson } from "../server/scheduler-file.ts";
import { json } from "./page.ts";
import type { HttpReply, Route } from "./server.ts";

export function apiRoutes(ctx: SchedulerContext): Route[] {
  const { state } = ctx.core;
  return [
    { path: /^api\/v1$/, handle: () => ({ body: "API V1" }) },
    {
      path: /^api\/v1\/get_workers$/,
      handle: () =>
        json({
          num_workers: state.workers.size,
          workers: [...state.workers.values()].map((ws) => ({ name: toJson(ws.name), address: ws.address })),
        }),
    },
    {
      path: /^api\/v1\/adaptive_target$/,
      handle: () => json({ workers: adaptiveTarget(state, ctx.settings.targetDuration) }),
    },
    {
      path: /^api\/v1\/check_idle$/,
      handle: () => json({ idle_since: ctx.apply((core, now) => core.checkIdle(now)).idleSince }),
    },
    { method: "POST", path: /^api\/v1\/retire_workers$/, handle: (request) => retire(ctx, request.body) },
  ];
}

async function retire(ctx: SchedulerContext, body: () => Promise<string>): Promise<HttpReply> {
  try {
    const request: unknown = JSON.parse(await body());
    if (typeof request !== "object" || request === null) throw new TypeError("the body is no JSON object");
    const retired = await retireWorkers(ctx, {
      workers: selected(ctx, request as Readonly<Record<string, unknown>>),
      closeWorkers: true,
      remove: true,
      stimulusId: `retire-workers-${ctx.now()}`,
    });
    return json(toJson(retired));
  } catch (error) {
    ctx.log.named("distributed.http").error("POST /api/v1/retire_workers failed", error);
    return json({ Error: "Internal Server Error" }, 500);
  }
}

function selected(ctx: SchedulerContext, request: Readonly<Record<string, unknown>>): WorkerState[] {
  const { workers, n } = request;
  if (Array.isArray(workers)) {
    const wanted = new Set(workers.map(String));
    return [...ctx.core.state.workers.values()].filter(
      (ws) => wanted.has(ws.address) || wanted.has(pythonStr(ws.name)),
    );
  }
  if (typeof n === "number" && Number.isInteger(n)) return workersToClose(ctx.core.state, { n });
  throw new TypeError("the body needs n or workers");
}
