/**
 * The log of a server: records go to sinks (the command writes them to stderr) and into a ring that `get_logs` reads
 * (distributed.node.ServerNode.get_logs).
 */
import { float, type Value } from "./msgpack/value.ts";

/** Python's level names; clients colour by them. */
export type LevelName = "DEBUG" | "INFO" | "WARNING" | "ERROR" | "CRITICAL";

export interface LogRecord {
  /** Seconds since the epoch. */
  readonly created: number;
  readonly level: LevelName;
  /** The logger's dotted name, as in stock. */
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

/** `distributed.admin.log-format` of stock, in local time: tools parse such lines. */
export function formatRecord(record: LogRecord): string {
  const at = new Date(record.created * 1000);
  const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString();
  const asctime = `${local.slice(0, 10)} ${local.slice(11, 19)},${local.slice(20, 23)}`;
  return `${asctime} - ${record.logger} - ${record.level} - ${record.message}`;
}

/** The last records, at most `capacity` (`distributed.admin.log-length`). */
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

/** Writes under one logger name. */
export class Logger {
  readonly #name: string;
  readonly #sinks: readonly LogSink[];

  constructor(name: string, ...sinks: LogSink[]) {
    this.#name = name;
    this.#sinks = sinks;
  }

  /** A logger below this one: `distributed.worker` → `distributed.worker.memory`. */
  child(name: string): Logger {
    return this.named(`${this.#name}.${name}`);
  }

  /** A logger of another name that writes to the same places. */
  named(name: string): Logger {
    return new Logger(name, ...this.#sinks);
  }

  write(level: LevelName, message: string, logger: string = this.#name): void {
    const record: LogRecord = { created: Date.now() / 1000, level, logger, message };
    for (const sink of this.#sinks) sink(record);
  }

  debug(message: string): void {
    this.write("DEBUG", message);
  }

  info(message: string): void {
    this.write("INFO", message);
  }

  warning(message: string): void {
    this.write("WARNING", message);
  }

  /** An error line; what was caught follows it as Python's `logger.exception` writes it. */
  error(message: string, cause?: unknown): void {
    this.write("ERROR", cause === undefined ? message : `${message}\n${describeError(cause)}`);
  }
}

/** One line for an expected error (it has a code), the stack for an unexpected one. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncaused by ${describeError(error.cause)}`;
  const expected = "code" in error && typeof error.code === "string";
  return `${expected ? `${error.name}: ${error.message}` : (error.stack ?? String(error))}${cause}`;
}
