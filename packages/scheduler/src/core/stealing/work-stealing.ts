/**
 * Work stealing (distributed.stealing.WorkStealing): tasks that wait on busy workers are asked back and given to idle
 * ones, where that makes them start earlier.
 */
import type { Key, Message, Value } from "@dask-ts/protocol";
import { type Context, sendToWorker } from "../context.ts";
import { BadMessageError } from "../errors.ts";
import { beginEvent } from "../event.ts";
import { keyField, textField } from "../fields.ts";
import { reschedule } from "../handlers/task-stream.ts";
import type { StealingHook } from "../hooks.ts";
import { computeTaskMessage } from "../messages.ts";
import { addToProcessing, removeFromProcessing } from "../occupancy.ts";
import { checkIdleSaturated, commCost } from "../placement.ts";
import { queueSlotsMaybeOpened } from "../queue-slots.ts";
import type { TaskState } from "../task-state.ts";
import { acquireResources, releaseResources } from "../transitions/common.ts";
import { validateState } from "../validate.ts";
import type { WorkerState } from "../worker-state.ts";
import { balance } from "./balance.ts";
import { InFlight, type StealRequest } from "./in-flight.ts";
import { addStealable, checkStealable, fastPrefixes, removeStealable, STEAL_LEVELS, stealLevel } from "./stealable.ts";

/** States of the task on the victim in which it has given the task up (_WORKER_STATE_CONFIRM). */
const CONFIRM: ReadonlySet<Value> = new Set<Value>(["ready", "constrained", "waiting"]);
/** It runs or has run; it stays (_WORKER_STATE_REJECT). */
const REJECT: ReadonlySet<Value> = new Set<Value>(["memory", "executing", "long-running", "cancelled", "resumed"]);
/** The victim does not have it (_WORKER_STATE_UNDEFINED). */
const UNDEFINED: ReadonlySet<Value> = new Set<Value>(["released", null]);

export class WorkStealing implements StealingHook {
  readonly inFlight: InFlight = new InFlight();
  /** Requests made so far, and seconds that their tasks would take on the victim, by level. */
  readonly requestCount: number[] = Array.from({ length: STEAL_LEVELS }, () => 0);
  readonly requestCost: number[] = Array.from({ length: STEAL_LEVELS }, () => 0);
  readonly #ctx: Context;
  readonly #fast: ReadonlySet<string>;
  #requests = 0;
  /** Rounds of balancing so far. */
  rounds = 0;

  /** Takes over what is processing already. */
  constructor(ctx: Context) {
    this.#ctx = ctx;
    this.#fast = fastPrefixes(ctx.config.defaultTaskDurations);
    for (const ws of ctx.state.workers.values()) {
      for (const ts of ws.processing) if (!ws.longRunning.has(ts)) this.enterProcessing(ts, ws);
    }
  }

  enterProcessing(ts: TaskState, ws: WorkerState): void {
    const level = this.levelOf(ts);
    if (level >= 0) addStealable(ws, ts, level);
  }

  leaveProcessing(ts: TaskState, ws: WorkerState): void {
    if (ts.stealSlot >= 0) removeStealable(ws, ts);
    else if (this.inFlight.size > 0) this.inFlight.remove(ts);
  }

  removeKeyFromStealable(ts: TaskState): void {
    if (ts.processingOn !== null) removeStealable(ts.processingOn, ts);
  }

