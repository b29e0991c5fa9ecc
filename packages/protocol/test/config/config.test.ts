import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type ConfigTree, ConfigError, loadConfig, parseMemoryLimit, parseTimedelta } from "../../src/index.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dask-ts-config-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const defaults = loadConfig({ env: {}, paths: [] });

test("values, whatever the spelling", () => {
  expect(defaults.get("distributed.scheduler.worker_ttl")).toBe("5 minutes");
  expect(defaults.getSeconds("distributed.scheduler.worker-ttl")).toBe(300);
  expect(defaults.getMs("distributed.worker.memory.monitor-interval")).toBe(100);
  expect(defaults.getBytes("distributed.comm.shard")).toBe(64 * 2 ** 20);
  expect(defaults.getBytes("distributed.worker.memory.max-spill")).toBe(null);
  expect(defaults.getSeconds("distributed.scheduler.idle-timeout")).toBe(null);
  expect(defaults.getNumber("distributed.adaptive.maximum")).toBe(Number.POSITIVE_INFINITY);
  expect(defaults.getBoolean("distributed.scheduler.work-stealing")).toBe(true);
  expect(defaults.getStrings("distributed.scheduler.allowed-imports")).toEqual(["dask", "distributed"]);
  expect(defaults.get("distributed.comm.ucx", null)).toBe(null);
  expect(() => defaults.get("distributed.nope")).toThrow("no configuration key 'distributed.nope'");
  expect(() => defaults.get("distributed.version.more")).toThrow(ConfigError);
});

test("nothing changes it", () => {
  const scheduler = defaults.get("distributed.scheduler") as ConfigTree;
  expect(() => {
    scheduler["worker-ttl"] = "1s";
  }).toThrow(TypeError);
  const other = defaults.with({ "distributed.scheduler.worker_ttl": "1s", "scheduler-address": "tcp://a:1" }, "flags");
  expect(other.getSeconds("distributed.scheduler.worker-ttl")).toBe(1);
  expect(other.origin("distributed.scheduler.worker-ttl")).toBe("flags");
  expect(defaults.getSeconds("distributed.scheduler.worker-ttl")).toBe(300);
});

test("the search path, and where a value comes from", () => {
  const [root, home, file] = [join(folder, "root"), join(folder, "home"), join(folder, "mine.yaml")];
  mkdirSync(root);
  mkdirSync(join(home, ".config", "dask"), { recursive: true });
  writeFileSync(join(root, "b.yaml"), "distributed: {comm: {shard: 2MiB, offload: 2MiB, retry: {count: 2}}}");
  writeFileSync(join(root, "a.yaml"), "distributed: {comm: {shard: 1MiB, offload: 1MiB, retry: {count: 1}}}");
  writeFileSync(join(root, "ignored.txt"), "distributed: 1");
  writeFileSync(join(home, ".config", "dask", "x.json"), '{"distributed": {"comm": {"offload": "3MiB"}}}');
  writeFileSync(file, "distributed: {comm: {socket_backlog: 7}}");
  const config = loadConfig({
    env: { DASK_ROOT_CONFIG: root, DASK_CONFIG: file, DASK_DISTRIBUTED__COMM__RETRY__COUNT: "5", VIRTUAL_ENV: folder },
    home,
    overrides: { "distributed.comm.default-scheme": "tls" },
  });
  const seen = (key: string): unknown[] => [
    config.get(`distributed.comm.${key}`),
    config.origin(`distributed.comm.${key}`),
  ];
  expect(seen("shard")).toEqual(["2MiB", join(root, "b.yaml")]);
  expect(seen("offload")).toEqual(["3MiB", join(home, ".config", "dask", "x.json")]);
  expect(seen("socket-backlog")).toEqual([7, file]);
  expect(seen("retry.count")).toEqual([5, "environment"]);
  expect(seen("default-scheme")).toEqual(["tls", "command line"]);
  expect(seen("compression")).toEqual([false, "default"]);
});

describe("wrong values say which key, and from where", () => {
  test.each([
    ["DASK_DISTRIBUTED__COMM__SHARD", "5 foos", "distributed.comm.shard: Could not interpret 'foos' as a byte unit"],
    ["DASK_DISTRIBUTED__COMM__SHARD", "[1]", "distributed.comm.shard must be a size, not [1] (from environment)"],
  ])("%s=%s", (name, value, text) => {
    const config = loadConfig({ env: { [name]: value }, paths: [] });
    expect(() => config.getBytes("distributed.comm.shard")).toThrow(text);
  });
  test("a malformed file", () => {
    const file = join(folder, "bad.yaml");
    writeFileSync(file, "a: [1");
    expect(() => loadConfig({ env: {}, paths: [file] })).toThrow(`A dask config file at '${file}' is malformed`);
    writeFileSync(file, "- 1");
    expect(() => loadConfig({ env: {}, paths: [file] })).toThrow(
      /must have a dict as the top level object, got a list/,
    );
    expect(() => loadConfig({ env: { DASK_INTERNAL_INHERIT_CONFIG: "?" }, paths: [] })).toThrow(
      /DASK_INTERNAL_INHERIT/,
    );
  });
});

test("a child that inherits it has the same configuration", () => {
  const config = defaults.with({ "distributed.worker.resources": { GPU: 1 } });
  const child = loadConfig({ env: { DASK_INTERNAL_INHERIT_CONFIG: config.serialize() }, paths: [] });
  expect(child.toObject()).toEqual({
    ...config.toObject(),
    "internal-inherit-config": undefined,
    internal_inherit_config: config.serialize(),
  });
});

test("odd durations are told of", () => {
  const warnings: string[] = [];
  expect(parseTimedelta(".5s", "seconds", (text) => warnings.push(text))).toBe(1.5);
  expect(warnings).toEqual(["the duration '.5s' is read as '1.5s'"]);
});

describe("memory limits", () => {
  const system = { memory: 1000, cores: 4 };
  test.each<[string | number | null, number, number | null]>([
    ["auto", 1, 250],
    ["auto", 8, 1000],
    ["0.5", 1, 500],
    [0.5, 1, 500],
    [1, 1, 1000],
    ["0", 1, null],
    [0, 1, null],
    [null, 1, null],
    ["100", 1, 100],
    ["0.1kB", 1, 100],
    ["5kB", 1, 1000],
  ])("%j with %d threads", (limit, nthreads, bytes) => {
    expect(parseMemoryLimit(limit, nthreads, system)).toBe(bytes);
  });
});
