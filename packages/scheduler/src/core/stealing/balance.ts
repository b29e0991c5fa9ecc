/** One round of work stealing: which tasks are asked back from whom, and for whom (WorkStealing.balance). */
import { float, type Value } from "@dask-ts/protocol";
import type { Context } from "../context.ts";
import { occupancyOf, totalOccupancy } from "../occupancy.ts";
import { checkIdleSaturated, commCost } from "../placement.ts";
import type { SchedulerState } from "../state.ts";
import type { TaskState } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { addStealable, removeStealable, type StealableTasks, STEAL_LEVELS } from "./stealable.ts";
import { Thieves } from "./thieves.ts";
import type { WorkStealing } from "./work-stealing.ts";

/** A level of one victim is left after this many tasks in a row that nobody gains from; the next round goes on there. */
const MAX_FRUITLESS = 1000;
/** Tasks looked at in one round. Dask has neither limit, and its loop stands still meanwhile. */
const MAX_EXAMINED = 50_000;
/** Victims that are considered where none is saturated. */
const BUSIEST = 10;

/** Seconds of work below which a worker is left alone where none is saturated. */
const MIN_VICTIM_OCCUPANCY = 0.2;

/** @returns for each request: time, level, key, cost, victim, its occupancy, thief, its occupancy. */
export function balance(ctx: Context, stealing: WorkStealing, now: number): Value[] {
  const { state } = ctx;
  // Paused and closing workers are never idle.
  if (state.idle.size === 0 || state.idle.size === state.workers.size) return [];
  // Occupancies do not change in a round, but for what is in flight.
  const occupancy = (ws: WorkerState): number => occupancyOf(state, ws) + stealing.inFlight.occupancy(ws);
  const victims = findVictims(state, stealing, occupancy);
  if (victims.length === 0) return [];
  const thieves = new Thieves(state, state.idle, occupancy);
  const round = new Round(ctx, stealing, thieves, occupancy, now);
  for (let level = 0; level < STEAL_LEVELS && thieves.size > 0; level++) {
    for (const victim of victims) {
      if ((victim.stealable[level] as StealableTasks).size === 0 || thieves.size === 0) continue;
      round.steal(victim, level);
      checkIdleSaturated(state, victim, occupancy(victim));
    }
  }
  return round.log;
}

function findVictims(
  state: SchedulerState,
  stealing: WorkStealing,
  occupancy: (ws: WorkerState) => number,
): WorkerState[] {
  const byOccupancy = (workers: Iterable<WorkerState>): WorkerState[] =>
    Array.from(workers, (ws) => ({ ws, seconds: occupancy(ws) }))
      .sort((a, b) => b.seconds - a.seconds)
      .map(({ ws }) => ws);
  if (state.saturated.size >= 20) return [...state.saturated];
  if (state.saturated.size > 0) return byOccupancy(state.saturated);
  return byOccupancy(state.workers.values())
    .slice(0, BUSIEST)
    .filter(
      (ws) =>
        occupancy(ws) > MIN_VICTIM_OCCUPANCY &&
        ws.processing.size + stealing.inFlight.tasks(ws) > ws.nthreads &&
        !state.idle.has(ws),
    );
}

class Round {
  readonly log: Value[] = [];
  readonly #ctx: Context;
  readonly #stealing: WorkStealing;
  readonly #thieves: Thieves;
  readonly #occupancy: (ws: WorkerState) => number;
  readonly #now: number;
  #examined = 0;

  constructor(
    ctx: Context,
    stealing: WorkStealing,
    thieves: Thieves,
    occupancy: (ws: WorkerState) => number,
    now: number,
  ) {
    this.#ctx = ctx;
    this.#stealing = stealing;
    this.#thieves = thieves;
    this.#occupancy = occupancy;
    this.#now = now;
  }

  steal(victim: WorkerState, level: number): void {
    const tasks = victim.stealable[level] as StealableTasks;
    let left = tasks.size;
    // What came last starts last on the victim, so it is asked for first. Long lists are gone through by several rounds.
    let index = left > MAX_FRUITLESS ? left - 1 - ((this.#stealing.rounds * MAX_FRUITLESS) % left) : left - 1;
    for (let fruitless = 0; left > 0 && fruitless < MAX_FRUITLESS; left--, index--, fruitless++) {
      if (this.#thieves.size === 0 || this.#examined >= MAX_EXAMINED) return;
      this.#examined++;
      if (index < 0 || index >= tasks.size) index = tasks.size - 1;
      const ts = tasks.items[index] as TaskState;
      // Durations and bandwidth have changed since it came, or it was the first of its kind.
      const current = this.#stealing.levelOf(ts);
      if (current !== level) {
        removeStealable(victim, ts);
        if (current >= 0) addStealable(victim, ts, current);
        if (current < 0 || current > level) continue;
      }
      if (this.#stealFor(ts, victim, current)) fruitless = 0;
    }
  }

  /** False where nobody could start the task earlier. */
  #stealFor(ts: TaskState, victim: WorkerState, level: number): boolean {
    const { state } = this.#ctx;
    const thief = this.#thieves.bestFor(ts);
    if (thief === undefined) return false;
    const ofThief = this.#occupancy(thief);
    const ofVictim = this.#occupancy(victim);
    const compute = ts.prefix.estimate;
    const toVictim = commCost(state, ts, victim);
    if (ofThief + commCost(state, ts, thief) + compute > ofVictim - (toVictim + compute) / 2) return false;
    this.#stealing.request(ts, victim, thief);
    const cost = compute + toVictim;
    this.#stealing.count(level, cost);
    this.log.push([
      float(this.#now),
      level,
      ts.key,
      float(cost),
      victim.address,
      float(ofVictim),
      thief.address,
      float(ofThief),
    ]);
    if (this.#unoccupied(thief)) this.#thieves.changed(thief);
    else this.#thieves.delete(thief);
    return true;
  }

  /** SchedulerState.is_unoccupied, with what is in flight. */
  #unoccupied(ws: WorkerState): boolean {
    const { state } = this.#ctx;
    const n = ws.nthreads;
    if (ws.processing.size + this.#stealing.inFlight.tasks(ws) < n) return true;
    return this.#occupancy(ws) < (n * (totalOccupancy(state) / state.totalNthreads)) / 2;
  }
}