  /** The level at which the task is worth stealing as of now; -1 for none. */
  levelOf(ts: TaskState): number {
    return stealLevel(this.#ctx.state, ts, this.#fast);
  }

  /** Asks busy workers for tasks that idle ones could start earlier; to be called every `work-stealing-interval`. */
  balance(now: number): void {
    const ctx = this.#ctx;
    beginEvent(ctx, `steal-balance-${now}`, now);
    const log = balance(ctx, this, now);
    this.rounds++;
    if (log.length > 0) ctx.outbox.event("stealing", ["request", log]);
    if (ctx.config.validate) validateState(ctx);
  }

  /** WorkStealing.move_task_request. */
  request(ts: TaskState, victim: WorkerState, thief: WorkerState): void {
    const { state, outbox } = this.#ctx;
    removeStealable(victim, ts);
    const compute = ts.prefix.estimate;
    const stimulusId = `steal-${this.#requests++}`;
    outbox.worker(victim.address, { op: "steal-request", key: ts.key, stimulus_id: stimulusId });
    this.inFlight.add(ts, {
      victim,
      thief,
      victimDuration: compute + commCost(state, ts, victim),
      thiefDuration: compute + commCost(state, ts, thief),
      stimulusId,
    });
  }

  moveTaskConfirm(worker: string, message: Message, now: number): void {
    const ctx = this.#ctx;
    const { state } = ctx;
    const key = keyField(message, "key");
    const stimulusId = textField(message, "stimulus_id");
    const answer = message["state"] ?? null;
    beginEvent(ctx, stimulusId, now);
    const ts = state.taskOf(key);
    if (ts === undefined) return;
    const request = this.inFlight.get(ts);
    if (request === undefined || request.stimulusId !== stimulusId) {
      const what = request === undefined ? "already-aborted" : "stale-response";
      ctx.outbox.event("stealing", [what, key, answer, worker, stimulusId]);
      return;
    }
    this.inFlight.remove(ts);
    const { victim, thief } = request;
    this.#answered(ts, key, answer, request);
    checkIdleSaturated(state, thief);
    checkIdleSaturated(state, victim);
    queueSlotsMaybeOpened(ctx);
  }

  #answered(ts: TaskState, key: Key, answer: Value, { victim, thief, stimulusId }: StealRequest): void {
    const ctx = this.#ctx;
    const log = (...head: Value[]): void => {
      ctx.outbox.event("stealing", [...head, key, answer, victim.address, thief.address, stimulusId]);
    };
    // Gone, or paused or retiring meanwhile (which Dask does not look at: the task would wait there).
    const gone = ctx.state.workers.get(thief.address) !== thief || thief.status !== "running";
    if (UNDEFINED.has(answer) || (CONFIRM.has(answer) && gone)) {
      log("reschedule", !ctx.state.workers.has(thief.address));
      reschedule(ctx, key, null, stimulusId, ctx.now);
    } else if (REJECT.has(answer)) {
      log("already-computing");
    } else if (CONFIRM.has(answer)) {
      this.#move(ts, victim, thief);
      log("confirm");
    } else {
      throw new BadMessageError(`steal-response: unexpected task state ${String(answer)}`);
    }
  }

  /** The victim has given the task up. Resources and actors go with it, which Dask forgets. */
  #move(ts: TaskState, victim: WorkerState, thief: WorkerState): void {
    const ctx = this.#ctx;
    removeStealable(victim, ts);
    ts.processingOn = thief;
    removeFromProcessing(ctx.state, victim, ts);
    releaseResources(ts, victim);
    addToProcessing(ctx.state, thief, ts);
    acquireResources(ts, thief);
    if (ts.actor) {
      victim.actors.delete(ts);
      thief.actors.add(ts);
    }
    this.enterProcessing(ts, thief);
    sendToWorker(ctx, thief.address, computeTaskMessage(ctx, ts));
  }

  /** Counts a request for the metrics. */
  count(level: number, cost: number): void {
    this.requestCount[level] = (this.requestCount[level] as number) + 1;
    this.requestCost[level] = (this.requestCost[level] as number) + cost;
  }

  check(check: (condition: boolean, text: string) => void): void {
    const { state } = this.#ctx;
    let stealable = 0;
    for (const ws of state.workers.values()) {
      checkStealable(ws, check);
      for (const level of ws.stealable) stealable += level.size;
    }
    const occupancy = new Map<WorkerState, number>();
    const tasks = new Map<WorkerState, number>();
    for (const [ts, { victim, thief, victimDuration, thiefDuration }] of this.inFlight) {
      check(ts.processingOn === victim, `in flight ${ts.id} is not processing on ${victim.address}`);
      check(ts.stealSlot < 0, `in flight ${ts.id} is still stealable`);
      occupancy.set(victim, (occupancy.get(victim) ?? 0) - victimDuration);
      occupancy.set(thief, (occupancy.get(thief) ?? 0) + thiefDuration);
      tasks.set(victim, (tasks.get(victim) ?? 0) - 1);
      tasks.set(thief, (tasks.get(thief) ?? 0) + 1);
    }
    for (const [ws, seconds] of occupancy) {
      check(tasks.get(ws) === this.inFlight.tasks(ws), `${ws.address}: tasks in flight`);
      check(Math.abs(seconds - this.inFlight.occupancy(ws)) < 1e-6, `${ws.address}: occupancy in flight`);
    }
    for (const ts of state.tasks.values()) if (ts.stealSlot >= 0) stealable--;
    check(stealable === 0, "stealable tasks that are in no list");
  }
}
