/** What handlers, streams, extensions and HTTP routes work with: the core and the means to act on its behalf. */
import type { Config, ConnectionPool, Logger, LogRing, Message, RpcHandler, Value } from "@dask-ts/protocol";
import type { SchedulerCore } from "../core/scheduler-core.ts";
import type { GraphHostPool } from "../graph-host/graph-host-pool.ts";
import type { PluginHost } from "../plugin-host/plugin-host.ts";
import type { EventBroker } from "./events.ts";
import type { Identity } from "./identity.ts";
import type { Measures } from "./measures.ts";
import type { SchedulerSettings } from "./settings.ts";
import type { PeerStreams } from "./streams.ts";
import type { WorkerVersions } from "./versions.ts";

export interface SchedulerContext {
  readonly core: SchedulerCore;
  readonly config: Config;
  readonly settings: SchedulerSettings;
  readonly log: Logger;
  readonly logs: LogRing;
  /** Calls to workers and nannies. */
  readonly pool: ConnectionPool;
  readonly streams: PeerStreams;
  readonly broker: EventBroker;
  readonly measures: Measures;
  readonly plugins: StoredPlugins;
  /** Where user code of the scheduler runs; its process starts when it is needed. */
  readonly pluginHost: PluginHost;
  readonly workerVersions: WorkerVersions;
  readonly extensions: readonly SchedulerExtension[];
  readonly status: "init" | "running" | "closing" | "closed";
  /** The first address. */
  readonly address: string;

  /** Where it listens, and how many have come. */
  connections(): Connections;
  /** Seconds since the epoch. */
  now(): number;
  /**
   * Runs core work with the time, then sends what it left in the outbox. Every touch of the core that may change it
   * goes through here; calls must not be nested.
   */
  apply<T>(work: (core: SchedulerCore, now: number) => T): T;
  /** Scheduler.log_event: kept per topic, and sent to subscribers. */
  logEvent(topics: string | readonly string[], message: Value): void;
  /** The graph host, once it is up. Rejects where Python is not there or ended. */
  graphHost(): Promise<GraphHostPool>;
  /** The graph host's versions; null while it is not up. */
  versionsNow(): Value;
  identity(nWorkers?: number, live?: boolean): Identity;
  /** Alias or address → address of the worker in resolved form (Scheduler.coerce_address). */
  coerceAddress(worker: Value): Promise<string>;
  /** The same for names that need no resolver; the text itself where it is neither alias nor known worker. */
  coerceKnown(worker: Value): string;
  /** Work under way that `close` cancels: timers and waits. Returns what stops it. */
  every(intervalMs: number, work: () => void | Promise<void>): () => void;
  after(delayMs: number, work: () => void): () => void;
  /** Resolves after the delay; rejects when the scheduler closes. */
  sleep(ms: number): Promise<void>;
  /** Starts closing the scheduler; returns at once. */
  requestClose(reason: string): void;
}

export interface Connections {
  readonly listeners: readonly { readonly address: string; readonly contactAddress: string }[];
  /** Comms of peers that are open. */
  readonly incoming: number;
  /** Those of them that are streams. */
  readonly streams: number;
}

/** Plugins of workers and nannies: pickles that are kept and handed to each newcomer. */
export interface StoredPlugins {
  readonly worker: Map<string, Uint8Array>;
  readonly nanny: Map<string, Uint8Array>;
  /** Nannies between their registration and the start of their worker. */
  readonly startingNannies: Set<string>;
  /** Resolves once no nanny is starting. */
  nanniesStarted(): Promise<void>;
}

/** One element of a client's or worker's stream. The peer's stream is closed where it throws. */
export type StreamHandler = (peer: string, message: Message) => void;

/**
 * A part of the scheduler beside the core: queues, variables, semaphores, events, publishing, stealing, spans, P2P.
 * `start` gets the context; handlers are called afterwards only.
 */
export interface SchedulerExtension {
  readonly name: string;
  /** RPC ops by their Dask name. */
  readonly rpcHandlers?: Readonly<Record<string, RpcHandler>>;
  /** Ops of clients' and workers' streams by their Dask name. */
  readonly clientStreamHandlers?: Readonly<Record<string, StreamHandler>>;
  readonly workerStreamHandlers?: Readonly<Record<string, StreamHandler>>;
  start?(context: SchedulerContext): void | Promise<void>;
  stop?(): void | Promise<void>;
  /** After the core has removed the client or worker. */
  onRemoveClient?(client: string): void;
  onRemoveWorker?(address: string): void;
  /** `heartbeat_worker`'s `extensions[name]`. Its result goes into the reply's `extensions`, unless undefined. */
  heartbeat?(address: string, data: Value): Value | undefined;
  /** SchedulerPlugin.valid_workers_downscaling: true where the worker must not be closed to scale down. */
  keepsWorker?(address: string): boolean;
  /** Client.restart: all tasks are gone. */
  onRestart?(): void;
}
