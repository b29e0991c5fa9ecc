/** What the worker reads from Dask's configuration (`distributed.worker.*`), resolved once at start. */
import { type Config, type ConfigValue, loadHttpTls } from "@dask-ts/protocol";
import type { WorkerHttpSettings } from "../http/routes.ts";

export interface WorkerSettings {
  /** `worker.connections.incoming`: transfers to peers at once; false for no limit. */
  readonly connectionsIncoming: number | false;
  /** `worker.connections.outgoing`: transfers from peers at once. */
  readonly connectionsOutgoing: number;
  /** `worker.transfer.message-bytes-limit` */
  readonly transferMessageBytes: number;
  /** `scheduler.default-data-size` */
  readonly defaultDataSize: number;
  /** `scheduler.bandwidth`, bytes per second: what is assumed before anything was measured. */
  readonly bandwidthBytesPerS: number;
  /** `worker.memory.*`: fractions of the limit, false where a threshold is off. */
  readonly memory: {
    readonly transfer: number | false;
    readonly target: number | false;
    readonly spill: number | false;
    readonly pause: number | false;
    readonly terminate: number | false;
    readonly monitorIntervalMs: number;
  };
  /** `admin.log-length`, `admin.low-level-log-length` */
  readonly logLength: number;
  readonly lowLevelLogLength: number;
  /** `admin.system-monitor.interval`, `admin.system-monitor.log-length` */
  readonly monitorIntervalMs: number;
  readonly monitorLogLength: number;
  /** `worker.validate` */
  readonly validate: boolean;
  /** `worker.blocked-handlers`, `nanny.blocked-handlers` */
  readonly blockedHandlers: readonly string[];
  readonly nannyBlockedHandlers: readonly string[];
  /** `worker.resources` */
  readonly resources: ReadonlyMap<string, number>;
  /** `comm.timeouts.connect` */
  readonly connectTimeoutMs: number;
  /** `comm.timeouts.tcp`: how long a peer may be silent before it is looked whether it is there. */
  readonly tcpTimeoutMs: number;
  /** `scheduler.worker-ttl`: how long an executor may be stopped; null for ever. */
  readonly workerTtlMs: number | null;
  /** `temporary-directory` */
  readonly temporaryDirectory: string | null;
  /** `nanny.pre-spawn-environ` and `nanny.environ`: the executor's environment under a nanny. */
  readonly nannyEnvironment: Readonly<Record<string, string>>;
  /** `worker.lifetime.*`, seconds */
  readonly lifetimeS: number | null;
  readonly lifetimeStaggerS: number;
  readonly lifetimeRestart: boolean;
  /** `dask-ts.worker.termination-grace`: milliseconds that a SIGTERM leaves for handing data over; 0 for none. */
  readonly terminationGraceMs: number;
  readonly http: WorkerHttpSettings;
}

/** Dask's own defaults (distributed.yaml). */
export const DEFAULT_WORKER_SETTINGS: WorkerSettings = Object.freeze({
  connectionsIncoming: 10,
  connectionsOutgoing: 50,
  transferMessageBytes: 50_000_000,
  defaultDataSize: 1024,
  bandwidthBytesPerS: 100_000_000,
  memory: Object.freeze({
    transfer: 0.1,
    target: 0.6,
    spill: 0.7,
    pause: 0.8,
    terminate: 0.95,
    monitorIntervalMs: 100,
  }),
  logLength: 10_000,
  lowLevelLogLength: 1000,
  monitorIntervalMs: 500,
  monitorLogLength: 7200,
  validate: false,
  blockedHandlers: [],
  nannyBlockedHandlers: [],
  resources: new Map<string, number>(),
  connectTimeoutMs: 30_000,
  tcpTimeoutMs: 30_000,
  workerTtlMs: 300_000,
  temporaryDirectory: null,
  nannyEnvironment: Object.freeze({
    MALLOC_TRIM_THRESHOLD_: "65536",
    OMP_NUM_THREADS: "1",
    MKL_NUM_THREADS: "1",
    OPENBLAS_NUM_THREADS: "1",
  }),
  lifetimeS: null,
  lifetimeStaggerS: 0,
  lifetimeRestart: false,
  terminationGraceMs: 25_000,
  http: Object.freeze({
    routes: ["distributed.http.worker.prometheus", "distributed.http.health", "distributed.http.statics"],
    prometheusNamespace: "dask",
    allowedOrigins: ["*"],
    tls: undefined,
  }),
});

