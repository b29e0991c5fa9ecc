/**
 * The scheduler's log: records go to a sink (the command writes them to stderr in stock's format) and into a ring that
 * `logs` and `get_logs` read (distributed.node.ServerNode.get_logs).
 */
import { float, type Value } from "@dask-ts/protocol";

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

/** `distributed.admin.log-format` of stock, in local time. */
export function formatRecord(record: LogRecord): string {
  const at = new Date(record.created * 1000);
  const local = new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString();
  const asctime = `${local.slice(0, 10)} ${local.slice(11, 19)},${local.slice(20, 23)}`;
  return `${asctime} - ${record.logger} - ${record.level} - ${record.message}`;
}

/** The last records, at most `capacity` (`distributed.admin.log-length`). */
class LogRing {
  readonly #capacity: number;
  #records: LogRecord[] = [];

  constructor(capacity: number) {
    this.#capacity = Math.max(1, capacity);
  }

  add(record: LogRecord): void {
    this.#records.push(record);
    // Cut in blocks: a shift per record would move the whole array each time.
    if (this.#records.length >= 2 * this.#capacity) this.#records = this.#records.slice(-this.#capacity);
  }

  newestFirst(): LogRecord[] {
    return this.#records.slice(-this.#capacity).reverse();
  }
}

/** Writes lines under one logger name and keeps the last of them. */
export class Log {
  readonly #logger: string;
  readonly #sink: LogSink | undefined;
  readonly #ring: LogRing;

  /** @param capacity records kept for `get_logs`. */
  constructor(logger: string, sink?: LogSink, capacity: number | LogRing = 10_000) {
    this.#logger = logger;
    this.#sink = sink;
    this.#ring = typeof capacity === "number" ? new LogRing(capacity) : capacity;
  }

  /** Another logger name over the same sink and ring (`distributed.stealing`). */
  named(logger: string): Log {
    return new Log(logger, this.#sink, this.#ring);
  }

  write(level: LevelName, message: string): void {
    const record: LogRecord = { created: Date.now() / 1000, level, logger: this.#logger, message };
    // Stock's loggers stand at INFO: what is below reaches neither file nor ring.
    if (level !== "DEBUG") this.#ring.add(record);
    this.#sink?.(record);
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
  /** An error line; what was caught follows it, as Python's `logger.exception` writes it. */
  error(message: string, cause?: unknown): void {
    this.write("ERROR", cause === undefined ? message : `${message}\n${describeError(cause)}`);
  }

  /** Records, newest first. */
  records(): LogRecord[] {
    return this.#ring.newestFirst();
  }

  /**
   * The reply of `get_logs`: `[level, line]`, newest first; `[created, level, line]` with timestamps.
   *
   * @param start records made before this time (seconds) are left out.
   * @param n at most so many; null for all.
   */
  getLogs(start: number, n: number | null, timestamps: boolean): Value {
    const out: Value[] = [];
    for (const record of this.#ring.newestFirst()) {
      if (record.created < start || (n !== null && out.length >= n)) break;
      const line = formatRecord(record);
      out.push(timestamps ? [float(record.created), record.level, line] : [record.level, line]);
    }
    return out;
  }
}

/** One line for an expected error (it has a code), the stack for an unexpected one. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncaused by ${describeError(error.cause)}`;
  const expected = "code" in error && typeof error.code === "string";
  return `${expected ? `${error.name}: ${error.message}` : (error.stack ?? String(error))}${cause}`;
}

const LEVEL_NAMES: ReadonlySet<string> = new Set(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]);

/** A line of the graph host: under the logger and at the level that it names, where it is a log line of Python. */
export function logChildLine(log: Log, level: "info" | "warn" | "error", line: string): void {
  const own = /^([A-Z]+) - ([\w.]+) - (.*)$/.exec(line);
  if (own !== null && LEVEL_NAMES.has(own[1] as string)) {
    log.named(own[2] as string).write(own[1] as LevelName, own[3] as string);
    return;
  }
  const stock = /^\d{4}-\d\d-\d\d \S+ - ([\w.]+) - ([A-Z]+) - (.*)$/.exec(line);
  if (stock !== null && LEVEL_NAMES.has(stock[2] as string)) {
    log.named(stock[1] as string).write(stock[2] as LevelName, stock[3] as string);
    return;
  }
  log.named("dask_ts.graph_host").write(level === "error" ? "ERROR" : level === "warn" ? "WARNING" : "INFO", line);
}
