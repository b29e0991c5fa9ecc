/**
 * Fine performance metrics: sums by key since the last heartbeat (Server.digest_metric), and the same with the span
 * for the spans extension (distributed.spans.SpansWorkerExtension).
 */
import { float, type Value } from "@dask-ts/protocol";

interface Digest {
  readonly parts: readonly Value[];
  sum: number;
  /** Python keeps counts and bytes as int. */
  readonly isInt: boolean;
}

export class Digests {
  #sums = new Map<string, Digest>();
  #spans = new Map<string, Digest>();

  /**
   * Adds to a sum.
   *
   * @param parts context, label, …, unit: `["gather-dep", "network", "seconds"]`.
   */
  add(parts: readonly string[], value: number): void {
    add(this.#sums, parts, value);
  }

  /** Adds to `["execute", prefix, label, unit]`, and to `["execute", span, prefix, label, unit]` for the spans. */
  addExecute(span: string | null, prefix: string, label: string, unit: string, value: number): void {
    add(this.#sums, ["execute", prefix, label, unit], value);
    if (span !== null) add(this.#spans, ["execute", span, prefix, label, unit], value);
  }

  /** The sums so far; they start anew. */
  take(): { readonly totals: Map<Value, Value>; readonly spans: Map<Value, Value> } {
    const taken = { totals: toMap(this.#sums), spans: toMap(this.#spans) };
    this.#sums = new Map();
    this.#spans = new Map();
    return taken;
  }
}

function add(sums: Map<string, Digest>, parts: readonly Value[], value: number): void {
  const id = parts.join("\0");
  const digest = sums.get(id);
  if (digest === undefined) {
    const unit = parts.at(-1);
    sums.set(id, { parts, sum: value, isInt: unit === "bytes" || unit === "count" });
  } else digest.sum += value;
}

function toMap(sums: ReadonlyMap<string, Digest>): Map<Value, Value> {
  const out = new Map<Value, Value>();
  for (const { parts, sum, isInt } of sums.values()) {
    // A digest named by one text (`latency`) is a str on the wire, any other a tuple.
    const key = parts.length === 1 ? (parts[0] ?? "") : parts;
    out.set(key, isInt ? Math.round(sum) : float(sum));
  }
  return out;
}
