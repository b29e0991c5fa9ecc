/** All that is known of a task, for dumps and web pages. */
import { float, type Value } from "@dask-ts/protocol";
import type { TaskState } from "../core/task-state.ts";

export function taskDetails(ts: TaskState): Map<Value, Value> {
  const keys = (tasks: readonly TaskState[]): Value => tasks.map((other) => other.key as Value);
  return new Map<Value, Value>([
    ["key", ts.key],
    ["state", ts.state],
    ["group", ts.group.name],
    ["prefix", ts.prefix.name],
    ["priority", ts.priority === null ? null : ts.priority.map((n) => float(n))],
    ["nbytes", ts.nbytes],
    ["type", ts.typename],
    ["dependencies", keys(ts.dependencies.items)],
    ["dependents", keys(ts.dependents.items)],
    ["waiting_on", keys(ts.waitingOn.items)],
    ["waiters", keys(ts.waiters.items)],
    ["who_has", ts.whoHas.items.map((ws) => ws.address)],
    ["who_wants", ts.whoWants.items.map((cs) => cs.client)],
    ["processing_on", ts.processingOn?.address ?? null],
    ["retries", ts.retries],
    ["suspicious", ts.suspicious],
    ["run_id", ts.runId],
    ["actor", ts.actor],
    ["exception_text", ts.error?.exceptionText ?? ""],
    ["traceback_text", ts.error?.tracebackText ?? ""],
    ["exception_blame", ts.exceptionBlame === null ? null : ts.exceptionBlame.key],
    ["erred_on", [...(ts.erredOn ?? [])]],
    ["annotations", ts.annotations],
    ["metadata", ts.metadata],
  ]);
}
