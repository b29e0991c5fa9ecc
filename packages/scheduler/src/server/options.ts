/** What a scheduler can be told when it starts. */
import type { Config, LogSink, Security } from "@dask-ts/protocol";
import type { SchedulerExtension } from "./context.ts";

/** What the command line, or an embedder, says. What is left out comes from the configuration, then from Dask. */
export interface SchedulerOptions {
  /** IP, host name, or URI (`tcp://host:8786`). Lists listen on several addresses at once. */
  readonly host?: string | readonly (string | null)[] | null | undefined;
  /** Default 8786; 0 takes a free one. */
  readonly port?: number | readonly number[] | null | undefined;
  readonly interface?: string | readonly (string | null)[] | null | undefined;
  /** `tcp`, `tls`, `ws`, `wss`; default from `distributed.comm.default-scheme`. */
  readonly protocol?: string | readonly (string | null)[] | null | undefined;
  readonly contactAddress?: string | null | undefined;
  /** TLS, timeouts and limits of comms; default from the configuration. */
  readonly security?: Security | undefined;
  /** `:8787`, `host:port`; null for no HTTP server at all. */
  readonly dashboardAddress?: string | null | undefined;
  /** False leaves out `/`, `/status` and the other pages for people. */
  readonly dashboard?: boolean | undefined;
  readonly dashboardPrefix?: string | undefined;
  /** Seconds. */
  readonly idleTimeout?: number | null | undefined;
  readonly workerTtl?: number | null | undefined;
  readonly allowedFailures?: number | undefined;
  readonly validate?: boolean | undefined;
  /** Where the identity is written as JSON; removed when the scheduler closes. */
  readonly schedulerFile?: string | undefined;
  readonly config?: Config | undefined;
  /** The interpreter of the graph host; default as `findPython`. */
  readonly python?: string | undefined;
  /** Preload modules: names, files, URLs or texts; default `distributed.scheduler.preload`. */
  readonly preload?: readonly string[] | undefined;
  /** Arguments for their click commands; default `distributed.scheduler.preload-argv`. */
  readonly preloadArgv?: readonly string[] | undefined;
  /** Graph hosts; default 1. */
  readonly graphHosts?: number | undefined;
  readonly log?: LogSink | undefined;
  readonly extensions?: readonly SchedulerExtension[] | undefined;
}
