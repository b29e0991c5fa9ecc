/** Works off recommendations. Mirrors `WorkerState._transition` and `_transitions`. */
import type { Key } from "@dask-ts/protocol";
import { InvalidTransition } from "../errors.ts";
import { ensureCommunicating } from "../gathering.ts";
import { type Recommendation, RELEASED } from "../recommendations.ts";
import { TransitionRecord } from "../story.ts";
import type { TaskState, TaskStateName } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { TRANSITIONS } from "./table.ts";

/**
 * Follows recommendations until there are none, then starts transfers. Only at the end: before, tasks that are still on
 * their way to fetch would miss the message that could carry them.
 *
 * @param touched collects the tasks that were moved, where it is given.
 */
export function transitions(s: WorkerState, touched?: Set<TaskState>): void {
  drain(s, touched);
  ensureCommunicating(s);
  drain(s, touched);
}

function drain(s: WorkerState, touched: Set<TaskState> | undefined): void {
  const recommendations = s.recommendations;
  for (let ts = recommendations.pop(); ts !== undefined; ts = recommendations.pop()) {
    touched?.add(ts);
    recommendations.resetJournal();
    transition(s, ts, recommendations.popped);
  }
}

/** @throws {InvalidTransition} */
function transition(s: WorkerState, ts: TaskState, to: Recommendation): void {
  const start = ts.state;
  const finish = to.finish;
  if (start === finish) return;
  const step = TRANSITIONS[start][finish];
  s.transitionCounter++;
  if (s.transitionCounter >= s.transitionCounterMax) {
    throw new InvalidTransition(ts.key, start, finish, s.story([ts.key]), { topic: "transition-counter-max-exceeded" });
  }
  const journalStart = s.recommendations.journalLength;
  if (step !== undefined) {
    step(s, ts, to);
    if (s.reportTransitions) s.instructions.push({ kind: "transition", key: ts.key, start, finish });
  } else if (start !== "released" && finish !== "released") {
    throughReleased(s, ts, start, to);
  } else {
    throw s.invalidTransition(ts, start, finish);
  }
  s.log.push(new TransitionRecord(ts, start, finish, recommended(s, journalStart), s.stimulusId, s.now));
}

/** start → released → finish, following on the way what the first step recommends for the task, except forgetting it. */
function throughReleased(s: WorkerState, ts: TaskState, start: TaskStateName, to: Recommendation): void {
  try {
    transition(s, ts, RELEASED);
    for (let next = s.recommendations.take(ts); next !== undefined; next = s.recommendations.take(ts)) {
      if (next.finish !== "forgotten") transition(s, ts, next);
    }
    // A running task that was cancelled on the way has not left its state: it would go round for ever.
    if (ts.state === start && start === "cancelled") throw s.invalidTransition(ts, start, to.finish);
    transition(s, ts, to);
  } catch (error) {
    if (error instanceof InvalidTransition) throw s.invalidTransition(ts, start, to.finish, error);
    throw error;
  }
}

/** What this transition recommended, for the log: key, state, key, state, …. */
function recommended(s: WorkerState, journalStart: number): Key[] | null {
  const { journal, journalLength } = s.recommendations;
  if (journalLength === journalStart) return null;
  const out: Key[] = [];
  for (let i = journalStart; i + 1 < journalLength; i += 2) {
    out.push((journal[i] as TaskState).key, journal[i + 1] as string);
  }
  return out;
}
