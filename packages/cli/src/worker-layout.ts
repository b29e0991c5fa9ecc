/** How the workers of one command share threads and ports: `--nworkers`, `--nthreads`, `--worker-port`, `--nanny-port`. */

/** A conflict between flags: told on stderr, exit code 1 (as stock) unless `exitCode` says otherwise. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export interface Layout {
  readonly nworkers: number;
  readonly nthreads: number;
}

/**
 * Mirrors distributed.cli.dask_worker.main.
 *
 * @param nworkers `--nworkers`: a count, negative for "all cores but …", or "auto".
 * @param nthreads `--nthreads`, 0 for "share the cores".
 * @param cpuCount cores that this process may use.
 * @throws {UsageError} where no worker would be left.
 */
export function layoutWorkers(nworkers: string | undefined, nthreads: number, cpuCount: number): Layout {
  if (nworkers === "auto") return autoLayout(cpuCount);
  let count = nworkers === undefined ? 1 : Number(nworkers);
  if (!Number.isInteger(count)) throw new UsageError(`--nworkers takes a number or "auto", not "${nworkers}"`);
  if (count < 0) count += cpuCount + 1;
  if (count <= 0) {
    throw new UsageError("Failed to launch worker. Must specify --nworkers so that there's at least one process.");
  }
  return { nworkers: count, nthreads: nthreads > 0 ? nthreads : Math.max(1, Math.floor(cpuCount / count)) };
}

/** distributed.deploy.utils.nprocesses_nthreads: few processes on small machines, about √n on large ones. */
function autoLayout(cpuCount: number): Layout {
  if (cpuCount <= 4) return { nworkers: cpuCount, nthreads: 1 };
  let nworkers = cpuCount;
  for (let factor = 1; factor <= cpuCount; factor++) {
    if (cpuCount % factor === 0 && factor >= Math.sqrt(cpuCount)) {
      nworkers = factor;
      break;
    }
  }
  return { nworkers, nthreads: Math.max(1, Math.floor(cpuCount / nworkers)) };
}

/** Ports that one worker and its nanny may listen on; 0 means any. */
export interface WorkerPorts {
  readonly worker: readonly number[];
  readonly nanny: readonly number[];
}

/**
 * `N` or `first:last` (distributed.utils.parse_ports).
 *
 * @throws {UsageError} where the text is neither.
 */
export function parsePorts(text: string | undefined): number[] {
  if (text === undefined || text === "") return [0];
  const match = /^(\d+)(?::(\d+))?$/.exec(text);
  if (match === null) throw new UsageError(`a port is a number or a range like 3000:3026, not "${text}"`);
  const first = Number(match[1]);
  const last = match[2] === undefined ? first : Number(match[2]);
  if (last < first) throw new UsageError(`port range "${text}": the last port is below the first`);
  if (last > 65535) throw new UsageError(`port range "${text}": ports end at 65535`);
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/**
 * Deals ports out in rounds, none twice (distributed.cli.dask_worker._apportion_ports).
 *
 * @throws {UsageError} where a worker or a nanny would get none.
 */
export function apportionPorts(
  workerPort: string | undefined,
  nannyPort: string | undefined,
  nworkers: number,
  nanny: boolean,
): WorkerPorts[] {
  const out = Array.from({ length: nworkers }, () => ({ worker: [] as number[], nanny: [] as number[] }));
  const pools = { worker: parsePorts(workerPort), nanny: parsePorts(nannyPort) };
  const seen = new Set<number>();
  const next = { worker: 0, nanny: 0 };
  const take = (kind: "worker" | "nanny", round: number): number | undefined => {
    const ports = pools[kind];
    if (ports.length === 1 && ports[0] === 0) return round === 0 ? 0 : undefined;
    for (;;) {
      const port = ports[next[kind]++];
      if (port === undefined) return undefined;
      if (!seen.has(port)) {
        seen.add(port);
        return port;
      }
    }
  };
  for (let round = 0, dealt = true; dealt; round++) {
    dealt = false;
    for (const ports of out) {
      for (const kind of ["worker", "nanny"] as const) {
        const port = take(kind, round);
        if (port === undefined) continue;
        ports[kind].push(port);
        dealt = true;
      }
    }
  }
  for (const ports of out) {
    if (ports.worker.length === 0 || (nanny && ports.nanny.length === 0)) {
      const nannyText = nanny ? ` --nanny_port ${nannyPort}` : "";
      throw new UsageError(`Not enough ports in range --worker_port ${workerPort}${nannyText} for ${nworkers} workers`);
    }
  }
  return out;
}

/**
 * `--resources "GPU=2 MEM=10e9"`, commas allowed.
 *
 * @throws {UsageError} where a part is no NAME=NUMBER.
 */
export function parseResources(text: string | undefined): Map<string, number> | undefined {
  if (text === undefined || text.trim() === "") return undefined;
  const resources = new Map<string, number>();
  for (const pair of text.replaceAll(",", " ").trim().split(/\s+/)) {
    const [name, amount, ...rest] = pair.split("=");
    const value = Number(amount);
    if (!name || amount === undefined || amount === "" || rest.length > 0 || Number.isNaN(value)) {
      throw new UsageError(`--resources takes NAME=NUMBER pairs like "GPU=2 MEM=10e9", not "${pair}"`);
    }
    resources.set(name, value);
  }
  return resources;
}

/** `--name`: digits become a number; `-i` is appended where there are several workers. */
export function workerName(name: string | undefined, index: number, nworkers: number): string | number | undefined {
  if (name === undefined || name === "") return undefined;
  if (nworkers > 1) return `${name}-${index}`;
  return /^\s*[+-]?\d+\s*$/.test(name) ? Number(name) : name;
}
