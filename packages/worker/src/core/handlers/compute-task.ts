/** `compute-task` and the two ways of taking it back. */
import { float, keyId, type Message } from "@dask-ts/protocol";
import { RELEASED, WAITING } from "../recommendations.ts";
import { type TaskStateName, withItem } from "../task-state.ts";
import type { WorkerState } from "../worker-state.ts";
import { holdersField, intField, keyField, priorityField, resourcesField, sizesField } from "./fields.ts";

/** The task is under way already: only its run_id changes. */
const PROCESSING: ReadonlySet<TaskStateName> = new Set<TaskStateName>([
  "waiting",
  "ready",
  "constrained",
  "executing",
  "long-running",
]);

/** Mirrors `_handle_compute_task`. */
export function handleComputeTask(s: WorkerState, message: Message): void {
  const key = keyField(message);
  const runId = intField(message, "run_id");
  const priority = priorityField(message, s.generation);
  const nbytes = sizesField(message, "nbytes");
  const whoHas = holdersField(message, "who_has");
  const resourceRestrictions = resourcesField(message);

  const id = keyId(key);
  const ts = s.tasks.get(id) ?? s.newTask(key, id);
  s.log.push([key, "compute-task", ts.state, s.stimulusId, float(s.now)]);
  ts.runId = runId;

  if (PROCESSING.has(ts.state)) return;
  if (ts.state === "memory") {
    s.sendTaskFinished(ts, runId);
    return;
  }

  s.recommendations.set(ts, WAITING);
  s.generation--;
  ts.runSpec = message["run_spec"] ?? null;
  ts.actor = message["actor"] === true;
  ts.exception = null;
  ts.traceback = null;
  ts.exceptionText = "";
  ts.tracebackText = "";
  ts.priority = priority;
  ts.annotations = message["annotations"] ?? null;
  ts.spanId = typeof message["span_id"] === "string" ? message["span_id"] : null;
  // A run that goes on will give back what it took, whatever the new request says.
  const runs = (ts.state === "cancelled" || ts.state === "resumed") && ts.previous !== "flight";
  if (!runs) ts.resourceRestrictions = resourceRestrictions;

  for (const dependency of nbytes) {
    const dep = s.ensureTaskExists(dependency.key, dependency.id, priority);
    s.expectSize(dep, dependency.nbytes);
    ts.dependencies = withItem(ts.dependencies, dep);
    dep.dependents = withItem(dep.dependents, ts);
  }
  s.updateWhoHas(whoHas);
}

/** Answers with the state, and gives the task away if it has not begun. Mirrors `_handle_steal_request`. */
export function handleStealRequest(s: WorkerState, message: Message): void {
  const key = keyField(message);
  const ts = s.task(key);
  const state = ts?.state ?? null;
  s.send({ op: "steal-response", key: key, state, stimulus_id: s.stimulusId });
  if (ts !== undefined && (state === "ready" || state === "constrained" || state === "waiting")) {
    s.recommendations.set(ts, RELEASED);
  }
}

/** Best effort: only before the task has begun. Mirrors `_handle_cancel_compute`. */
export function handleCancelCompute(s: WorkerState, message: Message): void {
  const key = keyField(message);
  const ts = s.task(key);
  if (ts === undefined || !(ts.state === "ready" || ts.state === "constrained" || ts.state === "waiting")) return;
  s.log.push([key, "cancel-compute", s.stimulusId, float(s.now)]);
  s.recommendations.set(ts, RELEASED);
}
