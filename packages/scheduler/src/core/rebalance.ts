/** Which data to move so that all workers use about the same memory (Scheduler._rebalance_find_msgs). */
import { workerMemory } from "./queries.ts";
import type { TaskState } from "./task-state.ts";
import type { MemoryState, WorkerState } from "./worker-state.ts";

export interface RebalanceSettings {
  /** `process`, `optimistic`, `managed`, …: the reading that counts. */
  readonly measure: string;
  /** Fractions of a worker's memory limit: no sender below the first, no recipient above the second. */
  readonly senderMin: number;
  readonly recipientMax: number;
  /** Fraction of the limit around the mean within which a worker is left alone; half of it on each side. */
  readonly gap: number;
}

export interface RebalanceMove {
  readonly sender: WorkerState;
  readonly recipient: WorkerState;
  readonly task: TaskState;
}

export interface RebalancePlan {
  readonly moves: readonly RebalanceMove[];
  /** Numbers of workers found on either side of the mean. */
  readonly senders: number;
  readonly recipients: number;
  /** There was at least one of each. */
  readonly possible: boolean;
}

interface Sender {
  readonly ws: WorkerState;
  /** Bytes it may give (until the mean), and bytes it should give (until it is left alone). */
  max: number;
  min: number;
  readonly tasks: Iterator<TaskState>;
}

interface Recipient {
  readonly ws: WorkerState;
  max: number;
  min: number;
}

/** @param allowed ids of the keys that may be moved; null for all. */
export function findRebalanceMoves(
  workers: readonly WorkerState[],
  allowed: ReadonlySet<string> | null,
  settings: RebalanceSettings,
): RebalancePlan {
  const senders: Sender[] = [];
  const recipients: Recipient[] = [];
  const readings = workers.map((ws) => memoryMeasure(workerMemory(ws), settings.measure));
  const mean = Math.floor(readings.reduce((a, b) => a + b, 0) / Math.max(1, workers.length));
  workers.forEach((ws, i) => {
    const memory = readings[i] as number;
    const limit = ws.memoryLimit;
    const halfGap = Math.trunc((settings.gap / 2) * limit);
    const senderMin = limit > 0 ? settings.senderMin * limit : 0;
    const recipientMax = limit > 0 ? settings.recipientMax * limit : Number.POSITIVE_INFINITY;
    if (ws.hasWhat.size > 0 && memory >= mean + halfGap && memory >= senderMin) {
      senders.push({ ws, max: memory - mean, min: memory - mean - halfGap, tasks: ws.hasWhat.values() });
    } else if (memory < mean - halfGap && memory < recipientMax) {
      recipients.push({ ws, max: mean - memory, min: mean - memory - halfGap });
    }
  });
  const counts = { senders: senders.length, recipients: recipients.length };
  if (senders.length === 0 || recipients.length === 0) return { moves: [], ...counts, possible: false };
  return { moves: pair(senders, recipients, allowed), ...counts, possible: true };
}

function pair(senders: Sender[], recipients: Recipient[], allowed: ReadonlySet<string> | null): RebalanceMove[] {
  const moves: RebalanceMove[] = [];
  // Both lists are kept with the farthest from the mean first.
  senders.sort((a, b) => b.max - a.max);
  recipients.sort((a, b) => b.max - a.max);
  while (senders.length > 0 && recipients.length > 0) {
    const sender = senders[0] as Sender;
    const found = nextMove(sender, recipients, allowed);
    if (found === undefined) {
      senders.shift();
      continue;
    }
    const { recipient, task } = found;
    moves.push({ sender: sender.ws, recipient: recipient.ws, task });
    for (const side of [sender, recipient]) {
      side.max -= task.nbytes;
      side.min -= task.nbytes;
    }
    reinsert(senders, sender);
    reinsert(recipients, recipient);
  }
  return moves;
}

/** The least recently inserted task of the sender that may go, and the recipient farthest from the mean for it. */
function nextMove(
  sender: Sender,
  recipients: readonly Recipient[],
  allowed: ReadonlySet<string> | null,
): { recipient: Recipient; task: TaskState } | undefined {
  for (let next = sender.tasks.next(); !next.done; next = sender.tasks.next()) {
    const task = next.value;
    // An actor lives where it is; a copy of it would be a handle. Dask moves it all the same, and loses it.
    if (task.actor || (allowed !== null && !allowed.has(task.id))) continue;
    // It would take the sender below the mean.
    if (task.nbytes > sender.max) continue;
    for (const recipient of recipients) {
      if (task.nbytes > recipient.max) break;
      if (!recipient.ws.hasWhat.has(task)) return { recipient, task };
    }
  }
  return undefined;
}

/** Puts a side back in its place, or leaves it out where it is near enough to the mean. */
function reinsert<T extends Sender | Recipient>(sides: T[], side: T): void {
  sides.splice(sides.indexOf(side), 1);
  if (side.min <= 0) return;
  let at = 0;
  while (at < sides.length && (sides[at] as T).max > side.max) at++;
  sides.splice(at, 0, side);
}

/** Attributes of distributed.scheduler.MemoryState. */
export const MEMORY_MEASURES: readonly string[] = [
  "managed",
  "managed_total",
  "optimistic",
  "process",
  "spilled",
  "unmanaged",
  "unmanaged_old",
  "unmanaged_recent",
];

/**
 * MemoryState by the name of its attribute; bytes.
 *
 * @throws {RangeError} for a name that is none.
 */
export function memoryMeasure(memory: MemoryState, measure: string): number {
  const unmanaged = Math.max(0, memory.process - memory.managed);
  switch (measure) {
    case "process":
      return memory.process;
    case "managed":
      return memory.managed;
    case "managed_total":
      return memory.managed + memory.spilled;
    case "spilled":
      return memory.spilled;
    case "unmanaged":
      return unmanaged;
    case "unmanaged_old":
      return memory.unmanagedOld;
    case "unmanaged_recent":
      return unmanaged - memory.unmanagedOld;
    case "optimistic":
      return memory.managed + memory.unmanagedOld;
    default:
      throw new RangeError(`no memory measure '${measure}'`);
  }
}