/**
 * The settings of a loaded configuration.
 *
 * @throws {ConfigError} where a value has the wrong type.
 */
export function workerSettings(config: Config): WorkerSettings {
  const defaults = DEFAULT_WORKER_SETTINGS;
  const seconds = (key: string, fallback: number): number => config.getSeconds(key) ?? fallback;
  const ms = (key: string, fallback: number): number => config.getMs(key) ?? fallback;
  const incoming = config.get("distributed.worker.connections.incoming");
  const memory = "distributed.worker.memory";
  return Object.freeze({
    connectionsIncoming: incoming === false ? false : config.getNumber("distributed.worker.connections.incoming"),
    connectionsOutgoing: config.getNumber("distributed.worker.connections.outgoing"),
    transferMessageBytes:
      config.getBytes("distributed.worker.transfer.message-bytes-limit") ?? defaults.transferMessageBytes,
    defaultDataSize: config.getBytes("distributed.scheduler.default-data-size") ?? defaults.defaultDataSize,
    bandwidthBytesPerS: config.getBytes("distributed.scheduler.bandwidth") ?? defaults.bandwidthBytesPerS,
    memory: Object.freeze({
      transfer: fraction(config, `${memory}.transfer`),
      target: fraction(config, `${memory}.target`),
      spill: fraction(config, `${memory}.spill`),
      pause: fraction(config, `${memory}.pause`),
      terminate: fraction(config, `${memory}.terminate`),
      monitorIntervalMs: ms(`${memory}.monitor-interval`, defaults.memory.monitorIntervalMs),
    }),
    logLength: config.getLength("distributed.admin.log-length"),
    lowLevelLogLength: config.getLength("distributed.admin.low-level-log-length"),
    monitorIntervalMs: ms("distributed.admin.system-monitor.interval", defaults.monitorIntervalMs),
    monitorLogLength: config.getLength("distributed.admin.system-monitor.log-length"),
    validate: config.getBoolean("distributed.worker.validate"),
    blockedHandlers: config.getStrings("distributed.worker.blocked-handlers"),
    // Not among the defaults: stock asks for it with `[]`.
    nannyBlockedHandlers: config.has("distributed.nanny.blocked-handlers")
      ? config.getStrings("distributed.nanny.blocked-handlers")
      : [],
    resources: resources(config.get("distributed.worker.resources")),
    connectTimeoutMs: ms("distributed.comm.timeouts.connect", defaults.connectTimeoutMs),
    tcpTimeoutMs: ms("distributed.comm.timeouts.tcp", defaults.tcpTimeoutMs),
    workerTtlMs: config.getMs("distributed.scheduler.worker-ttl"),
    temporaryDirectory: config.getString("temporary-directory"),
    nannyEnvironment: Object.freeze({
      ...environment(config.get("distributed.nanny.pre-spawn-environ")),
      ...environment(config.get("distributed.nanny.environ")),
    }),
    lifetimeS: config.getSeconds("distributed.worker.lifetime.duration"),
    lifetimeStaggerS: seconds("distributed.worker.lifetime.stagger", 0),
    lifetimeRestart: config.getBoolean("distributed.worker.lifetime.restart"),
    terminationGraceMs: config.getMs("dask-ts.worker.termination-grace") ?? 0,
    http: Object.freeze({
      routes: config.getStrings("distributed.worker.http.routes"),
      prometheusNamespace: config.getString("distributed.dashboard.prometheus.namespace") ?? "",
      allowedOrigins: config.getStrings("distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin"),
      tls: loadHttpTls(config),
    }),
  });
}

function fraction(config: Config, key: string): number | false {
  const value = config.get(key);
  return value === false || value === null ? false : config.getNumber(key);
}

function entries(value: ConfigValue): [string, ConfigValue][] {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? Object.entries(value) : [];
}

function resources(value: ConfigValue): ReadonlyMap<string, number> {
  return new Map(entries(value).map(([name, quantity]) => [name, Number(quantity)]));
}

/**
 * Environment variables are texts whatever YAML makes of them. The environment that is there already wins, and null
 * takes a variable out (distributed.nanny._get_env_variables).
 */
function environment(value: ConfigValue): Record<string, string> {
  const set = entries(value).filter(([, text]) => text !== null);
  return Object.fromEntries(set.map(([name, text]) => [name, process.env[name] ?? pythonText(text)]));
}

/** `str()` of what YAML made of it. */
function pythonText(value: ConfigValue): string {
  if (typeof value === "boolean") return value ? "True" : "False";
  return String(value);
}
