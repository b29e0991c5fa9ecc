/** Runs transitions: SchedulerState._transition and _transitions. */
import { formatKey } from "@dask-ts/protocol";
import type { Context, TransitionArgs } from "../context.ts";
import { InvalidTransitionError } from "../errors.ts";
import { setStimulus } from "../event.ts";
import { State, STATE_COUNT, type StateCode, stateName } from "../task-status.ts";
import type { TaskState } from "../task-state.ts";
import { TRANSITIONS } from "./table.ts";

/**
 * One transition. What it recommends is left in `ctx.recs`, its messages are in the outbox.
 *
 * @throws {InvalidTransitionError} where there is no way from the task's state to `finish`.
 */
export function transition(ctx: Context, ts: TaskState, finish: StateCode, args?: TransitionArgs): void {
  let start = ts.code;
  // A forgotten task is an unknown key to Dask.
  if (start === finish || start === State.forgotten) return;
  const { state, recs } = ctx;
  state.transitionCounter++;
  const recStart = recs.made;
  const step = TRANSITIONS[start * STATE_COUNT + finish];
  if (step !== undefined) {
    step(ctx, ts, args);
  } else if (start !== State.released && finish !== State.released) {
    transition(ctx, ts, State.released);
    // What the first step recommends for the task itself goes before what was asked for.
    const next = ts.recommended >= 0 ? (ts.recommended as StateCode) : finish;
    const second = TRANSITIONS[State.released * STATE_COUNT + next];
    if (second === undefined) throw impossible(ctx, ts, State.released, next);
    second(ctx, ts, undefined);
    start = State.released;
  } else {
    throw impossible(ctx, ts, start, finish);
  }

  ctx.log.append(ts, start, ctx.stimulusId, ctx.now, recStart);
  const listeners = ctx.listeners.transition;
  if (listeners.length > 0) {
    const extra = { stimulusId: ctx.stimulusId, now: ctx.now, message: args?.message };
    for (const listener of listeners) listener(ts, start, ts.code, extra);
  }
  if (ts.code === State.forgotten) {
    const group = ts.group;
    if (group.forgotten && !group.removed) {
      group.removed = true;
      group.prefix.removeGroup(group);
      if (state.taskGroups.get(group.id) === group) state.taskGroups.delete(group.id);
    }
  }
}

/** Drains what is recommended, last first, until nothing is left. */
export function drain(ctx: Context): void {
  const { recs } = ctx;
  try {
    for (;;) {
      const ts = recs.pop();
      if (ts === undefined) {
        if (recs.waitingOnErred.length === 0) return;
        failWaitingOnErred(ctx);
        continue;
      }
      const finish = ts.recommended as StateCode;
      ts.recommended = -1;
      transition(ctx, ts, finish);
      // It was to err, and then was not needed. Dask keeps the blame: whatever depends on it later errs for nothing.
      if (ts.code === State.released && ts.recommended !== State.erred) ts.exceptionBlame = null;
    }
  } catch (error) {
    recs.clear();
    throw error;
  }
}

function failWaitingOnErred(ctx: Context): void {
  for (const ts of ctx.recs.waitingOnErred.splice(0)) {
    if (ts.code !== State.waiting) continue;
    for (const dts of ts.dependencies.items) {
      if (dts.code !== State.erred) continue;
      ts.exceptionBlame = dts.exceptionBlame;
      ctx.recs.set(ts, State.erred);
      break;
    }
  }
}

/** Scheduler.transitions for one task. */
export function transitions(ctx: Context, ts: TaskState, finish: StateCode, stimulusId: string): void {
  setStimulus(ctx, stimulusId);
  ctx.recs.set(ts, finish);
  drain(ctx);
}

function impossible(ctx: Context, ts: TaskState, start: StateCode, finish: StateCode): InvalidTransitionError {
  return new InvalidTransitionError(
    `Impossible transition from ${stateName(start)} to ${stateName(finish)} for ${formatKey(ts.key)}: ` +
      `stimulus_id=${ctx.stimulusId}`,
    ctx.log.story([ts.key]),
  );
}
