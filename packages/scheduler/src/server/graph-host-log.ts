/** What the graph host prints, as records of the scheduler's log. */
import type { LevelName, Logger } from "@dask-ts/protocol";

const LEVEL_NAMES: ReadonlySet<string> = new Set(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]);

/** What the child writes for a newline within a record (dask_ts.bridge_log). */
const NEWLINE = "\u001e";

/** A line of the graph host: under the logger and at the level that it names, where it is a log line of Python. */
export function logChildLine(log: Logger, level: "info" | "warn" | "error", line: string): void {
  const own = /^([A-Z]+) - ([\w.]+) - (.*)$/.exec(line);
  if (own !== null && LEVEL_NAMES.has(own[1] as string)) {
    log.write(own[1] as LevelName, (own[3] as string).replaceAll(NEWLINE, "\n"), own[2]);
    return;
  }
  const stock = /^\d{4}-\d\d-\d\d \S+ - ([\w.]+) - ([A-Z]+) - (.*)$/.exec(line);
  if (stock !== null && LEVEL_NAMES.has(stock[2] as string)) {
    log.write(stock[2] as LevelName, (stock[3] as string).replaceAll(NEWLINE, "\n"), stock[1]);
    return;
  }
  log.write(level === "error" ? "ERROR" : level === "warn" ? "WARNING" : "INFO", line, "dask_ts.graph_host");
}
