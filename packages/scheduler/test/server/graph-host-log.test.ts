import { Logger, type LogRecord } from "@dask-ts/protocol";
import { expect, it } from "vitest";
import { logChildLine } from "../../src/server/graph-host-log.ts";

it("takes a line of a Python child for the record that it is, with all its lines", () => {
  const seen: LogRecord[] = [];
  const log = new Logger("distributed.scheduler", (record) => seen.push(record));
  logChildLine(log, "warn", "INFO - dask_ts.graph_host - ready");
  logChildLine(
    log,
    "warn",
    "2026-01-02 03:04:05,678 - distributed.preloading - INFO - Creating preload: a = 1\u001eb = 2",
  );
  logChildLine(log, "warn", "something that a library prints");
  expect(seen.map(({ level, logger, message }) => [level, logger, message])).toEqual([
    ["INFO", "dask_ts.graph_host", "ready"],
    ["INFO", "distributed.preloading", "Creating preload: a = 1\nb = 2"],
    ["WARNING", "dask_ts.graph_host", "something that a library prints"],
  ]);
});
