/**
 * What the policies of one run have suggested and the active memory manager has accepted. Nothing is sent before the
 * run has ended.
 */
import { type Context, sendToWorker } from "../context.ts";
import { InvariantError } from "../errors.ts";
import { removeReplica } from "../occupancy.ts";
import type { TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";
import type { WorkerState } from "../worker-state.ts";
import { WorkerMemory } from "./worker-memory.ts";
import type { Value } from "@dask-ts/protocol";

interface Pending {
  readonly replicate: Set<WorkerState>;
  readonly drop: Set<WorkerState>;
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

  /**
   * ActiveMemoryManagerExtension._find_recipient: one more replica, where the least memory is used.
   *
   * @returns the recipient; undefined where the suggestion is not taken.
   */
  replicate(ts: TaskState): WorkerState | undefined {
    if (ts.code !== State.memory || ts.actor) return undefined;
    const pending = this.#pending.get(ts);
    const choice = this.#memory.least((ws) => !ts.whoHas.has(ws) && !(pending?.replicate.has(ws) ?? false));
    if (choice === undefined) return undefined;
    this.#pendingOf(ts).replicate.add(choice);
    this.#memory.add(choice, ts.nbytes);
    return choice;
  }

  /**
   * ActiveMemoryManagerExtension._find_dropper: one replica less, where the most memory is used; never the last one,
   * and none that a task on its worker is about to use.
   *
   * @param from the only worker to drop it; by default any.
   * @returns the worker that drops it; undefined where the suggestion is not taken.
   */
  drop(ts: TaskState, from?: WorkerState): WorkerState | undefined {
    const dropping = this.#pending.get(ts)?.drop;
    if (ts.whoHas.size - (dropping?.size ?? 0) < 2 || ts.actor) return undefined;
    const holders = new Set<WorkerState>();
    for (const ws of ts.whoHas.items) {
      if ((from === undefined || ws === from) && !(dropping?.has(ws) ?? false)) holders.add(ws);
    }
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

  /** ActiveMemoryManagerExtension._enact_suggestions. Replicas to drop are forgotten at once; workers may refuse. */
  enact(stimulusId: string): void {
    const ctx = this.#ctx;
    const acquire = new Map<WorkerState, TaskState[]>();
    const remove = new Map<WorkerState, TaskState[]>();
    for (const [ts, { replicate, drop }] of this.#pending) {
      if (ts.whoHas.size === 0) continue;
      if (drop.size >= ts.whoHas.size) throw new InvariantError(`active memory manager: last replica of ${ts.id}`, []);
      for (const ws of replicate) push(acquire, ws, ts);
      for (const ws of drop) push(remove, ws, ts);
    }
    for (const [ws, tasks] of acquire) {
      const whoHas = new Map<Value, Value>();
      const nbytes = new Map<Value, Value>();
      for (const ts of tasks) {
        whoHas.set(
          ts.key,
          ts.whoHas.items.map((holder) => holder.address),
        );
        nbytes.set(ts.key, ts.nbytes);
      }
      sendToWorker(ctx, ws.address, { op: "acquire-replicas", who_has: whoHas, nbytes, stimulus_id: stimulusId });
    }
    for (const [ws, tasks] of remove) {
      for (const ts of tasks) removeReplica(ctx.state, ts, ws);
      const keys = tasks.map((ts) => ts.key);
      sendToWorker(ctx, ws.address, { op: "remove-replicas", keys, stimulus_id: stimulusId });
    }
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
      pending = { replicate: new Set(), drop: new Set() };
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

function push(map: Map<WorkerState, TaskState[]>, ws: WorkerState, ts: TaskState): void {
  const tasks = map.get(ws);
  if (tasks === undefined) map.set(ws, [ts]);
  else tasks.push(ts);
}
