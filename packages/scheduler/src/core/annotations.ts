/** Annotations that the scheduler acts on (Scheduler._apply_annotations). One result per annotation set. */
import { asNumber, keyId, type Value } from "@dask-ts/protocol";
import { BadMessageError } from "./errors.ts";
import { Restrictions } from "./restrictions.ts";
import type { SchedulerState } from "./state.ts";

/** An annotation set, read. Tasks of the set share it. */
export interface AnnotationEffects {
  readonly annotations: ReadonlyMap<Value, Value> | null;
  readonly restrictions: Restrictions | null;
  readonly retries: number;
  /** The annotation `priority`; null where there is none. */
  readonly priority: number | null;
}

export const NO_ANNOTATIONS: AnnotationEffects = { annotations: null, restrictions: null, retries: 0, priority: null };

/**
 * @param own the set of the task's layer; it goes before the global one, unless its value is None.
 * @throws {BadMessageError} where an annotation the scheduler acts on is not of its type.
 */
export function readAnnotations(
  state: SchedulerState,
  global: ReadonlyMap<Value, Value> | null,
  own: ReadonlyMap<Value, Value> | null,
): AnnotationEffects {
  let annotations = own ?? global;
  if (global !== null && global.size > 0 && own !== null) {
    const merged = new Map<Value, Value>(global);
    for (const [name, value] of own) if (value !== null) merged.set(name, value);
    annotations = merged;
  }
  if (annotations === null || annotations.size === 0) return NO_ANNOTATIONS;

  let workers: Set<string> | null = null;
  let hosts: Set<string> | null = null;
  let resources: Map<string, number> | null = null;
  let loose = false;
  let retries = 0;
  let priority: number | null = null;
  let resourcesOnWire: ReadonlyMap<Value, Value> | null = null;
  for (const [name, value] of annotations) {
    switch (name) {
      case "workers":
      case "restrictions": {
        workers = null;
        hosts = null;
        const list = Array.isArray(value) || value instanceof Set ? (value as Iterable<Value>) : [value];
        for (const item of list) {
          const address = coerceAddress(state, item);
          if (address !== null) workers = (workers ?? new Set<string>()).add(address);
          else if (typeof item === "string") hosts = (hosts ?? new Set<string>()).add(item);
          else throw new BadMessageError("annotation workers: addresses should be strings or tuples");
        }
        break;
      }
      case "allow_other_workers":
      case "loose_restrictions":
        loose = isTrue(value);
        break;
      case "resources": {
        if (!(value instanceof Map)) throw new BadMessageError("annotation resources must be a dict");
        resources = new Map();
        for (const [resource, amount] of value) {
          resources.set(String(resource), asNumber(amount, 0));
        }
        resourcesOnWire = value;
        if (resources.size === 0) resources = null;
        break;
      }
      case "retries":
        if (value !== null && typeof value !== "number" && typeof value !== "boolean") {
          throw new BadMessageError("annotation retries must be an int");
        }
        retries = asNumber(value, 0);
        break;
      case "priority":
        priority = asNumber(value, 0);
        break;
      default:
    }
  }
  const restrictions =
    workers !== null || hosts !== null || resources !== null || loose
      ? new Restrictions(workers, hosts, resources, loose, resourcesOnWire)
      : null;
  return { annotations, restrictions, retries, priority };
}

/** Scheduler.coerce_address; null where the text names no worker address and so is taken for a host. */
export function coerceAddress(state: SchedulerState, name: Value): string | null {
  const alias = isHashable(name) ? state.aliases.get(keyId(name)) : undefined;
  if (alias !== undefined) return alias;
  let text: string;
  if (Array.isArray(name) && name.length === 2) text = `tcp://${String(name[0])}:${String(asNumber(name[1], 0))}`;
  else if (typeof name === "string") text = name;
  else return null;
  if (state.workers.has(text)) return text;
  const resolved = state.config.resolveAddress?.(text);
  if (resolved !== undefined) return resolved;
  // An address has a port; a host has none.
  if (/:\d+$/.test(text)) return text.includes("://") ? text : `tcp://${text}`;
  return null;
}

function isHashable(value: Value): boolean {
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean";
}

/** Python's bool(). */
function isTrue(value: Value): boolean {
  if (value === null || value === false || value === "") return false;
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map || value instanceof Set) return value.size > 0;
  return asNumber(value, 1) !== 0;
}
