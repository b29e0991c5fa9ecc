/**
 * The figures of distributed.system_monitor.SystemMonitor, measured for the executor (memory, CPU, file descriptors)
 * and the host (network, disks): what a user means by "the worker" is the process that runs their tasks.
 */
import { readdirSync, readFileSync } from "node:fs";
import { float, type Value } from "@dask-ts/protocol";
import { cpuSeconds, residentBytes } from "./system.ts";

const QUANTITIES = [
  "cpu",
  "memory",
  "time",
  "host_net_io.read_bps",
  "host_net_io.write_bps",
  "host_disk_io.read_bps",
  "host_disk_io.write_bps",
  "num_fds",
] as const;
type Quantity = (typeof QUANTITIES)[number];
type Sample = Record<Quantity, number>;

export class SystemMonitor {
  readonly #pid: number;
  readonly #maxLength: number;
  readonly #samples: Sample[] = [];
  #count = 0;
  /** Monotonic seconds of the last sample. */
  #lastTime: number;
  #lastCpu: number;
  #lastNet: readonly [number, number];
  #lastDisk: readonly [number, number];

  /**
   * @param pid the process to watch.
   * @param maxLength samples kept (`distributed.admin.system-monitor.log-length`).
   */
  constructor(pid: number, maxLength: number) {
    this.#pid = pid;
    this.#maxLength = Math.max(1, maxLength);
    this.#lastTime = monotonic() - 0.001;
    this.#lastCpu = cpuSeconds(pid) ?? 0;
    this.#lastNet = networkBytes();
    this.#lastDisk = diskBytes();
    this.update();
  }

  /** Resident bytes now; the last sample's where the process is gone. */
  processMemory(): number {
    return residentBytes(this.#pid) ?? this.recent().memory;
  }

  update(): void {
    const now = monotonic();
    const duration = now - this.#lastTime || 0.001;
    const cpu = cpuSeconds(this.#pid) ?? this.#lastCpu;
    const net = networkBytes();
    const disk = diskBytes();
    this.#samples.push({
      cpu: Math.round((Math.max(0, cpu - this.#lastCpu) / duration) * 1000) / 10,
      memory: residentBytes(this.#pid) ?? this.#samples.at(-1)?.memory ?? 0,
      time: Date.now() / 1000,
      "host_net_io.read_bps": (net[0] - this.#lastNet[0]) / duration,
      "host_net_io.write_bps": (net[1] - this.#lastNet[1]) / duration,
      "host_disk_io.read_bps": (disk[0] - this.#lastDisk[0]) / duration,
      "host_disk_io.write_bps": (disk[1] - this.#lastDisk[1]) / duration,
      num_fds: fileDescriptors(this.#pid),
    });
    // Cut in blocks: a shift per sample would move the whole array each time.
    if (this.#samples.length >= 2 * this.#maxLength) this.#samples.splice(0, this.#maxLength);
    this.#lastTime = now;
    this.#lastCpu = cpu;
    this.#lastNet = net;
    this.#lastDisk = disk;
    this.#count += 1;
  }

  recent(): Sample {
    const sample = this.#samples.at(-1);
    if (sample === undefined) throw new Error("the monitor has no sample yet");
    return sample;
  }

  /** The monitor's part of the metrics map: `a.b` becomes `{a: {b: …}}` (Worker.get_metrics). */
  metrics(): Map<Value, Value> {
    const out = new Map<Value, Value>();
    const nested = new Map<string, Map<Value, Value>>();
    const recent = this.recent();
    for (const name of QUANTITIES) {
      const value = wireNumber(name, recent[name]);
      const dot = name.indexOf(".");
      if (dot === -1) {
        out.set(name, value);
        continue;
      }
      const outer = name.slice(0, dot);
      const map = nested.get(outer) ?? new Map<Value, Value>();
      nested.set(outer, map.set(name.slice(dot + 1), value));
      out.set(outer, map);
    }
    return out;
  }

  /** Reply of `get_monitor_info` (Worker.get_monitor_info). */
  info(recent: boolean, start: number): Map<Value, Value> {
    const query = new Map<Value, Value>();
    const kept = this.#samples.slice(-this.#maxLength);
    const wanted = start >= this.#count ? [] : kept.slice(Math.min(-1, Math.max(-kept.length, start - this.#count)));
    for (const name of QUANTITIES) {
      query.set(
        name,
        recent ? wireNumber(name, this.recent()[name]) : wanted.map((sample) => wireNumber(name, sample[name])),
      );
    }
    return new Map<Value, Value>([
      ["range_query", query],
      ["count", this.#count],
      ["last_time", float(this.#lastTime)],
    ]);
  }
}

/** Python sends bytes and counts as int, everything else as float. */
function wireNumber(name: Quantity, value: number): Value {
  return name === "memory" || name === "num_fds" ? Math.round(value) : float(value);
}

function monotonic(): number {
  return performance.now() / 1000;
}

/** Bytes received and sent by all interfaces since boot; zeros where there is no /proc. */
function networkBytes(): readonly [number, number] {
  let received = 0;
  let sent = 0;
  for (const line of procLines("/proc/net/dev")) {
    const colon = line.indexOf(":");
    if (colon === -1) continue;
    const fields = line
      .slice(colon + 1)
      .trim()
      .split(/\s+/);
    received += Number(fields[0]) || 0;
    sent += Number(fields[8]) || 0;
  }
  return [received, sent];
}

/** Bytes read and written by whole disks (partitions, loops and ram disks are not counted twice) since boot. */
function diskBytes(): readonly [number, number] {
  let read = 0;
  let written = 0;
  for (const line of procLines("/proc/diskstats")) {
    const fields = line.trim().split(/\s+/);
    if (!/^(sd[a-z]+|vd[a-z]+|xvd[a-z]+|hd[a-z]+|nvme\d+n\d+|mmcblk\d+)$/.test(fields[2] ?? "")) continue;
    // /proc/diskstats counts in sectors of 512 bytes whatever the disk's own sector size.
    read += (Number(fields[5]) || 0) * 512;
    written += (Number(fields[9]) || 0) * 512;
  }
  return [read, written];
}

function procLines(path: string): string[] {
  try {
    return readFileSync(path, "utf8").split("\n");
  } catch {
    return [];
  }
}

function fileDescriptors(pid: number): number {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return 0;
  }
}
