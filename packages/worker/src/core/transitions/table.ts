/** Every transition: start, finish, function. Mirrors `WorkerState._TRANSITIONS_TABLE`. */
import type { TaskStateName } from "../task-state.ts";
import { cancelledFetch, cancelledOrResumedLongRunning, cancelledReleased, cancelledWaiting } from "./cancelled.ts";
import {
  executingLongRunning,
  executingMemory,
  executingReleased,
  executingRescheduled,
  executingWaits,
} from "./executing.ts";
import {
  fetchFlight,
  fetchMissing,
  fetchReleased,
  flightError,
  flightFetch,
  flightMemory,
  flightMissing,
  flightReleased,
  missingFetch,
  missingReleased,
  missingWaiting,
} from "./fetching.ts";
import {
  genericError,
  genericFetch,
  genericMissing,
  genericReleased,
  releasedWaiting,
  type Transition,
} from "./generic.ts";
import { memoryReleased } from "./memory.ts";
import { releasedForgotten, releasedMemory } from "./released.ts";
import { resumedError, resumedFetch, resumedMemory, resumedReleased, resumedRescheduled } from "./resumed.ts";
import { readyExecuting, waitingConstrained, waitingError, waitingReady } from "./waiting.ts";

export const TRANSITIONS: Readonly<Record<TaskStateName, Readonly<Partial<Record<TaskStateName, Transition>>>>> = {
  released: {
    error: genericError,
    fetch: genericFetch,
    forgotten: releasedForgotten,
    memory: releasedMemory,
    missing: genericMissing,
    waiting: releasedWaiting,
  },
  waiting: { constrained: waitingConstrained, error: waitingError, ready: waitingReady, released: genericReleased },
  ready: { executing: readyExecuting, released: genericReleased },
  constrained: { executing: readyExecuting, released: genericReleased },
  executing: {
    error: genericError,
    "long-running": executingLongRunning,
    memory: executingMemory,
    ready: executingWaits,
    released: executingReleased,
    rescheduled: executingRescheduled,
  },
  "long-running": {
    error: genericError,
    memory: executingMemory,
    released: executingReleased,
    rescheduled: executingRescheduled,
  },
  memory: { released: memoryReleased },
  error: { released: genericReleased },
  fetch: { flight: fetchFlight, missing: fetchMissing, released: fetchReleased },
  flight: {
    error: flightError,
    fetch: flightFetch,
    memory: flightMemory,
    missing: flightMissing,
    released: flightReleased,
  },
  missing: { error: genericError, fetch: missingFetch, released: missingReleased, waiting: missingWaiting },
  cancelled: {
    error: cancelledReleased,
    fetch: cancelledFetch,
    "long-running": cancelledOrResumedLongRunning,
    memory: cancelledReleased,
    missing: cancelledReleased,
    released: cancelledReleased,
    rescheduled: cancelledReleased,
    waiting: cancelledWaiting,
  },
  resumed: {
    error: resumedError,
    fetch: resumedFetch,
    "long-running": cancelledOrResumedLongRunning,
    memory: resumedMemory,
    released: resumedReleased,
    rescheduled: resumedRescheduled,
  },
  rescheduled: {},
  forgotten: {},
};
