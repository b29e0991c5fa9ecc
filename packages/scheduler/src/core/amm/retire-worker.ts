/** Copies what only a retiring worker holds to others (distributed.active_memory_manager.RetireWorker). */
import type { Context } from "../context.ts";
import { formatKeys } from "../format.ts";
import type { SchedulerState } from "../state.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import type { AmmPolicy } from "./policy.ts";
import type { Suggestions } from "./suggestions.ts";

export class RetireWorker implements AmmPolicy {
  readonly address: string;
  /** There is data that no other worker can take: the worker must stay. */
  noRecipients = false;
  #finished = false;
  /** Another one may come to the same address, even before this has noticed that the first is gone. */
  #retiring: WorkerState | undefined;

  constructor(address: string) {
    this.address = address;
  }

  get name(): string {
    return `RetireWorker('${this.address}')`;
  }

  run(ctx: Context, suggestions: Suggestions): boolean {
    this.#finished = !this.#run(ctx, suggestions);
    return !this.#finished;
  }

  /** The worker can be let go, or there is no place for its data. */
  done(state: SchedulerState): boolean {
    // What has come into memory since the last run is computed again elsewhere.
    if (this.#finished) return true;
    const ws = state.workers.get(this.address);
    if (ws === undefined || (this.#retiring !== undefined && ws !== this.#retiring)) return true;
    for (const ts of ws.hasWhat) if (ts.whoHas.size <= 1) return false;
    return true;
  }

  /** False once there is nothing left to do. */
  #run({ state, outbox }: Context, suggestions: Suggestions): boolean {
    const ws = state.workers.get(this.address);
    this.#retiring ??= ws;
    if (ws === undefined || ws !== this.#retiring) return false;
    if (ws.actors.size > 0) {
      const keys = formatKeys([...ws.actors].map((ts) => ts.key));
      outbox.log(
        "warn",
        `Tried retiring worker ${this.address}, but it holds actor(s) ${keys}, which can't be moved. ` +
          "The worker will not be retired.",
      );
      this.noRecipients = true;
      return false;
    }
    const isThis = (holder: WorkerState): boolean => holder === ws;
    let moving = 0;
    let stuck = 0;
    for (const ts of ws.hasWhat) {
      // Only a proxy; an actor itself would have ended this above.
      if (ts.actor) continue;
      if (ts.whoHas.size > 1 && (suggestions.drop(ts, isThis) !== undefined || heldByRunning(state, ts))) continue;
      // The only replica, or all of them are on workers that retire.
      moving++;
      if (suggestions.pendingReplicas(ts) === 0 && suggestions.replicate(ts) === undefined) stuck++;
    }
    if (stuck > 0) {
      outbox.log(
        "warn",
        `Tried retiring worker ${this.address}, but ${stuck} tasks could not be moved as there are no suitable ` +
          "workers to receive them. The worker will not be retired.",
      );
      this.noRecipients = true;
      return false;
    }
    outbox.log(
      "info",
      moving > 0
        ? `Retiring worker ${this.address}; ${moving} keys are being moved away.`
        : `Retiring worker ${this.address}; no unique keys need to be moved away.`,
    );
    return moving > 0;
  }
}

function heldByRunning(state: SchedulerState, ts: TaskState): boolean {
  return ts.whoHas.items.some((holder) => state.running.has(holder));
}
