/** Which Python runs the children: the one whose environment the user's tasks need. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { pythonPackageDirectory } from "./package-path.ts";

export interface PythonInfo {
  /** The interpreter to start. */
  readonly path: string;
  /** Where it was named: `--python`, `DASK_TS_PYTHON`, `VIRTUAL_ENV`, …. */
  readonly source: string;
  /** `3.11.2`. */
  readonly version: string;
  /** Installed versions of distributed, dask, msgpack, cloudpickle. */
  readonly packages: Readonly<Record<string, string>>;
}

/** No Python on this machine can run the children. The message says what was tried and what to install. */
export class PythonNotFoundError extends Error {
  readonly code = "DASK_PYTHON_NOT_FOUND";
  override readonly name = "PythonNotFoundError";
}

export interface FindPythonOptions {
  /** The value of `--python`; used or refused, never passed over. */
  readonly python?: string | undefined;
  /** The environment to look in. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Folder below which a `.venv` is looked for last; the one above `packages/python` by default. */
  readonly repository?: string | undefined;
}

/** Looks without importing: 40 ms instead of half a second, and a broken package is still found by the child. */
const PROBE = `
import sys, json
from importlib.util import find_spec
from importlib.metadata import version, PackageNotFoundError
packages = {}
for name in ("distributed", "dask", "msgpack", "cloudpickle"):
    if find_spec(name) is None:
        continue
    try:
        packages[name] = version(name)
    except PackageNotFoundError:
        packages[name] = "unknown"
print(json.dumps({"version": "%d.%d.%d" % sys.version_info[:3], "packages": packages}))
`;
const PROBE_TIMEOUT_MS = 60_000;
const OLDEST: readonly [number, number] = [3, 10];

/**
 * The first of these that has `distributed`: `--python`, DASK_TS_PYTHON (both are binding), VIRTUAL_ENV, CONDA_PREFIX,
 * `python3` and `python` on PATH, the `.venv` of the repository.
 *
 * @throws {PythonNotFoundError} where none has.
 */
export async function findPython(options: FindPythonOptions = {}): Promise<PythonInfo> {
  const tried: string[] = [];
  for (const { path, source, binding } of candidates(options)) {
    const found = await probe(path, source);
    if (typeof found !== "string") return found;
    tried.push(`  ${path} (${source}): ${found}`);
    if (binding) break;
  }
  throw new PythonNotFoundError(
    `No Python with the package "distributed" was found:\n${tried.join("\n")}\n` +
      'Install it (python3 -m pip install "dask[distributed]"), or name another interpreter with --python or DASK_TS_PYTHON.',
  );
}

interface Candidate {
  readonly path: string;
  readonly source: string;
  readonly binding: boolean;
}

function candidates(options: FindPythonOptions): Candidate[] {
  const env = options.env ?? process.env;
  if (options.python) return [{ path: options.python, source: "--python", binding: true }];
  if (env.DASK_TS_PYTHON) return [{ path: env.DASK_TS_PYTHON, source: "DASK_TS_PYTHON", binding: true }];
  const list: Candidate[] = [];
  for (const source of ["VIRTUAL_ENV", "CONDA_PREFIX"]) {
    const prefix = env[source];
    if (prefix) list.push({ path: join(prefix, "bin", "python"), source, binding: false });
  }
  list.push({ path: "python3", source: "PATH", binding: false });
  list.push({ path: "python", source: "PATH", binding: false });
  const repository = options.repository ?? repositoryDirectory();
  if (repository !== undefined) {
    const path = join(repository, ".venv", "bin", "python");
    if (existsSync(path)) list.push({ path, source: "the repository's .venv", binding: false });
  }
  return list;
}

/** `packages/python` is two folders below the repository. */
function repositoryDirectory(): string | undefined {
  const own = pythonPackageDirectory();
  return own === undefined ? undefined : dirname(dirname(own));
}

async function probe(path: string, source: string): Promise<PythonInfo | string> {
  const output = await run(path);
  if (output instanceof Error) return firstLine(output.message);
  let report: { version: string; packages: Record<string, string> };
  try {
    report = JSON.parse(output) as typeof report;
  } catch {
    return `is no Python (it said ${JSON.stringify(output.slice(0, 80))})`;
  }
  const [major = 0, minor = 0] = report.version.split(".").map(Number);
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
    return `is Python ${report.version}; ${OLDEST.join(".")} or newer is needed`;
  }
  const missing = ["distributed", "dask", "msgpack", "cloudpickle"].filter((name) => !(name in report.packages));
  if (missing.length > 0) return `Python ${report.version} without ${missing.join(", ")}`;
  return { path, source, version: report.version, packages: report.packages };
}

function run(path: string): Promise<string | Error> {
  return new Promise((resolve) => {
    execFile(path, ["-c", PROBE], { timeout: PROBE_TIMEOUT_MS }, (error, stdout) => {
      if (error === null) resolve(stdout);
      else if ((error as NodeJS.ErrnoException).code === "ENOENT") resolve(new Error("is not there"));
      else resolve(error);
    });
  });
}

function firstLine(text: string): string {
  const lines = text.trim().split("\n");
  return lines.at(-1) ?? text;
}
