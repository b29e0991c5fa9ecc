/** How many workers there should be, and which could go (Scheduler.adaptive_target and workers_to_close). */
import { adaptiveInputs } from "./queries.ts";
import type { SchedulerState } from "./state.ts";
import type { WorkerState } from "./worker-state.ts";

export interface WorkersToCloseOptions {
  /** Room to keep, as a multiple of the data there is; by default 2 where `n` is not given. */
  readonly memoryRatio?: number | null;
  /** Number of workers to close; `target` is how many shall be left. */
  readonly n?: number | null;
  readonly target?: number | null;
  readonly minimum?: number | null;
  /** Workers of one group close together; by default each is its own. */
  readonly groupOf?: (ws: WorkerState) => unknown;
  /** Workers that must stay (they take part in a shuffle). */
  readonly keep?: (ws: WorkerState) => boolean;
}

interface Group {
  readonly workers: WorkerState[];
  limit: number;
  nbytes: number;
  busy: boolean;
}

/** Workers that can be closed at low cost: idle groups with the least data first. */
export function workersToClose(state: SchedulerState, options: WorkersToCloseOptions = {}): WorkerState[] {
  const all = state.workerOrder.list;
  let n = options.n ?? null;
  let target = options.target ?? null;
  if (target !== null && n === null) n = all.length - target;
  if (n !== null) {
    n = Math.max(0, n);
    target = all.length - n;
  }
  const memoryRatio = options.memoryRatio ?? (n === null ? 2 : null);
  if (!n && all.every((ws) => ws.processing.size > 0)) return [];
  const groups = groupWorkers(all, options);
  let limit = 0;
  let total = 0;
  for (const group of groups) {
    limit += group.limit;
    total += group.nbytes;
  }
  // The best to close comes first: idle before busy, then little data, then the last by address.
  groups.reverse().sort((a, b) => Number(a.busy) - Number(b.busy) || a.nbytes - b.nbytes);
  const result: WorkerState[] = [];
  let remaining = all.length;
  for (const group of groups) {
    if (n === null && group.busy) break;
    const left = remaining - group.workers.length;
    if (options.minimum && left < options.minimum) break;
    limit -= group.limit;
    const fits = n !== null && left >= (target ?? 0);
    if (!fits && !(memoryRatio !== null && limit >= memoryRatio * total)) break;
    result.push(...group.workers);
    remaining = left;
  }
  return result;
}

function groupWorkers(workers: readonly WorkerState[], options: WorkersToCloseOptions): Group[] {
  const groups = new Map<unknown, Group>();
  for (const ws of workers) {
    // A long-running task would start from scratch elsewhere.
    if (ws.longRunning.size > 0 || options.keep?.(ws) === true) continue;
    const name = options.groupOf?.(ws) ?? ws.address;
    const group = groups.get(name) ?? { workers: [], limit: 0, nbytes: 0, busy: false };
    groups.set(name, group);
    group.workers.push(ws);
    group.limit += ws.memoryLimit;
    group.nbytes += ws.nbytes;
    group.busy ||= ws.processing.size > 0;
  }
  return [...groups.values()];
}

/** The number of workers with which the work at hand would take `targetDuration` seconds. */
export function adaptiveTarget(
  state: SchedulerState,
  targetDuration: number,
  toClose: () => readonly WorkerState[] = () => workersToClose(state),
): number {
  const inputs = adaptiveInputs(state);
  const { workers } = inputs;
  let cpu = Math.ceil((inputs.totalOccupancy + inputs.queuedOccupancy) / targetDuration);
  // A few long tasks must not ask for many cores.
  let ready = inputs.queued + inputs.unrunnable;
  let enough = false;
  for (const ws of workers) {
    if (ready > cpu) {
      enough = true;
      break;
    }
    ready += ws.processing.size;
  }
  if (!enough) cpu = Math.min(ready, cpu);
  if (workers.length > 0) cpu = Math.ceil((cpu / state.totalNthreads) * workers.length);
  if (inputs.unrunnable + inputs.queued > 0 && workers.length === 0) cpu = Math.max(1, cpu);
  let limit = 0;
  let used = 0;
  for (const ws of workers) {
    limit += ws.memoryLimit;
    used += ws.nbytes;
  }
  const memory = limit > 0 && used > 0.6 * limit ? 2 * workers.length : 0;
  const target = Math.max(memory, cpu);
  return target >= workers.length ? target : workers.length - toClose().length;
}
