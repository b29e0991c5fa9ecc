/** The state for people: `dump_state`. Mirrors `WorkerState._to_dict` and `TaskState._to_dict_no_nest`. */
import { float, formatKey, pythonRepr, type Value } from "@dask-ts/protocol";
import type { TaskState } from "./task-state.ts";
import type { WorkerState } from "./worker-state.ts";

export function stateToDict(s: WorkerState, exclude: ReadonlySet<Value> = new Set()): Map<Value, Value> {
  const perPeer = (of: (address: string) => Value[] | null): Map<Value, Value> => {
    const out = new Map<Value, Value>();
    for (const address of s.peers.keys()) {
      const value = of(address);
      if (value !== null && value.length > 0) out.set(address, value);
    }
    return out;
  };
  const tasks = new Map<Value, Value>();
  const data: Value[] = [];
  for (const ts of s.tasks.values()) {
    tasks.set(plainKey(ts.key), taskToDict(ts, exclude));
    if (ts.stored) data.push(ts.key);
  }
  return new Map<Value, Value>([
    ["address", s.address],
    ["nthreads", s.nthreads],
    ["running", s.running],
    ["ready", keys(s.ready.sorted())],
    ["constrained", keys(s.constrained.sorted())],
    ["data", new Map<Value, Value>(data.map((key) => [key, null]))],
    ["data_needed", perPeer((address) => keys(s.peers.get(address)?.needed.sorted() ?? []))],
    ["executing", keys(s.executing)],
    ["has_what", perPeer((address) => keys(s.peers.get(address)?.hasWhat ?? []))],
    ["long_running", keys(s.longRunning)],
    ["in_flight_tasks", keys(s.inFlightTasks)],
    ["in_flight_workers", perPeer((address) => keys(s.peers.get(address)?.inFlight ?? []))],
    ["missing_dep_flight", keys(s.missingDepFlight)],
    ["busy_workers", Array.from(s.peers.values(), (peer) => (peer.busy ? peer.address : "")).filter(Boolean)],
    ["log", s.log.tuples()],
    ["transition_counter", s.transitionCounter],
    ["tasks", tasks],
    ["task_counts", new Map<Value, Value>(s.counter.byState())],
  ]);
}

/** A tuple as a text: neither YAML nor msgpack can read a tuple as a key back. */
function plainKey(key: Value): Value {
  return Array.isArray(key) || key instanceof Uint8Array ? pythonRepr(key) : key;
}

function keys(tasks: Iterable<TaskState>): Value[] {
  return Array.from(tasks, (ts) => ts.key as Value);
}

/** Without what is empty or excluded; other tasks by their repr only. */
function taskToDict(ts: TaskState, exclude: ReadonlySet<Value>): Map<Value, Value> {
  const out = new Map<Value, Value>();
  const put = (field: string, value: Value): void => {
    if (exclude.has(field)) return;
    const empty = value === null || value === "" || value === false || (Array.isArray(value) && value.length === 0);
    if (!empty && !(value instanceof Map && value.size === 0)) out.set(field, value);
  };
  put("key", ts.key);
  put("state", ts.state);
  put("previous", ts.previous);
  put("next", ts.next);
  put("run_id", ts.runId);
  put("dependencies", Array.from(ts.dependencies, reprOf));
  put("dependents", Array.from(ts.dependents, reprOf));
  put("waiting_for_data", Array.from(ts.waitingForData, reprOf));
  put("waiters", Array.from(ts.waiters, reprOf));
  put("priority", ts.priority === null ? null : ts.priority.slice());
  put(
    "who_has",
    Array.from(ts.whoHas, (peer) => peer.address),
  );
  put("coming_from", ts.comingFrom?.address ?? null);
  put("resource_restrictions", new Map<Value, Value>(ts.resourceRestrictions ?? []));
  put("exception_text", ts.exceptionText);
  put("traceback_text", ts.tracebackText);
  put("type", ts.typename);
  put("startstops", ts.startstops);
  put("start_time", ts.startTime === 0 ? null : float(ts.startTime));
  put("metadata", ts.metadata);
  put("nbytes", ts.nbytes);
  put("annotations", ts.annotations);
  put("span_id", ts.spanId);
  put("done", ts.done);
  return out;
}

/** `TaskState.__repr__`. */
function reprOf(ts: TaskState): string {
  let state: string = ts.state;
  if (ts.state === "cancelled") state = `cancelled(${ts.previous})`;
  else if (ts.state === "resumed") state = `resumed(${ts.previous}->${ts.next})`;
  const text = formatKey(ts.key);
  return `<TaskState ${typeof ts.key === "string" ? `'${text}'` : text} ${state}>`;
}
