/** Reading the fields of requests: each function gives the typed value or a TypeError that names field and op's fault. */
import { asNumber, ClosedSet, isKey, isMessage, type Key, type Message, type Value } from "@dask-ts/protocol";

/** A field that must be a str. */
export function stringField(fields: Message, name: string): string {
  const value = fields[name];
  if (typeof value === "string") return value;
  throw bad(name, "a str", value);
}

/** A str, or null where it is None or missing. */
export function optionalString(fields: Message, name: string): string | null {
  const value = fields[name];
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return value;
  throw bad(name, "a str", value);
}

/** A number, or null where it is None or missing. */
export function optionalNumber(fields: Message, name: string): number | null {
  const value = fields[name];
  if (value === undefined || value === null) return null;
  const number = asNumber(value, Number.NaN);
  if (Number.isNaN(number)) throw bad(name, "a number", value);
  return number;
}

/** Python's truth of a flag; `fallback` where it is missing. */
export function flagField(fields: Message, name: string, fallback: boolean): boolean {
  const value = fields[name];
  return value === undefined ? fallback : isTrue(value);
}

/** Python's `bool()`. */
export function isTrue(value: Value): boolean {
  if (value === null || value === false || value === "" || value === 0 || value === 0n) return false;
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Map || value instanceof Set) return value.size > 0;
  return asNumber(value, 1) !== 0;
}

/** The items of a list, tuple or set. */
export function listField(fields: Message, name: string): readonly Value[] {
  const list = optionalList(fields, name);
  if (list === null) throw bad(name, "a list", fields[name]);
  return list;
}

export function optionalList(fields: Message, name: string): readonly Value[] | null {
  const value = fields[name];
  if (value === undefined || value === null) return null;
  if (Array.isArray(value)) return value;
  if (value instanceof Set || value instanceof ClosedSet) return [...(value as Iterable<Value>)];
  // A dict where keys are wanted, as Python iterates it.
  if (value instanceof Map) return [...(value as ReadonlyMap<Value, Value>).keys()];
  throw bad(name, "a list", value);
}

export function keysField(fields: Message, name: string): readonly Key[] {
  return asKeys(listField(fields, name), name);
}

export function optionalKeys(fields: Message, name: string): readonly Key[] | null {
  const list = optionalList(fields, name);
  return list === null ? null : asKeys(list, name);
}

function asKeys(list: readonly Value[], name: string): readonly Key[] {
  for (const item of list) if (!isKey(item)) throw new TypeError(`'${name}' holds something that is no task key`);
  return list as readonly Key[];
}

/** Addresses or aliases. */
export function optionalStrings(fields: Message, name: string): readonly string[] | null {
  const list = optionalList(fields, name);
  if (list === null) return null;
  for (const item of list) if (typeof item !== "string") throw bad(name, "a list of str", item);
  return list as readonly string[];
}

/** A dict. */
export function mapField(fields: Message, name: string): ReadonlyMap<Value, Value> {
  return optionalMap(fields, name) ?? raise(bad(name, "a dict", fields[name]));
}

export function optionalMap(fields: Message, name: string): ReadonlyMap<Value, Value> | null {
  const value = fields[name];
  if (value === undefined || value === null) return null;
  if (value instanceof Map) return value;
  throw bad(name, "a dict", value);
}

export function bytesField(fields: Message, name: string): Uint8Array {
  const value = fields[name];
  if (value instanceof Uint8Array) return value;
  throw bad(name, "bytes", value);
}

/** A dict as the fields of a message: str keys only. */
export function asMessage(value: Value | undefined, name: string): Message {
  if (isMessage(value)) return value;
  if (!(value instanceof Map)) throw bad(name, "a dict", value);
  const message: Message = {};
  for (const [key, item] of value as ReadonlyMap<Value, Value>) {
    if (typeof key !== "string") throw bad(name, "a dict with str keys", key);
    message[key] = item;
  }
  return message;
}

function bad(name: string, wanted: string, value: unknown): TypeError {
  return new TypeError(
    value === undefined ? `missing argument: '${name}'` : `'${name}' must be ${wanted}, not ${typeName(value)}`,
  );
}

function typeName(value: unknown): string {
  if (value === null) return "None";
  if (Array.isArray(value)) return "list";
  if (value instanceof Map) return "dict";
  if (value instanceof Uint8Array) return "bytes";
  return typeof value === "object" ? value.constructor.name : typeof value;
}

function raise(error: Error): never {
  throw error;
}
