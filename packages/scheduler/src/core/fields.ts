/** Reading fields of messages: a missing or wrong one is a {@link BadMessageError}. */
import {
  asNumber,
  isKey,
  type Key,
  type Message,
  Pickled,
  Serialized,
  compactBytes,
  type Value,
} from "@dask-ts/protocol";
import { BadMessageError } from "./errors.ts";

export function keyField(message: Message, field: string): Key {
  const value = message[field];
  if (typeof value === "string") return value;
  if (!isKey(value)) throw new BadMessageError(`${String(message.op)}: field ${field} is not a task key`);
  return value;
}

/** An array or set of keys. */
export function keysField(message: Message, field: string): Key[] {
  const value = message[field];
  if (!Array.isArray(value) && !(value instanceof Set)) {
    throw new BadMessageError(`${String(message.op)}: field ${field} is not a list of task keys`);
  }
  const keys: Key[] = [];
  for (const key of value as Iterable<Value>) {
    if (!isKey(key)) throw new BadMessageError(`${String(message.op)}: field ${field} holds what is no task key`);
    keys.push(key);
  }
  return keys;
}

export function textField(message: Message, field: string, fallback?: string): string {
  const value = message[field];
  if (typeof value === "string") return value;
  if (fallback !== undefined && (value === undefined || value === null)) return fallback;
  throw new BadMessageError(`${String(message.op)}: field ${field} is not a str`);
}

export function numberField(message: Message, field: string): number {
  const value = message[field];
  const number = asNumber(value, Number.NaN);
  if (Number.isNaN(number) && typeof value !== "number") {
    throw new BadMessageError(`${String(message.op)}: field ${field} is not a number`);
  }
  return number;
}

/** A copy of a value that is kept, holding no part of a larger received buffer. */
export function keep(value: Value | undefined): Value {
  if (value instanceof Serialized || value instanceof Pickled) return value.compact();
  if (value instanceof Uint8Array) return compactBytes(value);
  return value ?? null;
}
