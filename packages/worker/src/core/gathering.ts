/** Which values are fetched from which peers now. Mirrors `_ensure_communicating` and its helpers. */
import { float, type Key } from "@dask-ts/protocol";
import type { Peer } from "./peer.ts";
import { comparePriority, type Priority } from "./priority-heap.ts";
import type { TaskState } from "./task-state.ts";
import type { WorkerState } from "./worker-state.ts";

/** Starts transfers until no peer is left to ask or a limit is reached; recommends flight for their tasks. */
export function ensureCommunicating(s: WorkerState): void {
  if (!s.running || !s.gatherDirty || s.gatherable.size === 0 || shouldThrottle(s)) return;
  s.gatherDirty = false;
  s.blockedPriority = null;

  const candidates = new CandidateHeap(s);
  for (let peer = candidates.pop(); peer !== undefined; peer = candidates.pop()) {
    const { tasks, nbytes } = selectKeys(s, peer);
    if (tasks.length === 0) {
      s.blockedPriority = peer.needed.peek()?.priority ?? null;
      return;
    }
    const keys: Key[] = [];
    for (const ts of tasks) {
      keys.push(ts.key);
      s.recommendations.set(ts, { finish: "flight", worker: peer.address });
    }
    s.log.push(["gather-dependencies", peer.address, keys.slice(), s.stimulusId, float(s.now)]);
    s.instructions.push({
      kind: "gather",
      worker: peer.address,
      keys,
      totalNbytes: nbytes,
      stimulusId: s.stimulusId,
    });
    peer.inFlight = tasks;
    s.gatherable.delete(peer);
    s.inFlightWorkersCount++;
    s.transferIncomingCountTotal++;
    s.transferIncomingBytes += nbytes;
    if (shouldThrottle(s)) return;
  }
}

/** `_should_throttle_incoming_transfers`. */
function shouldThrottle(s: WorkerState): boolean {
  return (
    (s.inFlightWorkersCount >= s.transferIncomingCountLimit &&
      s.transferIncomingBytes >= s.transferIncomingBytesThrottleThreshold) ||
    s.transferIncomingBytes >= s.transferIncomingBytesLimit
  );
}

/** `_select_keys_for_gather`: the first tasks of a peer that fit into one message; they leave the heaps of all holders. */
function selectKeys(s: WorkerState, peer: Peer): { tasks: TaskState[]; nbytes: number } {
  const tasks: TaskState[] = [];
  let nbytes = 0;
  for (let ts = peer.needed.peek(); ts !== undefined; ts = peer.needed.peek()) {
    const size = s.sizeOf(ts);
    if (exceedsLimits(s, size, nbytes)) break;
    for (const holder of ts.whoHas) {
      holder.needed.delete(ts);
      if (holder.needed.size === 0) s.gatherable.delete(holder);
    }
    tasks.push(ts);
    nbytes += size;
  }
  return { tasks, nbytes };
}

/** `_task_exceeds_transfer_limits`. */
function exceedsLimits(s: WorkerState, size: number, messageNbytes: number): boolean {
  // Without other traffic the first task is fetched whatever its size, so that there is progress.
  if (s.transferIncomingBytes === 0 && messageNbytes === 0) return false;
  let allowance = s.transferIncomingBytesLimit - s.transferIncomingBytes;
  // The first task of a message may exceed the limit for messages, further ones may not.
  if (messageNbytes !== 0) allowance = Math.min(allowance, s.transferMessageBytesLimit) - messageNbytes;
  return size > allowance;
}

interface Candidate {
  readonly peer: Peer;
  readonly priority: Priority;
  /** Number of needed tasks when it was put here; another number now means that the place is out of date. */
  readonly count: number;
  readonly tieBreak: number;
}

/**
 * The peers in the order of `_select_workers_for_gather`: priority of their first task; local before remote; the most
 * tasks first; then by the seed and the address.
 */
class CandidateHeap {
  readonly #heap: Candidate[] = [];

  constructor(s: WorkerState) {
    for (const peer of s.gatherable) this.#push(peer, s.nextTieBreak());
  }

  pop(): Peer | undefined {
    for (;;) {
      const top = this.#takeTop();
      if (top === undefined) return undefined;
      const count = top.peer.needed.size;
      if (count === 0) continue;
      if (count === top.count) return top.peer;
      this.#push(top.peer, top.tieBreak);
    }
  }

  #push(peer: Peer, tieBreak: number): void {
    const first = peer.needed.peek();
    if (first === undefined) return;
    const heap = this.#heap;
    const candidate: Candidate = { peer, priority: first.priority ?? [], count: peer.needed.size, tieBreak };
    let at = heap.length;
    heap.push(candidate);
    while (at > 0) {
      const parentAt = (at - 1) >> 1;
      const parent = heap[parentAt] as Candidate;
      if (compareCandidates(candidate, parent) >= 0) break;
      heap[at] = parent;
      at = parentAt;
    }
    heap[at] = candidate;
  }

  #takeTop(): Candidate | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return top;
    let at = 0;
    for (;;) {
      let childAt = 2 * at + 1;
      if (childAt >= heap.length) break;
      let child = heap[childAt] as Candidate;
      const right = heap[childAt + 1];
      if (right !== undefined && compareCandidates(right, child) < 0) {
        child = right;
        childAt++;
      }
      if (compareCandidates(last, child) <= 0) break;
      heap[at] = child;
      at = childAt;
    }
    heap[at] = last;
    return top;
  }
}

function compareCandidates(a: Candidate, b: Candidate): number {
  return (
    comparePriority(a.priority, b.priority) ||
    Number(a.peer.remote) - Number(b.peer.remote) ||
    b.count - a.count ||
    a.tieBreak - b.tieBreak ||
    (a.peer.address < b.peer.address ? -1 : 1)
  );
}
