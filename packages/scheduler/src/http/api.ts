/**
 * `/api/v1`, where `distributed.http.scheduler.api` is among the routes of the configuration. Stock lets in everybody;
 * here who asks needs the token `distributed.scheduler.http.api-token` or, where none is set, to be on this machine.
 */
import { createHash, timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { HttpError, type HttpHandler, type HttpReply, type HttpRoute, isLoopback, jsonReply } from "@dask-ts/protocol";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "../server/context.ts";
import { adaptiveTarget, workersToClose } from "../server/downscaling.ts";
import { retireWorkers } from "../server/retire-workers.ts";
import { toJson } from "../server/scheduler-file.ts";
import { pythonStr } from "./python-str.ts";

export function apiRoutes(ctx: SchedulerContext): HttpRoute[] {
  const { state } = ctx.core;
  const { apiToken } = ctx.settings;
  if (apiToken === null) {
    ctx.log.warning(
      "/api/v1 is open to this machine only: set distributed.scheduler.http.api-token to let in others who know it",
    );
  }
  const guarded =
    (handle: HttpHandler): HttpHandler =>
    (request) =>
      refusal(request.incoming, apiToken) ?? handle(request);
  const get = (path: string, value: () => unknown): HttpRoute => ({
    path,
    handle: guarded(async () => jsonReply(await value())),
  });
  return [
    { path: "api/v1", handle: guarded(() => ({ body: "API V1" })) },
    get("api/v1/get_workers", () => ({
      num_workers: state.workers.size,
      workers: [...state.workers.values()].map((ws) => ({ name: toJson(ws.name), address: ws.address })),
    })),
    get("api/v1/adaptive_target", async () => ({ workers: await adaptiveTarget(ctx) })),
    get("api/v1/check_idle", () => ({ idle_since: ctx.apply((core, now) => core.checkIdle(now)).idleSince })),
    { method: "POST", path: "api/v1/retire_workers", handle: guarded((request) => retire(ctx, request.body)) },
  ];
}

/** Undefined where the request may pass. */
function refusal({ headers, socket }: IncomingMessage, token: string | null): HttpReply | undefined {
  const unauthorized = (why: string): HttpReply => ({
    ...jsonReply({ Error: why }, 401),
    headers: { "WWW-Authenticate": 'Bearer realm="dask scheduler"' },
  });
  if (token !== null) {
    const given = /^Bearer +(\S+)$/i.exec(headers.authorization ?? "")?.[1];
    if (given === undefined) return unauthorized("this needs the header Authorization: Bearer TOKEN");
    return isSame(given, token) ? undefined : unauthorized("this is not the scheduler's API token");
  }
  const isForwarded = ["forwarded", "x-forwarded-for", "x-real-ip"].some((name) => headers[name] !== undefined);
  if (isForwarded || !isLoopback(socket.remoteAddress ?? "")) {
    return unauthorized("the scheduler has no API token, so this is open to its own machine only");
  }
  // A page in somebody's browser is not the person.
  if (headers.origin !== undefined) return jsonReply({ Error: "not open to web pages without an API token" }, 403);
  return undefined;
}

/** Takes the same time whatever is right about it. */
function isSame(a: string, b: string): boolean {
  const digest = (text: string): Buffer => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

async function retire(ctx: SchedulerContext, body: () => Promise<string>): Promise<HttpReply> {
  const workers = await selected(ctx, await body());
  try {
    const retired = await retireWorkers(ctx, {
      workers,
      closeWorkers: true,
      remove: true,
      stimulusId: `retire-workers-${ctx.now()}`,
    });
    return jsonReply(toJson(retired));
  } catch (error) {
    ctx.log.named("distributed.http").error("POST /api/v1/retire_workers failed", error);
    return jsonReply({ Error: "Internal Server Error" }, 500);
  }
}

/** `{"n": k}`, or else `{"workers": [address or name]}`. @throws {HttpError} 400 where it is neither. */
async function selected(ctx: SchedulerContext, body: string): Promise<WorkerState[]> {
  let request: unknown;
  try {
    request = JSON.parse(body);
  } catch (error) {
    throw new HttpError(400, `the body is no JSON: ${(error as Error).message}`);
  }
  if (typeof request !== "object" || request === null) throw new HttpError(400, "the body is no JSON object");
  const { workers = [], n = 0 } = request as Readonly<Record<string, unknown>>;
  if (typeof n !== "number" || !Number.isInteger(n) || n < 0) throw new HttpError(400, "n is a number of workers");
  if (n > 0) return await workersToClose(ctx, { n });
  if (!Array.isArray(workers)) throw new HttpError(400, "workers is a list of addresses or names");
  const wanted = new Set(workers.map(String));
  return [...ctx.core.state.workers.values()].filter((ws) => wanted.has(ws.address) || wanted.has(pythonStr(ws.name)));
}
