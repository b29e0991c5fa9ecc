/** Messages of the streams to workers and clients (wire protocol §17 and §19). */
import { type Key, type Message, type Value } from "@dask-ts/protocol";
import type { Context } from "./context.ts";
import type { TaskState } from "./task-state.ts";

const EMPTY_MAP: ReadonlyMap<Value, Value> = new Map();

/** Scheduler._task_to_msg. Every send has a new run_id. The fields are exactly those of the worker's dataclass. */
export function computeTaskMessage(ctx: Context, ts: TaskState): Message {
  ts.runId = ++ctx.state.lastRunId;
  const dependencies = ts.dependencies.items;
  let whoHas = EMPTY_MAP;
  let nbytes = EMPTY_MAP;
  if (dependencies.length > 0) {
    const holders = new Map<Value, Value>();
    const sizes = new Map<Value, Value>();
    for (const dts of dependencies) {
      const addresses: string[] = [];
      for (const ws of dts.whoHas.items) addresses.push(ws.address);
      holders.set(dts.key, addresses);
      sizes.set(dts.key, dts.nbytes);
    }
    whoHas = holders;
    nbytes = sizes;
  }
  return {
    op: "compute-task",
    key: ts.key,
    run_id: ts.runId,
    priority: [ts.p0, ts.p1, ts.p2],
    stimulus_id: computeStimulusId(ctx.now),
    who_has: whoHas,
    nbytes,
    run_spec: ts.runSpec,
    resource_restrictions: ts.restrictions?.resourcesOnWire ?? null,
    actor: ts.actor,
    annotations: ts.annotations ?? EMPTY_MAP,
    span_id: ts.group.spanId,
  };
}

let lastTime = Number.NaN;
let lastId = "";

/** `compute-task-<time>`; one event sends many tasks at one time. */
function computeStimulusId(now: number): string {
  if (now !== lastTime) {
    lastTime = now;
    lastId = `compute-task-${now}`;
  }
  return lastId;
}

export function freeKeys(keys: readonly Key[], stimulusId: string): Message {
  return { op: "free-keys", keys: keys, stimulus_id: stimulusId };
}

/** `task-erred` of a task, with the exception of the one to blame. */
export function taskErred(ts: TaskState, failing: TaskState): Message {
  return {
    op: "task-erred",
    key: ts.key,
    exception: failing.error?.exception ?? null,
    traceback: failing.error?.traceback ?? null,
  };
}

/** `_task_to_report_msg`: the state of a task as clients are told it, or undefined where there is nothing to tell. */
export function taskReport(ts: TaskState): Message | undefined {
  switch (ts.state) {
    case "forgotten":
      return { op: "cancelled-keys", keys: [ts.key], reason: "already forgotten" };
    case "memory":
      return { op: "key-in-memory", key: ts.key as Value };
    case "erred":
      return taskErred(ts, ts.exceptionBlame ?? ts);
    default:
      return undefined;
  }
}
