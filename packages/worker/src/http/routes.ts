/** The worker's HTTP port: health, metrics and plain pages (distributed.http.worker). */
import {
  EventLoopMeter,
  healthRoutes,
  type HttpRoute,
  type HttpServer,
  type HttpTls,
  jsonReply,
  type Logger,
  type LogRing,
  METRICS_TYPE,
  parseDashboardAddress,
  serveHttp,
  staticRoutes,
} from "@dask-ts/protocol";
import type { WorkerMachine } from "../core/worker-machine.ts";
import type { TransferMetrics } from "../server/transfer-metrics.ts";
import { workerMetricsText } from "./metrics.ts";
import { pageRoutes } from "./pages.ts";

/** What the routes show of a worker. */
export interface HttpSource {
  readonly address: string;
  readonly schedulerAddress: string;
  readonly status: string;
  readonly nthreads: number;
  readonly memoryLimit: number | null;
  readonly localDirectory: string;
  readonly log: Logger;
  readonly logs: LogRing;
  readonly latencyS: number;
  readonly transfers: TransferMetrics;
  /** The state machine, while there is an executor. */
  readonly machine: WorkerMachine | undefined;
  /** What the executor reports of itself. */
  readonly executorMetrics: ReadonlyMap<string, number>;
  /** Resident bytes of the executor; 0 while there is none. */
  readonly executorBytes: number;
  /** Of the executor. */
  readonly pythonVersion: string | undefined;
}

export interface WorkerHttpSettings {
  /** `worker.http.routes` */
  readonly routes: readonly string[];
  /** `dashboard.prometheus.namespace` */
  readonly prometheusNamespace: string;
  /** `scheduler.dashboard.bokeh-application.allow_websocket_origin` */
  readonly allowedOrigins: readonly string[];
  /** `scheduler.dashboard.tls.*` */
  readonly tls: HttpTls | undefined;
}

/** @param dashboard false leaves out the pages for people. */
export function serveWorkerHttp(
  worker: HttpSource,
  address: string,
  dashboard: boolean,
  settings: WorkerHttpSettings,
): Promise<HttpServer> {
  // Measuring starts now, not with the first scrape.
  EventLoopMeter.get();
  return serveHttp({
    addresses: parseDashboardAddress(address),
    prefix: "",
    routes: workerRoutes(worker, dashboard, settings),
    tls: settings.tls,
    allowedOrigins: settings.allowedOrigins,
    log: worker.log.named("distributed.http"),
  });
}

function workerRoutes(worker: HttpSource, dashboard: boolean, settings: WorkerHttpSettings): HttpRoute[] {
  const metrics: HttpRoute = {
    path: "metrics",
    handle: () => ({ type: METRICS_TYPE, body: workerMetricsText(worker, settings.prometheusNamespace) }),
  };
  // Python module names in the configuration stand for these.
  const groups: { readonly [module: string]: () => HttpRoute[] } = {
    "distributed.http.worker.prometheus": () => [metrics],
    "distributed.http.health": () => healthRoutes(() => notReady(worker)),
    "distributed.http.statics": staticRoutes,
  };
  const routes: HttpRoute[] = [];
  for (const module of new Set(settings.routes)) {
    const make = groups[module];
    if (make !== undefined) routes.push(...make());
    else worker.log.warning(`worker.http.routes names ${module}, a Python module that this server cannot serve`);
  }
  if (dashboard) routes.push(...pageRoutes(worker));
  routes.push({
    path: "sitemap.json",
    handle: () => jsonReply({ paths: routes.map(({ path }) => `/${path}`).sort() }),
  });
  return routes;
}

function notReady(worker: HttpSource): string | undefined {
  if (worker.machine !== undefined && worker.status === "running") return undefined;
  const why = worker.machine === undefined ? "its executor is not up" : `it is ${worker.status}`;
  return `the worker cannot take tasks: ${why}`;
}
