/** Message values as JSON, for the scheduler file and the HTTP routes. */
import { renameSync, writeFileSync } from "node:fs";
import { Float, formatKey, isKey, type Value } from "@dask-ts/protocol";
import type { Identity } from "./identity.ts";

/** `--scheduler-file`: `json.dump(identity, indent=2)`. */
function formatIdentityJson(identity: Identity): string {
  return JSON.stringify(toJson(identity), null, 2);
}

/**
 * A value as plain JSON data. Keys of maps become texts (a tuple as Python shows it), so that one odd key does not
 * cost the whole answer; closed sub-messages become null.
 */
export function toJson(value: Value | undefined): unknown {
  if (value === null || value === undefined) return null;
  if (value instanceof Float) return value.value;
  if (typeof value === "bigint") return Number(value);
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (typeof value !== "object") return value;
  if (value instanceof Map) {
    return Object.fromEntries(
      [...(value as ReadonlyMap<Value, Value>)].map(([key, item]) => [
        isKey(key) ? formatKey(key) : String(key),
        toJson(item),
      ]),
    );
  }
  if (Array.isArray(value)) return (value as readonly Value[]).map(toJson);
  if (value instanceof Set) return [...(value as ReadonlySet<Value>)].map(toJson);
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
  if (Object.getPrototypeOf(value) !== Object.prototype) return null;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, toJson(item as Value)]));
}

/** Writes the identity in one piece: who waits for the file never reads half of it. */
export function writeSchedulerFile(path: string, identity: Identity): void {
  const unfinished = `${path}.${process.pid}.tmp`;
  writeFileSync(unfinished, formatIdentityJson(identity));
  renameSync(unfinished, path);
}
