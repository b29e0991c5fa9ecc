/** What every long-running command shares: signals, the pid file, the line about its Python. */
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import type { PythonInfo } from "@dask-ts/protocol";

/** A process that was told to stop ends within this time, whatever still hangs; after its grace, where it has one. */
const SHUTDOWN_LIMIT_MS = 60_000;

/**
 * Calls `onSignal` at the first SIGINT or SIGTERM. A second signal ends the process at once (stock restores the
 * default handler).
 *
 * @param graceMs what the end may take by intention.
 */
export function onTermination(onSignal: (name: string, number: number) => void, graceMs = 0): void {
  let fired = false;
  for (const name of ["SIGINT", "SIGTERM"] as const) {
    process.on(name, () => {
      const number = constants.signals[name];
      if (fired) process.exit(128 + number);
      fired = true;
      setTimeout(() => process.exit(128 + number), SHUTDOWN_LIMIT_MS + graceMs).unref();
      onSignal(name, number);
    });
  }
}

/** Writes `--pid-file` (the number, no newline) and removes it when the process ends. */
export function writePidFile(path: string | undefined): void {
  if (path === undefined || path === "") return;
  writeFileSync(path, String(process.pid));
  process.on("exit", () => {
    if (existsSync(path)) rmSync(path, { force: true });
  });
}

/** One line that says which Python serves, and why this one. */
export function describePython(python: PythonInfo): string {
  const packages = Object.entries(python.packages).map(([name, version]) => `${name} ${version}`);
  return `Python ${python.version} at ${python.path} (${python.source}): ${packages.join(", ")}`;
}
