/** What this machine (or container) has: memory and cores as dask.system and distributed.system measure them. */
import { readFileSync } from "node:fs";
import * as os from "node:os";

/**
 * distributed.system.memory_limit: the least of host memory, cgroup limits (v1, v2) and RLIMIT_RSS, in bytes. Unlike
 * there, also of the groups that this process is in below the root that it sees (a systemd unit, a job of Slurm).
 */
export function systemMemoryLimit(readFile: (path: string) => string = readText): number {
  let limit = os.totalmem();
  for (const path of [...CGROUP_MEMORY_FILES, ...ownCgroupMemoryFiles(readFile)]) {
    const cgroup = readInt(path, readFile);
    if (cgroup !== undefined && cgroup > 0) limit = Math.min(limit, cgroup);
  }
  const rss = rssHardLimit(readFile);
  return rss !== undefined && rss > 0 && rss < limit ? rss : limit;
}

const CGROUP_MEMORY_FILES = [
  "/sys/fs/cgroup/memory/memory.limit_in_bytes",
  "/sys/fs/cgroup/memory/memory.soft_limit_in_bytes",
  "/sys/fs/cgroup/memory.max",
  "/sys/fs/cgroup/memory.high",
  "/sys/fs/cgroup/memory.low",
];

/** Limits of this process's groups, from its own up to the root's children. */
function ownCgroupMemoryFiles(readFile: (path: string) => string): string[] {
  let lines: string[];
  try {
    lines = readFile("/proc/self/cgroup").split("\n");
  } catch {
    return [];
  }
  return lines.flatMap((line) => {
    // "0::/a/b" in v2, "9:memory:/a/b" in v1
    const [, controllers, ...rest] = line.split(":");
    const isV2 = controllers === "";
    if (!isV2 && controllers?.split(",").includes("memory") !== true) return [];
    const names = rest.join(":").split("/").filter(Boolean);
    const groups = names.map((_, index) => names.slice(0, index + 1).join("/"));
    return groups.flatMap((group) =>
      isV2
        ? [`/sys/fs/cgroup/${group}/memory.max`, `/sys/fs/cgroup/${group}/memory.high`]
        : [`/sys/fs/cgroup/memory/${group}/memory.limit_in_bytes`],
    );
  });
}

/** The hard RLIMIT_RSS of this process; Node has no getrlimit, Linux shows it in /proc. */
function rssHardLimit(readFile: (path: string) => string): number | undefined {
  try {
    const line = readFile("/proc/self/limits")
      .split("\n")
      .find((text) => text.startsWith("Max resident set"));
    const fields = line?.slice("Max resident set".length).trim().split(/\s+/) ?? [];
    const hard = Number(fields[1]);
    return Number.isFinite(hard) ? hard : undefined;
  } catch {
    return undefined;
  }
}

/**
 * dask.system.cpu_count: cores of the host, the affinity mask and the cgroup quota (rounded up), the least of them.
 * Where cgroups v1 keep `cpu` apart from `cpuacct`, Dask does not see the quota.
 */
export function cpuCount(readFile: (path: string) => string = readText): number {
  let count = os.availableParallelism();
  for (const directory of ["cpuacct,cpu", "cpu,cpuacct", "cpu"]) {
    const quota = readInt(`/sys/fs/cgroup/${directory}/cpu.cfs_quota_us`, readFile);
    const period = readInt(`/sys/fs/cgroup/${directory}/cpu.cfs_period_us`, readFile);
    if (quota !== undefined && period !== undefined && quota > 0 && period > 0) {
      count = Math.min(count, Math.ceil(quota / period));
    }
  }
  try {
    const [quota, period] = readFile("/sys/fs/cgroup/cpu.max").trim().split(/\s+/).map(Number);
    if (quota !== undefined && period !== undefined && quota > 0 && period > 0) {
      count = Math.min(count, Math.ceil(quota / period));
    }
  } catch {
    // No cgroup v2 here.
  }
  return Math.max(1, count);
}

/** Resident memory of a process in bytes; undefined where it is gone or the system has no /proc. */
export function residentBytes(pid: number): number | undefined {
  try {
    const status = readText(`/proc/${pid}/status`);
    const match = /^VmRSS:\s+(\d+) kB$/m.exec(status);
    return match === null ? undefined : Number(match[1]) * 1024;
  } catch {
    return undefined;
  }
}

/** CPU seconds (user + system) a process has used; undefined where it is gone or the system has no /proc. */
export function cpuSeconds(pid: number): number | undefined {
  try {
    const stat = readText(`/proc/${pid}/stat`);
    // The command name may hold spaces and brackets: fields are counted after its last bracket.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const ticks = Number(fields[11]) + Number(fields[12]);
    return Number.isFinite(ticks) ? ticks / CLOCK_TICKS_PER_S : undefined;
  } catch {
    return undefined;
  }
}

/** USER_HZ: 100 in every Linux ABI. */
const CLOCK_TICKS_PER_S = 100;

function readText(path: string): string {
  return readFileSync(path, "utf8");
}

function readInt(path: string, readFile: (path: string) => string): number | undefined {
  try {
    const text = readFile(path).trim();
    return /^-?\d+$/.test(text) ? Number(text) : undefined;
  } catch {
    return undefined;
  }
}
