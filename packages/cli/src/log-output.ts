/**
 * Where the log goes: stderr, readable on a terminal, JSON otherwise. Lines that deployers parse (`Scheduler at:` and
 * the like; SSHCluster, cloudprovider, batch scripts) are always in stock's plain format.
 */
import { type Config, formatRecord, type LevelName, type LogRecord, type LogSink } from "@dask-ts/protocol";
import { pino } from "pino";
import pretty from "pino-pretty";
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
  return {
    sink,
    write: (level, message, logger = name) => sink({ created: Date.now() / 1000, level, logger, message }),
  };
}

/** Python's numbers for its levels. */
const SEVERITY: { readonly [level: string]: number } = { DEBUG: 10, INFO: 20, WARNING: 30, ERROR: 40, CRITICAL: 50 };

/** The old-style `logging` section of Dask's configuration: logger → level, inherited along the dots. */
function thresholds(config: Config): (logger: string) => number {
  const section = config.get("logging", {});
  const levels = new Map<string, number>();
  if (typeof section === "object" && section !== null && !Array.isArray(section)) {
    for (const [logger, level] of Object.entries(section)) {
      const severity = SEVERITY[String(level).toUpperCase()];
      if (severity !== undefined) levels.set(logger, severity);
    }
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

/** Makes the function that writes records. Writing is synchronous: nothing is lost when the process ends. */
function logOutput(format: LogFormat): LogSink {
  if (format === "text") return writePlain;
  const readable = format === "auto" && process.stderr.isTTY;
  const destination = readable
    ? pretty({ destination: 2, sync: true, translateTime: "SYS:yyyy-mm-dd HH:MM:ss.l", ignore: "logger" })
    : pino.destination({ dest: 2, sync: true });
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
  process.stderr.write(`${formatRecord(record)}\n`);
}
