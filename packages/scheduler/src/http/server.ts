/** The scheduler's HTTP port: health, metrics, pages and JSON (distributed.http.scheduler). */
import {
  formatDashboardLink,
  type HttpTls,
  loadHttpTls,
  parseDashboardAddress,
  serveHttp,
  type HttpServer as Server,
  type HttpServerOptions,
} from "@dask-ts/protocol";
import type { SchedulerContext } from "../server/context.ts";
import { schedulerRoutes } from "./routes.ts";

export interface HttpOptions {
  /** `:8787`, `host:port`, a port; several with commas. */
  readonly address: string;
  /** `--dashboard-prefix`: every route is below it. */
  readonly prefix: string;
  /** False leaves out the pages for people. */
  readonly dashboard: boolean;
  /** As HttpServerOptions.share. */
  readonly share?: HttpServerOptions["share"];
}

/** What the routes are made from. */
export interface RouteOptions extends HttpOptions {
  readonly tls: HttpTls | undefined;
}

export interface HttpServer extends Server {
  /** The link that is logged, by `distributed.dashboard.link`. @param host of the scheduler's contact address */
  link(host: string): string;
}

/** @throws where an address cannot be listened on, or certificates cannot be read. */
export async function startHttp(ctx: SchedulerContext, options: HttpOptions): Promise<HttpServer> {
  const tls = loadHttpTls(ctx.config);
  const server = await serveHttp({
    addresses: parseDashboardAddress(options.address),
    prefix: options.prefix,
    routes: schedulerRoutes(ctx, { ...options, tls }),
    tls,
    allowedOrigins: ctx.settings.allowedOrigins,
    log: ctx.log.named("distributed.http"),
    share: options.share,
  });
  return {
    ...server,
    link: (host) => {
      const known = { scheme: tls === undefined ? "http" : "https", host, port: server.port, prefix: options.prefix };
      const onUnknown = (name: string): void =>
        ctx.log.warning(`Failed to format dashboard link, unknown value: '${name}'`);
      return formatDashboardLink(ctx.settings.dashboardLink, known, process.env, onUnknown) ?? `:${server.port}`;
    },
  };
}
