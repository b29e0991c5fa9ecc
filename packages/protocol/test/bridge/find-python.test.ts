import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { findPython, PythonNotFoundError } from "../../src/bridge/find-python.ts";

let folder = "";
let good = "";
const path = process.env.PATH;

/** A prefix whose `bin/python` is a shell script. */
function prefix(name: string, script: string): string {
  const bin = join(folder, name, "bin");
  mkdirSync(bin, { recursive: true });
  writeFileSync(join(bin, "python"), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, "python"), 0o755);
  return join(folder, name);
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "find-python-"));
  good = (await findPython()).path;
  prefix("bare", `echo '{"version": "3.12.1", "packages": {"msgpack": "1"}}'`);
  prefix("old", `echo '{"version": "3.8.1", "packages": {}}'`);
  prefix("odd", "echo hello");
  prefix("good", `exec "${good}" "$@"`);
  mkdirSync(join(folder, "empty"));
  mkdirSync(join(folder, "repo", ".venv"), { recursive: true });
  symlinkSync(join(folder, "good", "bin"), join(folder, "repo", ".venv", "bin"));
  process.env.PATH = `${join(folder, "empty")}:/bin`;
});
afterAll(() => {
  process.env.PATH = path;
  rmSync(folder, { recursive: true });
});

it("takes --python, then DASK_TS_PYTHON, and nothing else where they are given", async () => {
  const env = { DASK_TS_PYTHON: join(folder, "bare/bin/python"), VIRTUAL_ENV: join(folder, "good") };
  const found = await findPython({ python: good, env });
  expect(found).toMatchObject({ path: good, source: "--python" });
  expect(found.version).toMatch(/^3\.\d+\.\d+$/);
  expect(found.packages.distributed).toMatch(/^\d/);
  await expect(findPython({ env })).rejects.toThrow(/bare.*DASK_TS_PYTHON.*without distributed, dask, cloudpickle/s);
  await expect(findPython({ python: "/nowhere/python" })).rejects.toThrow("is not there");
});

it("takes the active environment", async () => {
  const env = { VIRTUAL_ENV: join(folder, "bare"), CONDA_PREFIX: join(folder, "good") };
  expect((await findPython({ env })).source).toBe("CONDA_PREFIX");
  expect((await findPython({ env: { VIRTUAL_ENV: join(folder, "good") } })).source).toBe("VIRTUAL_ENV");
});

it("falls back to the repository's own environment", async () => {
  const found = await findPython({ env: { VIRTUAL_ENV: join(folder, "old") }, repository: join(folder, "repo") });
  expect(found.source).toBe("the repository's .venv");
});

it("says what it tried and what to install", async () => {
  const env = { VIRTUAL_ENV: join(folder, "old"), CONDA_PREFIX: join(folder, "odd") };
  const error = await findPython({ env, repository: join(folder, "empty") }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(PythonNotFoundError);
  const { message } = error as Error;
  expect(message).toContain("3.10 or newer is needed");
  expect(message).toContain("is no Python");
  expect(message).toContain("pip install");
});
