/** Comparing the package versions of scheduler, workers and whoever connects (distributed.versions.error_message). */
import { formatKey, isKey, type Value } from "@dask-ts/protocol";
import type { WorkerState } from "../core/worker-state.ts";

type Versions = ReadonlyMap<Value, Value>;

/** Packages of which the scheduler's own version matters. */
const SCHEDULER_PACKAGES: ReadonlySet<string> = new Set([
  "dask",
  "distributed",
  "cloudpickle",
  "tornado",
  "toolz",
  "lz4",
  "python",
]);

/**
 * Counts the versions of packages on the workers, so that comparing a newcomer costs packages, not packages × workers.
 */
export class WorkerVersions {
  /** package → version → number of workers that have it. */
  readonly #counts: Map<string, Map<string, number>> = new Map();
  #workers = 0;

  add(ws: WorkerState): void {
    this.#count(ws, 1);
  }

  remove(ws: WorkerState): void {
    this.#count(ws, -1);
  }

  get packages(): Iterable<string> {
    return this.#counts.keys();
  }

  /** The different versions on the workers; MISSING where some worker does not have the package. */
  of(name: string): Set<string> {
    const versions = this.#counts.get(name);
    const found = new Set(versions?.keys());
    let having = 0;
    for (const count of versions?.values() ?? []) having += count;
    if (having < this.#workers) found.add("MISSING");
    return found;
  }

  #count(ws: WorkerState, by: number): void {
    this.#workers += by;
    for (const [name, version] of packagesOf(ws.versions)) {
      const versions = this.#counts.get(name) ?? new Map<string, number>();
      this.#counts.set(name, versions);
      const count = (versions.get(version) ?? 0) + by;
      if (count > 0) versions.set(version, count);
      else versions.delete(version);
      if (versions.size === 0) this.#counts.delete(name);
    }
  }
}

/**
 * The text that stock would warn with; empty where all versions agree.
 *
 * @param scheduler versions of this environment; null while they are not known, then they are not compared
 * @param sourceName heading of the newcomer's column: `Client`, or the worker's server id
 */
export function versionWarning(
  scheduler: Value,
  workers: WorkerVersions,
  source: Value,
  sourceName = "Client",
): string {
  const own = scheduler instanceof Map ? packagesOf(scheduler) : null;
  const theirs = source instanceof Map ? packagesOf(source) : new Map<string, string>();
  const names = new Set([...theirs.keys(), ...(own?.keys() ?? []), ...workers.packages]);
  const rows: string[][] = [];
  for (const name of [...names].sort()) {
    const schedulerVersion = own?.get(name) ?? "MISSING";
    const sourceVersion = theirs.get(name) ?? "MISSING";
    const workerVersions = workers.of(name);
    const all = new Set([sourceVersion, ...workerVersions]);
    if (own !== null && SCHEDULER_PACKAGES.has(name)) all.add(schedulerVersion);
    if (all.size <= 1) continue;
    const listed = [...workerVersions].sort();
    const shown =
      listed.length === 0
        ? "None"
        : listed.length === 1
          ? `${listed[0]}`
          : `{${listed.map((v) => `'${v}'`).join(", ")}}`;
    rows.push([name, sourceVersion, own === null ? "UNKNOWN" : schedulerVersion, shown]);
  }
  if (rows.length === 0) return "";
  return `Mismatched versions found\n\n${asciiTable(["Package", sourceName, "Scheduler", "Workers"], rows)}`;
}

/** The release of Python in someone's versions: `3.11.2.final.0`. */
export function pythonOf(versions: Value): string | undefined {
  return versions instanceof Map ? packagesOf(versions).get("python") : undefined;
}

/** `versions["packages"]` as texts; None stays "None", as the table shows it. */
function packagesOf(versions: Versions): Map<string, string> {
  const packages = versions.get("packages");
  const found = new Map<string, string>();
  const entries: Iterable<readonly [Value, Value]> = Array.isArray(packages)
    ? (packages as unknown as readonly (readonly [Value, Value])[])
    : packages instanceof Map
      ? (packages as Versions)
      : [];
  for (const [name, version] of entries) {
    if (typeof name === "string") found.set(name, isKey(version) ? formatKey(version) : "None");
  }
  return found;
}

/** distributed.utils.asciitable */
function asciiTable(columns: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map((name, i) => Math.max(name.length, ...rows.map((row) => (row[i] ?? "").length)));
  const bar = `+${widths.map((width) => "-".repeat(width + 2)).join("+")}+`;
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] as number)).join(" | ")} |`;
  return [bar, line(columns), bar, ...rows.map(line), bar].join("\n");
}
