/** What `repr()` of stock's scheduler objects gives: in dumps one object shows another this way. */
import { asNumber, pythonRepr, type Value } from "@dask-ts/protocol";
import { Serialized, Pickled } from "@dask-ts/protocol";
import type { ClientState } from "../core/client-state.ts";
import type { TaskGroup } from "../core/task-group.ts";
import type { TaskPrefix } from "../core/task-prefix.ts";
import type { TaskState } from "../core/task-state.ts";
import { TASK_STATES } from "../core/task-status.ts";
import type { WorkerState } from "../core/worker-state.ts";

export function taskRepr(ts: TaskState): string {
  return `<TaskState ${pythonRepr(ts.key)} ${ts.state}>`;
}

/** A group or prefix: its states in alphabetical order, without those that no task is in. */
export function groupRepr(group: TaskGroup | TaskPrefix): string {
  const states = TASK_STATES.flatMap((name, code) => {
    const count = group.states[code] as number;
    return count > 0 ? [`${name}: ${count}`] : [];
  });
  return `<${String(group.name)}: ${states.sort().join(", ")}>`;
}

export function workerRepr(ws: WorkerState): string {
  const name = ws.name === ws.address ? "" : `, name: ${nameText(ws.name)}`;
  const counts = `memory: ${ws.hasWhat.size}, processing: ${ws.processing.size}`;
  return `<WorkerState '${ws.address}'${name}, status: ${ws.status}, ${counts}>`;
}

export function clientRepr(cs: ClientState): string {
  return `<Client '${cs.client}'>`;
}

function nameText(name: Value): string {
  return typeof name === "string" ? name : pythonRepr(name);
}

/**
 * distributed.utils.recursive_to_dict of plain values: sets become lists, what is closed or binary becomes a text, and
 * so does a key that is a tuple, for neither YAML nor msgpack can read such a key back.
 */
export function plainValue(value: Value): Value {
  if (value === null || typeof value !== "object") return typeof value === "bigint" ? asNumber(value, 0) : value;
  if (value instanceof Uint8Array) return pythonRepr(value);
  if (value instanceof Serialized || value instanceof Pickled) return `<${value.kind}, ${value.nbytes} bytes>`;
  if (value instanceof Set || Array.isArray(value)) return Array.from(value as Iterable<Value>, plainValue);
  if (value instanceof Map) {
    const entries = value as ReadonlyMap<Value, Value>;
    return new Map(Array.from(entries, ([key, item]) => [plainKey(key), plainValue(item)]));
  }
  if (Object.getPrototypeOf(value) === Object.prototype) {
    return new Map(Object.entries(value).map(([key, item]) => [key, plainValue((item ?? null) as Value)]));
  }
  return value;
}

export function plainKey(key: Value): Value {
  if (Array.isArray(key)) return listRepr(key);
  return key instanceof Uint8Array ? pythonRepr(key) : key;
}

/** `str()` of the list that the tuple became before. */
function listRepr(items: readonly Value[]): string {
  return `[${items.map((item) => (Array.isArray(item) ? listRepr(item as readonly Value[]) : pythonRepr(item))).join(", ")}]`;
}
