/** What workers that exist only on the wire say of themselves: registration, and figures that never change. */
import { float, type Message, type Value } from "@dask-ts/protocol";

const METRICS: Message = {
  task_counts: new Map(),
  bandwidth: new Map<Value, Value>([
    ["total", 100_000_000],
    ["workers", new Map()],
    ["types", new Map()],
  ]),
  digests_total_since_heartbeat: new Map(),
  managed_bytes: 0,
  spilled_bytes: new Map([
    ["memory", 0],
    ["disk", 0],
  ]),
  transfer: new Map([
    ["incoming_bytes", 0],
    ["incoming_count", 0],
    ["incoming_count_total", 0],
    ["outgoing_bytes", 0],
    ["outgoing_count", 0],
    ["outgoing_count_total", 0],
  ]),
  event_loop_interval: 0.02,
  cpu: float(0),
  memory: 100_000_000,
  host_net_io: new Map([
    ["read_bps", float(0)],
    ["write_bps", float(0)],
  ]),
  host_disk_io: new Map([
    ["read_bps", float(0)],
    ["write_bps", float(0)],
  ]),
  num_fds: 10,
};

/** Seconds since the epoch, as Dask's messages have it. */
export const now = (): Value => float(Date.now() / 1000);

/** `register-worker` of a worker that runs at once or, paused, never gets a task. */
export function registration(address: string, name: string, nthreads: number, status: "init" | "paused"): Message {
  return {
    op: "register-worker",
    reply: false,
    address,
    status,
    nthreads,
    name,
    now: now(),
    resources: new Map(),
    memory_limit: 16 * 2 ** 30,
    local_directory: "/tmp",
    services: new Map(),
    nanny: null,
    pid: process.pid,
    versions: new Map<Value, Value>([
      ["host", new Map()],
      ["packages", new Map()],
    ]),
    metrics: { ...METRICS, time: now() },
    extra: new Map(),
    stimulus_id: `fake-${name}`,
    server_id: `Worker-${name}`,
  };
}

/** Fields of `heartbeat_worker`. */
export function heartbeat(address: string): Message {
  return {
    address,
    now: now(),
    metrics: { ...METRICS, time: now() },
    executing: new Map(),
    extensions: new Map(),
  };
}
