/**
 * Where the log goes: stderr, readable on a terminal, JSON otherwise. Lines that deployers parse (`Scheduler at:` and
 * the like; SSHCluster, cloudprovider, batch scripts) are always in stock's plain format.
 */
import {
  type Config,
  type ConfigTree,
  formatRecord,
  type LevelName,
  type LogRecord,
  type LogSink,
} from "@dask-ts/protocol";
import { pino } from "pino";
import pretty from "pino-pretty";
import { writeStderr } from "./stderr.ts";
import { UsageError } from "./worker-layout.ts";

type LogFormat = "auto" | "text" | "json";

/** Markers of the lines that programs look for; see docs/deviations.md. */
const PARSED = /(Scheduler at:|[Ww]orker at:|Nanny at:|Registered to:|dashboard at:)/;

const PINO_LEVELS: { readonly [level in LevelName]: "debug" | "info" | "warn" | "error" | "fatal" } = {
  DEBUG: "debug",
  INFO: "info",
  WARNING: "warn",
  ERROR: "error",
  CRITICAL: "fatal",
};

/**
 * @param format `--log-format`, else `DASK_TS_LOG_FORMAT`, else auto.
 * @throws {UsageError} for an unknown format.
 */
function parseLogFormat(format: string | undefined, env: NodeJS.ProcessEnv): LogFormat {
  const wanted = format ?? env["DASK_TS_LOG_FORMAT"] ?? "auto";
  if (wanted === "auto" || wanted === "text" || wanted === "json") return wanted;
  throw new UsageError(`--log-format takes text, json or auto, not "${wanted}"`);
}

/** A command's log: its own lines, and the sink for those of the scheduler or the workers. */
export interface Log {
  readonly sink: LogSink;
  write(level: LevelName, message: string, logger?: string): void;
}

/**
 * @param name of the command's own logger.
 * @throws {UsageError} for an unknown `--log-format`.
 */
export function openLog(format: string | undefined, name: string, config: Config): Log {
  const output = logOutput(parseLogFormat(format, process.env));
  const threshold = thresholds(config);
  const sink: LogSink = (record) => {
    if ((SEVERITY[record.level] ?? 20) >= threshold(record.logger)) output(record);
  };
  const log: Log = {
    sink,
    write: (level, message, logger = name) => sink({ created: Date.now() / 1000, level, logger, message }),
  };
  const python = pythonLogging(config);
  if (python !== undefined) {
    log.write("WARNING", `${python} configures Python's logging and is not read here; give levels by logger instead`);
  }
  return log;
}

/** Python's numbers for its levels. */
const SEVERITY: { readonly [level: string]: number } = { DEBUG: 10, INFO: 20, WARNING: 30, ERROR: 40, CRITICAL: 50 };

/** The `logging` section, which may be below `distributed` (distributed.config._find_logging_config). */
function loggingSection(config: Config): ConfigTree {
  const section = config.get("distributed.logging", config.get("logging", {}));
  return typeof section === "object" && section !== null && !Array.isArray(section) ? section : {};
}

/** The key of a configuration that only Python's logging module understands. */
function pythonLogging(config: Config): string | undefined {
  if (config.has("logging-file-config")) return "logging-file-config";
  return "version" in loggingSection(config) ? "logging" : undefined;
}

/** The old style of the section: logger → level, inherited along the dots. */
function thresholds(config: Config): (logger: string) => number {
  const levels = new Map<string, number>();
  for (const [logger, level] of Object.entries(loggingSection(config))) {
    const severity = SEVERITY[String(level).toUpperCase()];
    if (severity !== undefined) levels.set(logger, severity);
  }
  const known = new Map<string, number>();
  const find = (logger: string): number => {
    const dot = logger.lastIndexOf(".");
    return levels.get(logger) ?? (dot < 0 ? 20 : find(logger.slice(0, dot)));
  };
  return (logger) => {
    let severity = known.get(logger);
    if (severity === undefined) {
      severity = find(logger);
      known.set(logger, severity);
    }
    return severity;
  };
}

/** Makes the function that writes records. */
function logOutput(format: LogFormat): LogSink {
  if (format === "text") return writePlain;
  const readable = format === "auto" && process.stderr.isTTY;
  const destination = readable
    ? pretty({ destination: 2, sync: true, translateTime: "SYS:yyyy-mm-dd HH:MM:ss.l", ignore: "logger" })
    : { write: writeStderr };
  const logger = pino(
    { base: null, level: "debug", formatters: { level: (label) => ({ level: label }) } },
    destination,
  );
  return (record) => {
    if (!readable && PARSED.test(record.message)) writePlain(record);
    else logger[PINO_LEVELS[record.level]]({ logger: record.logger }, record.message);
  };
}

function writePlain(record: LogRecord): void {
  writeStderr(`${formatRecord(record)}\n`);
}
