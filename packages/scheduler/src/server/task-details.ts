/** All that is known of a task, for dumps and web pages (TaskState._to_dict_no_nest). */
import { float, type Value } from "@dask-ts/protocol";
import type { TaskState } from "../core/task-state.ts";
import { clientRepr, groupRepr, taskRepr, workerRepr } from "./state-reprs.ts";

/** Without the run_spec, as in stock; other tasks, workers and clients are shown by their repr only. */
export function taskDetails(ts: TaskState): Map<Value, Value> {
  const { restrictions } = ts;
  const workers = ts.whoHas.items.map(workerRepr);
  return new Map<Value, Value>([
    ["key", ts.key],
    ["state", ts.state],
    ["group", groupRepr(ts.group)],
    ["group_key", ts.group.name],
    ["prefix", groupRepr(ts.prefix)],
    ["priority", ts.priority === null ? null : [...ts.priority]],
    ["run_id", ts.runId],
    ["nbytes", ts.nbytes],
    ["type", ts.typename],
    ["actor", ts.actor],
    ["annotations", ts.annotations],
    ["metadata", ts.metadata],
    ["dependencies", ts.dependencies.items.map(taskRepr)],
    ["dependents", ts.dependents.items.map(taskRepr)],
    ["waiting_on", ts.waitingOn.items.map(taskRepr)],
    ["waiters", ts.waiters.items.map(taskRepr)],
    ["who_has", orNull(workers)],
    ["who_wants", orNull(ts.whoWants.items.map(clientRepr))],
    ["processing_on", ts.processingOn === null ? null : workerRepr(ts.processingOn)],
    ["retries", ts.retries],
    ["suspicious", ts.suspicious],
    ["has_lost_dependencies", ts.hasLostDependencies],
    ["worker_restrictions", orNull([...(restrictions?.workers ?? [])])],
    ["host_restrictions", orNull([...(restrictions?.hosts ?? [])])],
    ["resource_restrictions", resources(restrictions?.resources ?? null)],
    ["loose_restrictions", restrictions?.loose ?? false],
    ["exception", ts.error?.exception ?? null],
    ["traceback", ts.error?.traceback ?? null],
    ["exception_text", ts.error?.exceptionText ?? null],
    ["traceback_text", ts.error?.tracebackText ?? null],
    ["exception_blame", ts.exceptionBlame === null ? null : taskRepr(ts.exceptionBlame)],
    ["erred_on", orNull([...(ts.erredOn ?? [])])],
  ]);
}

function orNull(list: readonly Value[]): Value {
  return list.length === 0 ? null : list;
}

function resources(amounts: ReadonlyMap<string, number> | null): Value {
  return amounts === null ? null : new Map(Array.from(amounts, ([name, amount]) => [name, float(amount)]));
}
