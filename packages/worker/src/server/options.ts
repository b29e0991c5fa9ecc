/** How a worker is started. */
import type { LogSink, Security, Value } from "@dask-ts/protocol";
import type { Executor, ExecutorEvents } from "../executor/executor.ts";
import type { WorkerSettings } from "./settings.ts";

/** What an executor is told about the worker it belongs to. */
export interface ExecutorSpec {
  readonly address: string;
  readonly schedulerAddress: string;
  readonly name: Value;
  readonly nthreads: number;
  readonly resources: ReadonlyMap<string, number>;
  readonly localDirectory: string;
  /** Bytes; null for no limit. */
  readonly memoryLimit: number | null;
  /** The nanny's address, as `Worker.nanny` shows it. */
  readonly nanny: string | null;
  /** Variables set for the child beside those of this process. */
  readonly environment: Readonly<Record<string, string>>;
  readonly preload: readonly string[];
  readonly preloadArgv: readonly string[];
  /** Fields of `distributed.Security`, so that clients inside tasks connect as the worker does; null without TLS. */
  readonly security: Value;
}

/** Starts the child; rejects where it does not come up. */
export type StartExecutor = (spec: ExecutorSpec, events: ExecutorEvents) => Promise<Executor>;

/** What a worker knows of its nanny. */
export interface NannyLink {
  readonly address: string;
  /** The worker is about to close for good: do not start another (Nanny.close_gracefully). */
  closeGracefully(reason: string): void;
}

export interface WorkerOptions {
  /** The scheduler's address; `tcp://` may be left out. */
  readonly scheduler: string;
  readonly startExecutor: StartExecutor;
  readonly settings?: WorkerSettings;
  /** Default: the address. */
  readonly name?: Value;
  /** Default: the cores of this machine. */
  readonly nthreads?: number;
  /** `--memory-limit`; default `auto`. Bytes, where the nanny has worked it out already. */
  readonly memoryLimit?: string | number | null;
  readonly resources?: ReadonlyMap<string, number>;
  readonly host?: string | null;
  /** Ports to try in order; 0 takes a free one. */
  readonly ports?: readonly number[];
  readonly interface?: string | null;
  readonly protocol?: string | null;
  readonly contactAddress?: string | null;
  /** `--dashboard-address`: `:0`, `host:port`. Null: no HTTP port. */
  readonly dashboardAddress?: string | null;
  /** `--dashboard`: the pages for people; default true. */
  readonly dashboard?: boolean;
  /** `--local-directory` */
  readonly localDirectory?: string | null;
  readonly deathTimeoutS?: number | null;
  /** TLS, timeouts and limits of comms; default: no TLS, Dask's own timeouts. */
  readonly comms?: Pick<Security, "connect" | "listen" | "warnings">;
  /** `--scheduler-sni` */
  readonly serverHostname?: string;
  /** As {@link ExecutorSpec.security}. */
  readonly security?: Value;
  readonly preload?: readonly string[];
  readonly preloadArgv?: readonly string[];
  /**
   * With a nanny an executor that dies is replaced, as stock's nanny replaces a worker process. Without one the worker
   * closes and its command ends with code 1: stock's process would be gone, and whoever supervises it expects that.
   */
  readonly nanny?: NannyLink | null;
  readonly environment?: Readonly<Record<string, string>>;
  readonly logSinks?: readonly LogSink[];
  readonly lifetimeS?: number | null;
  readonly lifetimeStaggerS?: number;
  readonly lifetimeRestart?: boolean;
  /** Milliseconds after SIGTERM for handing data over; what the command goes by, see {@link WorkerGroup.retire}. */
  readonly terminationGraceMs?: number;
}

/** How a worker ended. */
export interface WorkerExit {
  readonly reason: string;
  /** For the command that ran it. */
  readonly exitCode: number;
}
