/** What the worker takes from the machine: memory, cores, directories, figures. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir, totalmem } from "node:os";
import { join } from "node:path";
import { Float, loadConfig, type Value } from "@dask-ts/protocol";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Digests } from "../../src/server/digests.ts";
import { SystemMonitor } from "../../src/server/monitor.ts";
import { RestartPace } from "../../src/server/restart-pace.ts";
import { createScratchDirectory } from "../../src/server/scratch-directory.ts";
import { DEFAULT_WORKER_SETTINGS, workerSettings } from "../../src/server/settings.ts";
import { cpuCount, systemMemoryLimit } from "../../src/server/system.ts";

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), "dask-ts-test-"));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

function files(contents: Record<string, string>): (path: string) => string {
  return (path) => {
    const text = contents[path];
    if (text === undefined) throw new Error("no such file");
    return text;
  };
}

test("the memory limit is the least of host, cgroups and RLIMIT_RSS", () => {
  const v2 = "/sys/fs/cgroup/memory.max";
  expect(systemMemoryLimit(files({}))).toBe(totalmem());
  expect(systemMemoryLimit(files({ [v2]: "max\n" }))).toBe(totalmem());
  expect(systemMemoryLimit(files({ [v2]: "1000000\n" }))).toBe(1_000_000);
  expect(systemMemoryLimit(files({ "/sys/fs/cgroup/memory/memory.limit_in_bytes": "5000\n", [v2]: "9000" }))).toBe(
    5000,
  );
  const limits =
    "Limit  Soft Limit  Hard Limit  Units\nMax resident set          unlimited            700             bytes\n";
  expect(systemMemoryLimit(files({ "/proc/self/limits": limits }))).toBe(700);
});

test("the groups of a systemd unit or a job count, in both versions of cgroups", () => {
  const v1 = "/sys/fs/cgroup/memory";
  const v2 = "/sys/fs/cgroup";
  const inV2 = { "/proc/self/cgroup": "0::/system.slice/dask.service\n", [`${v2}/memory.max`]: "max\n" };
  expect(systemMemoryLimit(files(inV2))).toBe(totalmem());
  expect(systemMemoryLimit(files({ ...inV2, [`${v2}/system.slice/dask.service/memory.max`]: "900\n" }))).toBe(900);
  expect(
    systemMemoryLimit(
      files({
        ...inV2,
        [`${v2}/system.slice/memory.max`]: "800\n",
        [`${v2}/system.slice/dask.service/memory.high`]: "850\n",
      }),
    ),
  ).toBe(800);
  const inV1 = { "/proc/self/cgroup": "9:cpu,memory:/slurm/job:1\n8:cpuset:/\n0::/elsewhere\n" };
  expect(systemMemoryLimit(files({ ...inV1, [`${v1}/slurm/job:1/memory.limit_in_bytes`]: "600\n" }))).toBe(600);
  // An absurd number stands for no limit.
  const unlimited = { [`${v1}/slurm/memory.limit_in_bytes`]: "9223372036854771712\n" };
  expect(systemMemoryLimit(files({ ...inV1, ...unlimited }))).toBe(totalmem());
});

test("the cores are those of the quota, rounded up", () => {
  expect(cpuCount(files({ "/sys/fs/cgroup/cpu.max": "50000 100000\n" }))).toBe(1);
  for (const directory of ["cpuacct,cpu", "cpu,cpuacct", "cpu"]) {
    const v1 = `/sys/fs/cgroup/${directory}/cpu.cfs`;
    const limited = (quota: string): number =>
      cpuCount(files({ [`${v1}_quota_us`]: quota, [`${v1}_period_us`]: "100000" }));
    expect(limited("-1")).toBe(cpuCount(files({})));
    expect(limited("90000")).toBe(1);
  }
});

test("a scratch directory is made, cleared and removed; those of dead processes go", async () => {
  const space = join(base, "dask-scratch-space");
  mkdirSync(join(space, "worker-dead"), { recursive: true });
  writeFileSync(join(space, "worker-dead.owner"), `${hostname()} 999999999 1\n`);
  mkdirSync(join(space, "worker-elsewhere"));
  writeFileSync(join(space, "worker-elsewhere.owner"), "another-host 1 1\n");
  mkdirSync(join(space, "worker-stock"));
  writeFileSync(join(space, "worker-stock.dirlock"), "");
  const purged: string[] = [];
  const first = createScratchDirectory(base, (path) => purged.push(path));
  expect(purged).toEqual([join(space, "worker-dead")]);
  // by and by: gigabytes must not hold up the event loop
  expect(existsSync(join(space, "worker-dead"))).toBe(true);
  await first.purged;
  expect(existsSync(join(space, "worker-dead"))).toBe(false);
  expect(existsSync(join(space, "worker-elsewhere")) && existsSync(join(space, "worker-stock"))).toBe(true);

  const second = createScratchDirectory(base, (path) => purged.push(path));
  expect(purged).toHaveLength(1);
  writeFileSync(join(first.path, "spilled"), "x");
  await first.clear();
  expect(readdirSync(first.path)).toEqual([]);
  await first.release();
  await first.release();
  await second.release();
  expect(readdirSync(space).sort()).toEqual([
    "worker-elsewhere",
    "worker-elsewhere.owner",
    "worker-stock",
    "worker-stock.dirlock",
  ]);
});

test("an executor that keeps dying is replaced more and more slowly", () => {
  const pace = new RestartPace();
  const pauses = Array.from({ length: 15 }, () => pace.died(0));
  expect(pauses.slice(0, 8).every((pause) => pause === 0)).toBe(true);
  expect(pauses.slice(8)).toEqual([1, 2, 4, 8, 16, 30, 30]);
  expect(pace.died(61)).toBe(0);
});

test("digests add up, with and without span, and start anew", () => {
  const digests = new Digests();
  digests.addExecute("span", "inc", "thread-noncpu", "seconds", 1.5);
  digests.addExecute(null, "inc", "thread-noncpu", "seconds", 2);
  digests.add(["latency"], 0.25);
  const { totals, spans } = digests.take();
  const entries = (map: Map<Value, Value>): [string, number][] =>
    [...map].map(([key, value]) => [String(key), Number(value)]);
  expect(entries(totals)).toEqual([
    ["latency", 0.25],
    ["execute,inc,thread-noncpu,seconds", 3.5],
  ]);
  expect(entries(spans)).toEqual([["execute,span,inc,thread-noncpu,seconds", 1.5]]);
  expect(digests.take().totals.size).toBe(0);
});

test("digests of user code keep their labels, their kind of number and stand once", () => {
  const digests = new Digests();
  digests.addExecute("span", "inc", "memory-read", "count", 1);
  digests.addMetered("span", "inc", "memory-read", "count", 2);
  digests.addMetered("span", "inc", ["a", 1], "widgets", new Float(3));
  digests.addNamed(["p2p", "span", "background-comms", "process", "seconds"], 0.5);
  digests.addNamed("tick-duration", 0.25);
  digests.addNamed("tick-duration", 1);
  const { totals, spans } = digests.take();
  expect([...totals]).toEqual([
    ["tick-duration", 1.25],
    [["execute", "inc", "memory-read", "count"], 3],
    [["execute", "inc", ["a", 1], "widgets"], new Float(3)],
    [["p2p", "background-comms", "process", "seconds"], 0.5],
  ]);
  expect([...spans.keys()]).toEqual([
    ["execute", "span", "inc", "memory-read", "count"],
    ["execute", "span", "inc", ["a", 1], "widgets"],
    ["p2p", "span", "background-comms", "process", "seconds"],
  ]);
});

test("the monitor measures a process and answers ranges", () => {
  const monitor = new SystemMonitor(process.pid, 2);
  for (let i = 0; i < 5; i++) monitor.update();
  const metrics = monitor.metrics();
  expect(metrics.get("memory")).toBeGreaterThan(1e6);
  expect([...(metrics.get("host_net_io") as Map<string, Value>).keys()]).toEqual(["read_bps", "write_bps"]);
  const info = monitor.info(false, 0);
  expect(info.get("count")).toBe(6);
  expect((info.get("range_query") as Map<string, Value[]>).get("cpu")).toHaveLength(2);
  expect((monitor.info(false, 6).get("range_query") as Map<string, Value[]>).get("cpu")).toEqual([]);
});

test("the settings of Dask's defaults are the built-in ones; a configuration changes them", () => {
  const env = {
    DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE: "False",
    DASK_DISTRIBUTED__WORKER__CONNECTIONS__INCOMING: "3",
  };
  const load = (variables: Record<string, string>) => workerSettings(loadConfig({ env: variables, paths: [] }));
  expect(load({})).toEqual(DEFAULT_WORKER_SETTINGS);
  const settings = load(env);
  expect(settings.memory.pause).toBe(false);
  expect(settings.connectionsIncoming).toBe(3);
});
