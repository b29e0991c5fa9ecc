/**
 * Task keys. Dask keys are str, bytes, int, float, or (nested) tuples of these; JavaScript has no value
 * equality for arrays, so every key has an id: a string that is equal exactly where Python's keys are.
 */
import { Float, type Value } from "./msgpack/value.ts";
import { pythonRepr } from "./python-repr.ts";

/** A task key as decoded; forwarded unchanged. */
export type Key = string | number | bigint | boolean | null | Float | Uint8Array | readonly Key[];

/**
 * The id of a key: equal ids where Python's `==` and `hash` say equal (1, 1.0 and True are one key).
 * A str key is its own id, which keeps the common case free.
 *
 * @throws {TypeError} where the value cannot be a key (maps, sets, sub-messages).
 */
export function keyId(key: Value | undefined): string {
  if (typeof key === "string") return key.charCodeAt(0) === 0 ? `\0s${key}` : key;
  if (typeof key === "number") return numberId(key);
  if (Array.isArray(key)) {
    let id = "\0t";
    for (const part of key as readonly Value[]) {
      const partId = keyId(part);
      id += `${partId.length}:${partId}`;
    }
    return id;
  }
  if (key instanceof Float) return numberId(key.value);
  if (typeof key === "bigint") return `\0n${key}`;
  if (typeof key === "boolean") return key ? "\0n1" : "\0n0";
  if (key instanceof Uint8Array)
    return `\0b${Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1")}`;
  if (key === null) return "\0z";
  throw new TypeError(`a task key is str, bytes, int, float or a tuple of these, not ${describe(key)}`);
}

/** Large floats have ids of all their digits, as the int has that Python calls equal. */
function numberId(value: number): string {
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? `\0n${BigInt(value)}` : `\0n${value}`;
}

/** True where {@link keyId} accepts the value. */
export function isKey(value: Value | undefined): value is Key {
  try {
    keyId(value);
    return true;
  } catch {
    return false;
  }
}

/** A key as Python's `str()` shows it, for log lines and web pages. */
export function formatKey(key: Key): string {
  if (typeof key === "string") return key;
  return pythonRepr(key);
}

function describe(value: unknown): string {
  if (value === undefined) return "a missing field";
  if (value instanceof Map) return "a dict";
  if (value instanceof Set) return "a set";
  return typeof value === "object" && value !== null ? value.constructor.name : typeof value;
}
