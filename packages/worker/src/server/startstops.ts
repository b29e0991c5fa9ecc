/** `startstops` of a task: what it did, and when. */
import { asNumber, float, isMessage, type Value } from "@dask-ts/protocol";

/** Entries with `start` and `stop` moved by `delay` seconds, from this host's clock to the scheduler's. */
export function shiftStartstops(entries: readonly Value[], delay: number): Value[] {
  return entries.map((entry) => {
    if (!(entry instanceof Map) && !isMessage(entry)) return entry;
    const out = new Map<Value, Value>();
    for (const [name, value] of entry instanceof Map ? entry : Object.entries(entry)) {
      if (value === undefined) continue;
      out.set(name, name === "start" || name === "stop" ? float(asNumber(value, 0) + delay) : value);
    }
    return out;
  });
}
