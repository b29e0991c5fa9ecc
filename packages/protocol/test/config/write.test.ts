import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { formatYaml, loadConfig, writeConfigValue } from "../../src/index.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "dask-ts-config-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

test("one value changes, in the spelling that is there; comments stay", () => {
  const file = join(folder, "a.yaml");
  writeFileSync(file, "# mine\ndistributed:\n  scheduler:\n    worker_ttl: 60s # a minute\n    validate: true\n");
  writeConfigValue(file, "distributed.scheduler.worker-ttl", "5s");
  writeConfigValue(file, "distributed.scheduler.preload", ["a", "b"]);
  const text = readFileSync(file, "utf8");
  expect(text).toContain("# mine");
  expect(text).toContain("worker_ttl: 5s # a minute");
  const config = loadConfig({ env: {}, paths: [folder] });
  expect(config.getStrings("distributed.scheduler.preload")).toEqual(["a", "b"]);
  expect(config.getBoolean("distributed.scheduler.validate")).toBe(true);
});

test("a file that is not there, and texts that YAML would take for something else", () => {
  const file = join(folder, "sub", "dask.yaml");
  writeConfigValue(file, "a.b", "on");
  writeConfigValue(file, "a.c", null);
  expect(readFileSync(file, "utf8")).toBe('a:\n  b: "on"\n  c: null\n');
  expect(loadConfig({ env: {}, paths: [file] }).get("a.b")).toBe("on");
  expect(formatYaml({ a: { b: "off", c: [1] } })).toBe('a:\n  b: "off"\n  c:\n    - 1\n');
});

test("no mapping, no change", () => {
  const file = join(folder, "a.yaml");
  writeFileSync(file, "- 1\n");
  expect(() => writeConfigValue(file, "a", 1)).toThrow(/is no YAML mapping/);
  expect(readFileSync(file, "utf8")).toBe("- 1\n");
});
