/**
 * The worker's log: records go to a sink (the command writes them to stderr in stock's format) and into a ring that
 * `get_logs` reads (distributed.node.ServerNode.get_logs).
 */
import { float, type Value } from "@dask-ts/protocol";

/** Python's level names; clients colour by them. */
export type LevelName = "DEBUG" | "INFO" | "WARNING" | "ERROR" | "CRITICAL";

export interface LogRecord {
  /** Seconds since the epoch. */
  readonly created: number;
  readonly level: LevelName;
  /** The logger's dotted name, `distributed.worker`. */
  readonly logger: string;
  readonly message: string;
}

export type LogSink = (record: LogRecord) => void;

/** Level from Python's name, whatever its case; unknown names count as INFO. */
export function levelName(name: string): LevelName {
  const upper = name.toUpperCase();
  if (upper === "WARN") return "WARNING";
  if (upper === "FATAL") return "CRITICAL";
  return upper === "DEBUG" || upper === "WARNING" || upper === "ERROR" || upper === "CRITICAL" ? upper : "INFO";
}

/** `%(asctime)s - %(name)s - %(levelname)s - %(message)s` in local time, as tools that parse stock's logs expect it. */
export function formatRecord(record: LogRecord): string {
  return `${asctime(record.created)} - ${record.logger} - ${record.level} - ${record.message}`;
}

function asctime(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (n: number): string => String(n).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time},${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** The last `capacity` records (`distributed.admin.log-length`). */
export class LogRing {
  readonly #capacity: number;
  #records: LogRecord[] = [];

  constructor(capacity: number) {
    this.#capacity = Math.max(1, capacity);
  }

  /** Takes what a logger at Dask's default level lets through. */
  readonly sink: LogSink = (record) => {
    if (record.level !== "DEBUG") this.add(record);
  };

  add(record: LogRecord): void {
    this.#records.push(record);
    // Cut in blocks: a shift per record would move the whole array each time.
    if (this.#records.length >= 2 * this.#capacity) this.#records = this.#records.slice(-this.#capacity);
  }

  /**
   * The reply of `get_logs`: `[level, line]`, newest first; `[created, level, line]` with timestamps.
   *
   * @param start records made before this time (seconds) are left out.
   * @param n at most so many; all where it is 0 or null.
   */
  get(start = 0, n: number | null = null, timestamps = false): Value {
    const out: Value[] = [];
    const limit = Math.min(n === null || n === 0 ? Number.POSITIVE_INFINITY : n, this.#capacity);
    for (let i = this.#records.length - 1; i >= 0 && out.length < limit; i--) {
      const record = this.#records[i];
      if (record === undefined || record.created < start) break;
      const line = formatRecord(record);
      out.push(timestamps ? [float(record.created), record.level, line] : [record.level, line]);
    }
    return out;
  }

  /** The lines, oldest first. */
  lines(): string[] {
    return this.#records.slice(-this.#capacity).map(formatRecord);
  }
}

/** A text that an executor has formatted already, without the time, logger and level in front of it. */
export function plainText(text: string): string {
  return text.replace(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - \S+ - [A-Z]+ - /, "");
}

/** Writes under one logger name. */
export class Logger {
  readonly #name: string;
  readonly #sinks: readonly LogSink[];

  constructor(name: string, sinks: readonly LogSink[]) {
    this.#name = name;
    this.#sinks = sinks;
  }

  /** A logger below this one: `distributed.worker` → `distributed.worker.memory`. */
  child(name: string): Logger {
    return new Logger(`${this.#name}.${name}`, this.#sinks);
  }

  /** A logger of another name that writes to the same places. */
  sibling(name: string): Logger {
    return new Logger(name, this.#sinks);
  }

  log(level: LevelName, message: string, logger: string = this.#name): void {
    const record: LogRecord = { created: Date.now() / 1000, level, logger, message };
    for (const sink of this.#sinks) sink(record);
  }

  debug(message: string): void {
    this.log("DEBUG", message);
  }

  info(message: string): void {
    this.log("INFO", message);
  }

  warning(message: string): void {
    this.log("WARNING", message);
  }

  /** An error line; what was caught follows it as Python's `logger.exception` writes it. */
  error(message: string, cause?: unknown): void {
    this.log("ERROR", cause === undefined ? message : `${message}\n${describeError(cause)}`);
  }
}

/** One line for an expected error, the stack for an unexpected one. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncaused by ${describeError(error.cause)}`;
  const isCoded = "code" in error && typeof error.code === "string";
  return `${isCoded ? `${error.name}: ${error.message}` : (error.stack ?? String(error))}${cause}`;
}
