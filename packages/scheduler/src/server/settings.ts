/** What the scheduler reads from Dask's configuration (`distributed.*`), resolved once at start. */
import { type Config, ConfigError } from "@dask-ts/protocol";
import { type CoreConfig, DEFAULT_CORE_CONFIG } from "../core/config.ts";
import { makeException } from "./exceptions.ts";

export interface SchedulerSettings {
  readonly core: CoreConfig;
  /** `admin.log-length`: log records kept. */
  readonly logLength: number;
  /** `admin.low-level-log-length`: events kept per topic. */
  readonly lowLevelLogLength: number;
  /** `scheduler.events-cleanup-delay` */
  readonly eventsCleanupDelayMs: number;
  readonly blockedHandlers: readonly string[];
  /** `dask-ts.scheduler.native-graphs`: read graphs without Python where that is possible. */
  readonly nativeGraphs: boolean;
  readonly contactAddress: string | null;
  readonly defaultScheme: string;
  /** `scheduler.reuse-broadcast-comm` */
  readonly reuseBroadcastComm: boolean;
  /** `adaptive.target-duration`, seconds. */
  readonly targetDuration: number;
  /** The longer of the two `dashboard.*.task-stream-length`. */
  readonly taskStreamLength: number;
  readonly httpRoutes: readonly string[];
  /** `scheduler.http.api-token` (not in stock): who knows it may use `/api/v1` from anywhere. */
  readonly apiToken: string | null;
  /** `scheduler.dashboard.bokeh-application.allow_websocket_origin` */
  readonly allowedOrigins: readonly string[];
  readonly dashboardLink: string;
  readonly prometheusNamespace: string;
  readonly rebalance: {
    readonly measure: string;
    readonly senderMin: number;
    readonly recipientMax: number;
    readonly gap: number;
  };
  /** `worker.profile.cycle`, seconds. */
  readonly profileCycle: number;
  /** The file that tells where the scheduler is. */
  readonly schedulerFile: string | null;
}

/** Overrides that the command line or an embedder gives on top of the configuration. */
export interface SettingsOverrides {
  /** Seconds; undefined leaves the configuration's. */
  readonly idleTimeout?: number | null | undefined;
  readonly workerTtl?: number | null | undefined;
  readonly allowedFailures?: number | undefined;
  readonly validate?: boolean | undefined;
  readonly schedulerFile?: string | undefined;
}

/** @throws {ConfigError} where a value is not what its key needs. */
export function readSettings(config: Config, overrides: SettingsOverrides = {}): SchedulerSettings {
  const scheduler = (key: string): string => `distributed.scheduler.${key}`;
  if (config.get(scheduler("pickle"), true) === false) {
    throw new ConfigError(
      "distributed.scheduler.pickle: pickles can no longer be refused; please remove this configuration to start the scheduler",
    );
  }
  const terminate = config.get("distributed.worker.memory.terminate");
  const saturation = config.get(scheduler("worker-saturation"));
  const core: CoreConfig = {
    ...DEFAULT_CORE_CONFIG,
    allowedFailures: overrides.allowedFailures ?? config.getNumber(scheduler("allowed-failures")),
    defaultDataSize: config.getBytes(scheduler("default-data-size")) ?? DEFAULT_CORE_CONFIG.defaultDataSize,
    unknownTaskDuration: config.getSeconds(scheduler("unknown-task-duration")) ?? 0.5,
    defaultTaskDurations: readDurations(config),
    bandwidth: config.getBytes(scheduler("bandwidth")) ?? DEFAULT_CORE_CONFIG.bandwidth,
    workerSaturation:
      saturation === "inf" ? Number.POSITIVE_INFINITY : config.getNumber(scheduler("worker-saturation")),
    rootishTaskgroup: config.getNumber(scheduler("rootish-taskgroup")),
    rootishTaskgroupDependencies: config.getNumber(scheduler("rootish-taskgroup-dependencies")),
    noWorkersTimeout: config.getSeconds(scheduler("no-workers-timeout")),
    // Python's `or`: zero is "not given".
    workerTtl: overrides.workerTtl || config.getSeconds(scheduler("worker-ttl")),
    idleTimeout: overrides.idleTimeout || config.getSeconds(scheduler("idle-timeout")),
    memoryRecentToOldTime: config.getSeconds("distributed.worker.memory.recent-to-old-time") ?? 30,
    memoryTerminate: terminate !== false && terminate !== null,
    logLength: config.getLength("distributed.admin.low-level-log-length"),
    erredTasksMaxHistory: config.getLength("distributed.diagnostics.erred-tasks.max-history"),
    computationsMaxHistory: config.getLength("distributed.diagnostics.computations.max-history"),
    validate: overrides.validate ?? config.getBoolean(scheduler("validate")),
    makeException,
  };
  return Object.freeze({
    core,
    logLength: config.getLength("distributed.admin.log-length"),
    lowLevelLogLength: config.getLength("distributed.admin.low-level-log-length"),
    eventsCleanupDelayMs: config.getMs(scheduler("events-cleanup-delay")) ?? 3_600_000,
    nativeGraphs: config.getBoolean("dask-ts.scheduler.native-graphs"),
    blockedHandlers: config.getStrings(scheduler("blocked-handlers")),
    contactAddress: config.getString(scheduler("contact-address")),
    defaultScheme: config.getString("distributed.comm.default-scheme") ?? "tcp",
    reuseBroadcastComm: config.getBoolean(scheduler("reuse-broadcast-comm")),
    targetDuration: config.getSeconds("distributed.adaptive.target-duration") ?? 5,
    taskStreamLength: Math.max(
      config.getLength(scheduler("dashboard.status.task-stream-length")),
      config.getLength(scheduler("dashboard.tasks.task-stream-length")),
    ),
    httpRoutes: config.getStrings(scheduler("http.routes")),
    apiToken: String(config.get(scheduler("http.api-token"), null) ?? "") || null,
    allowedOrigins: config.getStrings(scheduler("dashboard.bokeh-application.allow_websocket_origin")),
    dashboardLink: config.getString("distributed.dashboard.link") ?? "{scheme}://{host}:{port}/status",
    prometheusNamespace: config.getString("distributed.dashboard.prometheus.namespace") ?? "dask",
    rebalance: {
      measure: config.getString("distributed.worker.memory.rebalance.measure") ?? "optimistic",
      senderMin: config.getNumber("distributed.worker.memory.rebalance.sender-min"),
      recipientMax: config.getNumber("distributed.worker.memory.rebalance.recipient-max"),
      gap: config.getNumber("distributed.worker.memory.rebalance.sender-recipient-gap"),
    },
    profileCycle: config.getSeconds("distributed.worker.profile.cycle", "ms") ?? 1,
    schedulerFile: overrides.schedulerFile || null,
  });
}

function readDurations(config: Config): ReadonlyMap<string, number> {
  const key = "distributed.scheduler.default-task-durations";
  const durations = new Map<string, number>();
  const tree = config.get(key, {});
  if (tree === null || typeof tree !== "object") return durations;
  for (const prefix of Object.keys(tree)) {
    // A prefix may hold dots, which a key lookup would take apart.
    if (prefix.includes(".")) continue;
    const seconds = config.getSeconds(`${key}.${prefix}`);
    if (seconds !== null) durations.set(prefix, seconds);
  }
  return durations;
}
