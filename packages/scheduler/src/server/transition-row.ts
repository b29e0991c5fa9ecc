/** One entry of the transition log as stories and dumps carry it (SchedulerState.transition_log). */
import { float, type Value } from "@dask-ts/protocol";
import type { Transition } from "../core/transition-log.ts";

/** `(key, start, finish, recommendations, stimulus_id, time)` */
export function transitionRow({ key, start, finish, recommendations, stimulusId, time }: Transition): Value {
  return [
    key,
    start,
    finish,
    new Map(recommendations.map(([rec, target]) => [rec as Value, target])),
    stimulusId,
    float(time),
  ];
}
