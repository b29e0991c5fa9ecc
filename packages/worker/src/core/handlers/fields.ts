/** Reads the fields of scheduler messages. Everything is read before anything is changed. */
import { asNumber, type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { KeyHolders, KeySize } from "../worker-state.ts";

/** A scheduler message that is not as the protocol says. */
class MalformedMessage extends TypeError {
  constructor(message: Message, field: string, expected: string) {
    super(`malformed ${String(message["op"])}: ${field} is not ${expected}`);
    this.name = "MalformedMessage";
  }
}

export function textField(message: Message, field: string): string {
  const value = message[field];
  if (typeof value !== "string") throw new MalformedMessage(message, field, "a str");
  return value;
}

export function stimulusField(message: Message): string {
  const value = message["stimulus_id"];
  return typeof value === "string" ? value : "";
}

export function keyField(message: Message): Key {
  return asKey(message, "key", message["key"]);
}

export function keysField(message: Message): Key[] {
  const value = message["keys"];
  if (!Array.isArray(value) && !(value instanceof Set)) throw new MalformedMessage(message, "keys", "a list");
  const keys: Key[] = [];
  for (const key of value as Iterable<Value>) keys.push(asKey(message, "keys", key));
  return keys;
}

/** `{key: bytes}`. */
export function sizesField(message: Message, field: string): KeySize[] {
  const out: KeySize[] = [];
  for (const [key, nbytes] of mapField(message, field)) {
    const size = asNumber(nbytes, Number.NaN);
    if (!(size >= 0)) throw new MalformedMessage(message, field, "a dict of sizes");
    out.push({ id: idOf(message, field, key), key: key as Key, nbytes: size });
  }
  return out;
}

/** `{key: [address, …]}`. */
export function holdersField(message: Message, field: string): KeyHolders[] {
  const out: KeyHolders[] = [];
  for (const [key, addresses] of mapField(message, field)) {
    if (!Array.isArray(addresses) && !(addresses instanceof Set)) {
      throw new MalformedMessage(message, field, "a dict of lists of addresses");
    }
    const workers: string[] = [];
    for (const address of addresses as Iterable<Value>) {
      if (typeof address !== "string") throw new MalformedMessage(message, field, "a dict of lists of addresses");
      workers.push(address);
    }
    out.push({ id: idOf(message, field, key), workers });
  }
  return out;
}

/** `[number, …]`, to which `last` is appended. */
export function priorityField(message: Message, last: number): number[] {
  const value = message["priority"];
  if (!Array.isArray(value)) throw new MalformedMessage(message, "priority", "a list of numbers");
  const priority: number[] = [];
  for (const part of value as readonly Value[]) {
    const number = typeof part === "number" ? part : asNumber(part, Number.NaN);
    if (Number.isNaN(number)) throw new MalformedMessage(message, "priority", "a list of numbers");
    priority.push(number);
  }
  priority.push(last);
  return priority;
}

/** `{resource: amount}`; null where there are none. */
export function resourcesField(message: Message): Map<string, number> | null {
  const value = message["resource_restrictions"];
  if (value === null || value === undefined || (value instanceof Map && value.size === 0)) return null;
  const out = new Map<string, number>();
  for (const [resource, amount] of mapField(message, "resource_restrictions")) {
    const number = asNumber(amount, Number.NaN);
    if (typeof resource !== "string" || !(number >= 0)) {
      throw new MalformedMessage(message, "resource_restrictions", "a dict of amounts");
    }
    out.set(resource, number);
  }
  return out;
}

export function intField(message: Message, field: string): number {
  const value = asNumber(message[field], Number.NaN);
  if (!Number.isInteger(value)) throw new MalformedMessage(message, field, "an int");
  return value;
}

const EMPTY: ReadonlyMap<Value, Value> = new Map();

function mapField(message: Message, field: string): ReadonlyMap<Value, Value> {
  const value = message[field];
  if (value instanceof Map) return value.size === 0 ? EMPTY : value;
  throw new MalformedMessage(message, field, "a dict");
}

function asKey(message: Message, field: string, value: Value | undefined): Key {
  idOf(message, field, value);
  return value as Key;
}

function idOf(message: Message, field: string, value: Value | undefined): string {
  if (typeof value === "string") return keyId(value);
  try {
    return keyId(value);
  } catch {
    throw new MalformedMessage(message, field, "made of keys");
  }
}
