/**
 * `dask-ts deploy redirect`: makes `python -m distributed.cli.dask_worker` and the like of a Python start dask-ts, as in
 * the image, for deployers that start clusters by these names (SSHCluster, SubprocessCluster, dask-jobqueue).
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { DEPLOY_FOLDER } from "./aws/kinds.ts";
import { DeployError, result } from "./command.ts";

const MODULE = "dask_ts_redirect.py";
const HOOK = "dask_ts_redirect.pth";
/** The module reads it: what to start, an argument in each line. */
const COMMAND_FILE = `${MODULE}.command`;
const PROGRAM = fileURLToPath(new URL("../../../bin/dask-ts", import.meta.url));

export interface RedirectFlags {
  readonly remove?: boolean;
}

/** @throws {DeployError} where `python` is no Python, or its packages cannot be written. */
export function redirect(python: string, { remove = false }: RedirectFlags): void {
  const folder = sitePackages(python);
  try {
    if (remove) {
      const there = [HOOK, MODULE, COMMAND_FILE].filter((name) => existsSync(join(folder, name)));
      for (const name of there) rmSync(join(folder, name));
      result(there.length > 0 ? `Removed from ${folder}.` : `Nothing of dask-ts is in ${folder}.`);
      return;
    }
    // An interpreter that starts meanwhile finds the hook only when all of it is there.
    writeFileSync(join(folder, COMMAND_FILE), `${process.execPath}\n${PROGRAM}\n`);
    for (const name of [MODULE, HOOK]) copyFileSync(join(DEPLOY_FOLDER, "docker", name), join(folder, name));
  } catch (error) {
    throw new DeployError(`${folder} cannot be changed: ${error instanceof Error ? error.message : String(error)}`);
  }
  result(`${python} -m distributed.cli.dask_scheduler, dask_worker and dask_spec now start ${PROGRAM}.`);
  result("DASK_TS_REDIRECT=0 in the environment gives stock's; --remove ends it.");
}

/** The folder in which `python` looks for hooks. */
function sitePackages(python: string): string {
  try {
    const script = "import sysconfig; print(sysconfig.get_path('purelib'))";
    return execFileSync(python, ["-c", script], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
  } catch (error) {
    throw new DeployError(`${python} is no Python: ${error instanceof Error ? error.message.trim() : String(error)}`);
  }
}
