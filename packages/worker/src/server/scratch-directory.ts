/**
 * The worker's local directory, `<base>/dask-scratch-space/worker-XXXXXXXX` (distributed.diskutils.WorkSpace).
 *
 * Stock marks a directory in use by an flock on `worker-XXXXXXXX.dirlock`, and purges every directory whose lock it
 * can take. Node has no flock, and a `.dirlock` without one would invite a stock worker to delete a living directory.
 * So ours writes `worker-XXXXXXXX.owner` (host, pid, start time), which stock ignores; directories of dead stock workers
 * are purged by the executor, with stock's own means (`executor_scratch.py`).
 *
 * Gigabytes of spilled files take seconds to remove: that never happens on the event loop, which other workers share.
 */
import { accessSync, constants, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import * as os from "node:os";
import { join, resolve } from "node:path";

const OWNER_SUFFIX = ".owner";

export interface ScratchDirectory {
  readonly path: string;
  /** Resolves when those whose process is gone are removed. */
  readonly purged: Promise<void>;
  /** Removes what is in the directory. */
  clear(): Promise<void>;
  /** Removes the directory and what is in it. Safe to call twice. */
  release(): Promise<void>;
}

/**
 * Makes a directory for one worker, and begins to remove those whose process is gone.
 *
 * @param base `--local-directory`, else `temporary-directory`, else the system's temporary directory.
 * @param onPurge told of each stale directory that is removed.
 * @param prefix of the directory's name.
 * @throws {Error} where nothing can be written below `base`.
 */
export function createScratchDirectory(
  base: string | null,
  onPurge: (path: string) => void,
  prefix = "worker-",
): ScratchDirectory {
  const workspace = openWorkspace(resolve(join(base ?? os.tmpdir(), "dask-scratch-space")));
  const purged = purgeStale(workspace, onPurge);
  const path = mkdtempSync(join(workspace, prefix));
  const owner = path + OWNER_SUFFIX;
  writeFileSync(owner, `${os.hostname()} ${process.pid} ${startTime(process.pid) ?? "-"}\n`);
  return {
    path,
    purged,
    clear: async () => {
      for (const name of await readdir(path)) await rm(join(path, name), { recursive: true, force: true });
    },
    release: async () => {
      await rm(path, { recursive: true, force: true });
      await rm(owner, { force: true });
      // a process that ends before would leave the rest to the next one
      await purged;
    },
  };
}

/** The workspace, or a second one of this user where another user owns the first (WorkSpace._init_workspace). */
function openWorkspace(base: string): string {
  // Not os.userInfo(), which fails where the user has no name, as in many containers.
  const user = process.getuid?.();
  for (const path of user === undefined ? [base] : [base, `${base}-${user}`]) {
    try {
      mkdirSync(path, { recursive: true });
      accessSync(path, constants.W_OK | constants.X_OK);
      return path;
    } catch (error) {
      if (!(error instanceof Error) || !("code" in error) || (error.code !== "EACCES" && error.code !== "EPERM")) {
        throw error;
      }
    }
  }
  return mkdtempSync(`${base}-`);
}

/** Owner files that another worker of this process sees to. */
const purging: Set<string> = new Set();

async function purgeStale(workspace: string, onPurge: (path: string) => void): Promise<void> {
  const stale: string[] = [];
  for (const name of readdirSync(workspace)) {
    const owner = join(workspace, name);
    if (!name.endsWith(OWNER_SUFFIX) || purging.has(owner)) continue;
    try {
      if (isAlive(readFileSync(owner, "utf8"))) continue;
    } catch {
      // Another worker purges at the same time, or the directory belongs to another user: nothing is lost.
      continue;
    }
    stale.push(owner);
    purging.add(owner);
    onPurge(owner.slice(0, -OWNER_SUFFIX.length));
  }
  for (const owner of stale) {
    try {
      await rm(owner.slice(0, -OWNER_SUFFIX.length), { recursive: true, force: true });
      await rm(owner, { force: true });
    } catch {
      // As above.
    }
    purging.delete(owner);
  }
}

/** True where the owner may still live; owners on other hosts (shared file systems) cannot be judged from here. */
function isAlive(owner: string): boolean {
  const [host, pidText, started] = owner.trim().split(" ");
  if (host !== os.hostname() || pidText === undefined) return true;
  const pid = Number(pidText);
  if (!Number.isInteger(pid) || pid <= 0) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error instanceof Error && "code" in error && error.code === "EPERM";
  }
  const now = startTime(pid);
  return started === "-" || now === undefined || now === started;
}

/** When a process started, in clock ticks since boot: tells a pid from its reuse. */
function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}
