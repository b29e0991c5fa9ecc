/** `process_*` of this process, as the Python client library names them (prometheus_client.process_collector). */
import { readdirSync, readFileSync } from "node:fs";
import type { MetricsText } from "./metrics-text.ts";

export function writeProcessMetrics(out: MetricsText): void {
  const status = read("/proc/self/status");
  const virtual = /^VmSize:\s+(\d+) kB$/m.exec(status)?.[1];
  if (virtual !== undefined) {
    out.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", Number(virtual) * 1024);
  }
  out.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", process.memoryUsage.rss());
  out.gauge(
    "process_start_time_seconds",
    "Start time of the process since unix epoch in seconds.",
    performance.timeOrigin / 1000,
  );
  const cpu = process.cpuUsage();
  out.counter(
    "process_cpu_seconds_total",
    "Total user and system CPU time spent in seconds.",
    (cpu.user + cpu.system) / 1e6,
  );
  const open = fileDescriptors();
  if (open !== undefined) out.gauge("process_open_fds", "Number of open file descriptors.", open);
  const max = /^Max open files\s+(\d+)/m.exec(read("/proc/self/limits"))?.[1];
  if (max !== undefined) out.gauge("process_max_fds", "Maximum number of open file descriptors.", Number(max));
}

/**
 * `python_info`, of the Python beside this process.
 *
 * @param version `3.11.7`, with or without what `sys.version_info` has behind it
 */
export function writePythonInfo(out: MetricsText, implementation: string, version: string): void {
  const [major = "", minor = "", patchlevel = ""] = version.split(".");
  const labels = { implementation, major, minor, patchlevel, version: `${major}.${minor}.${patchlevel}` };
  out.gauge("python_info", "Python platform information", [[labels, 1]]);
}

function fileDescriptors(): number | undefined {
  try {
    return readdirSync("/proc/self/fd").length;
  } catch {
    return undefined;
  }
}

/** Empty where there is no /proc. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
