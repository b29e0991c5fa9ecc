/**
 * What the policies of one run have suggested and the active memory manager has accepted. Nothing is sent before
 * `enact`. Policies in Python answer over many turns of the event loop: tasks, replicas and workers may be gone by then.
 */
import type { Context } from "../context.ts";
import type { TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";
import type { WorkerState } from "../worker-state.ts";
import { requestAcquireReplicas, requestRemoveReplicas } from "./replica-requests.ts";
import { WorkerMemory } from "./worker-memory.ts";

interface Pending {
  readonly replicate: Set<WorkerState>;
  readonly drop: Set<WorkerState>;
  /** Those of `replicate` that have been asked to fetch the data. */
  readonly sent: Set<WorkerState>;
}

export class Suggestions {
  readonly #ctx: Context;
  readonly #memory: WorkerMemory;
  readonly #pending: Map<TaskState, Pending> = new Map();

  constructor(ctx: Context, measure: string) {
    this.#ctx = ctx;
    this.#memory = new WorkerMemory(ctx.state, measure);
  }

  /** Replicas that the task will get, and lose, by what has been accepted so far. */
  pendingReplicas(ts: TaskState): number {
    return this.#pending.get(ts)?.replicate.size ?? 0;
  }

  pendingDrops(ts: TaskState): number {
    return this.#pending.get(ts)?.drop.size ?? 0;
  }

  /** Bytes of each worker, with what has been accepted so far. */
  *memory(): Generator<[WorkerState, number]> {
    for (const ws of this.#ctx.state.workers.values()) yield [ws, this.#memory.of(ws)];
  }

  /** The tasks that are to get or lose replicas, and the workers concerned. */
  *pending(): Generator<{ ts: TaskState; replicate: ReadonlySet<WorkerState>; drop: ReadonlySet<WorkerState> }> {
    for (const [ts, { replicate, drop }] of this.#pending) {
      if (replicate.size > 0 || drop.size > 0) yield { ts, replicate, drop };
    }
  }

  /**
   * ActiveMemoryManagerExtension._find_recipient: one more replica, where the least memory is used.
   *
   * @param candidates the only workers that may get it; by default all.
   * @returns the recipient; undefined where the suggestion is not taken.
   */
  replicate(ts: TaskState, candidates?: Iterable<WorkerState>): WorkerState | undefined {
    if (ts.code !== State.memory || ts.actor) return undefined;
    const pending = this.#pending.get(ts);
    const accepts = (ws: WorkerState): boolean => !ts.whoHas.has(ws) && !(pending?.replicate.has(ws) ?? false);
    const choice =
      candidates === undefined
        ? this.#memory.least(accepts)
        : this.#emptiest(filter(this.#running(candidates), accepts));
    if (choice === undefined) return undefined;
    this.#pendingOf(ts).replicate.add(choice);
    this.#memory.add(choice, ts.nbytes);
    return choice;
  }

  /**
   * ActiveMemoryManagerExtension._find_dropper: one replica less, where the most memory is used; never the last one,
   * and none that a task on its worker is about to use.
   *
   * @param accepts whether a worker may drop it; by default all may.
   * @returns the worker that drops it; undefined where the suggestion is not taken.
   */
  drop(ts: TaskState, accepts?: (ws: WorkerState) => boolean): WorkerState | undefined {
    if (ts.actor) return undefined;
    const dropping = this.#pending.get(ts)?.drop;
    const holders = new Set<WorkerState>();
    let left = 0;
    for (const ws of ts.whoHas.items) {
      if (dropping?.has(ws) === true) continue;
      left++;
      if (accepts === undefined || accepts(ws)) holders.add(ws);
    }
    if (left < 2) return undefined;
    const busy = withoutBusy(ts, holders);
    const choice = this.#fullest(holders);
    if (choice === undefined) return undefined;
    // The other replicas are where tasks use them, on workers about to leave: this one must stay for when they have left,
    // or it would be copied and dropped again and again.
    if (
      holders.size === 1 &&
      choice.status === "running" &&
      busy.length > 0 &&
      busy.every((ws) => ws.status !== "running")
    ) {
      return undefined;
    }
    this.#pendingOf(ts).drop.add(choice);
    this.#memory.add(choice, -ts.nbytes);
    return choice;
  }

  /**
   * ActiveMemoryManagerExtension._enact_suggestions. What has changed since it was accepted is left out: tasks and
   * replicas that are gone, workers that take no more data, replicas that have come into use; the last one stays.
   */
  enact(stimulusId: string): void {
    const ctx = this.#ctx;
    const { state } = ctx;
    const acquire = new Map<WorkerState, TaskState[]>();
    const remove = new Map<WorkerState, TaskState[]>();
    for (const [ts, { replicate, drop, sent }] of this.#pending) {
      if (ts.code !== State.memory || state.tasks.get(ts.id) !== ts) {
        drop.clear();
        continue;
      }
      for (const ws of replicate) {
        if (sent.has(ws)) continue;
        sent.add(ws);
        if (state.running.has(ws) && !ts.whoHas.has(ws)) push(acquire, ws, ts);
      }
      const droppers = new Set(filter(drop, (ws) => ts.whoHas.has(ws)));
      drop.clear();
      withoutBusy(ts, droppers);
      let left = ts.whoHas.size;
      for (const ws of droppers) {
        if (left < 2) break;
        left--;
        push(remove, ws, ts);
      }
    }
    for (const [ws, tasks] of acquire) requestAcquireReplicas(ctx, ws, tasks, stimulusId);
    for (const [ws, tasks] of remove) requestRemoveReplicas(ctx, ws, tasks, stimulusId);
  }

  #running(candidates: Iterable<WorkerState>): Iterable<WorkerState> {
    return filter(candidates, (ws) => this.#ctx.state.running.has(ws));
  }

  #emptiest(candidates: Iterable<WorkerState>): WorkerState | undefined {
    let best: WorkerState | undefined;
    for (const ws of candidates) {
      if (best === undefined || this.#memory.of(ws) < this.#memory.of(best)) best = ws;
    }
    return best;
  }

  /** Not running ones first, then by memory. */
  #fullest(candidates: Iterable<WorkerState>): WorkerState | undefined {
    let best: WorkerState | undefined;
    for (const ws of candidates) {
      if (best === undefined) {
        best = ws;
        continue;
      }
      const order = Number(best.status === "running") - Number(ws.status === "running");
      if (order > 0 || (order === 0 && this.#memory.of(ws) > this.#memory.of(best))) best = ws;
    }
    return best;
  }

  #pendingOf(ts: TaskState): Pending {
    let pending = this.#pending.get(ts);
    if (pending === undefined) {
      pending = { replicate: new Set(), drop: new Set(), sent: new Set() };
      this.#pending.set(ts, pending);
    }
    return pending;
  }
}

/** Takes the workers that process a dependent out of the candidates. @returns them */
function withoutBusy(ts: TaskState, candidates: Set<WorkerState>): WorkerState[] {
  const busy: WorkerState[] = [];
  for (const waiter of ts.waiters.items) {
    if (candidates.size === 0) break;
    const ws = waiter.processingOn;
    if (ws !== null && candidates.delete(ws)) busy.push(ws);
  }
  return busy;
}

function* filter<T>(items: Iterable<T>, accepts: (item: T) => boolean): Generator<T> {
  for (const item of items) if (accepts(item)) yield item;
}

function push(map: Map<WorkerState, TaskState[]>, ws: WorkerState, ts: TaskState): void {
  const tasks = map.get(ws);
  if (tasks === undefined) map.set(ws, [ts]);
  else tasks.push(ts);
}
