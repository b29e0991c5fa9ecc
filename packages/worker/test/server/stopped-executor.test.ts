import { Logger, LogRing } from "@dask-ts/protocol";
import { expect, test } from "vitest";
import { StoppedExecutorWatch } from "../../src/server/stopped-executor.ts";

test("kills an executor that is stopped for too long, and no other", () => {
  const killed: number[] = [];
  const logs = new LogRing(10);
  let state: string | undefined = "S";
  const system = { state: () => state, kill: (pid: number) => void killed.push(pid) };
  const watch = new StoppedExecutorWatch(1000, new Logger("distributed.worker", logs.sink), system);
  watch.check(undefined, 0);
  watch.check(7, 5000);
  state = "T";
  watch.check(7, 6000);
  watch.check(7, 6999);
  state = "R"; // continued in between
  watch.check(7, 7000);
  state = "T";
  watch.check(7, 7100);
  watch.check(8, 8099); // another one
  watch.check(8, 9000);
  expect(killed).toEqual([]);
  watch.check(8, 9099);
  expect(killed).toEqual([8]);
  expect(logs.lines().join()).toMatch(/The executor 8 has been stopped for 1 s; it is killed/);
});
