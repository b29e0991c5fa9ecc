/**
 * Fine performance metrics: sums by key since the last heartbeat (Server.digest_metric), and the same with the span
 * for the spans extension (distributed.spans.SpansWorkerExtension).
 */
import { asNumber, Float, float, keyId, type Value } from "@dask-ts/protocol";

interface Digest {
  readonly parts: readonly Value[];
  sum: number;
  /** Python keeps counts and bytes as int. */
  isInt: boolean;
}

/** `spans.CONTEXTS_WITH_SPAN_ID`: metrics whose second part is a span's id. */
const CONTEXTS_WITH_SPAN: ReadonlySet<Value> = new Set(["execute", "p2p"]);
/** Different keys between two heartbeats; more than that is a mistake of who meters. */
const MAX_DIGESTS = 100_000;

export class Digests {
  /** Sums whose key has no span in it. */
  #sums = new Map<string, Digest>();
  /** Sums by (context, span, …); the span is null for a task without. */
  #spans = new Map<string, Digest>();

  /**
   * Adds to a sum.
   *
   * @param parts context, label, …, unit: `["gather-dep", "network", "seconds"]`.
   */
  add(parts: readonly string[], value: number): void {
    const unit = parts.at(-1);
    add(this.#sums, parts.join("\0"), parts, value, unit === "bytes" || unit === "count");
  }

  /** Adds to `["execute", prefix, label, unit]`, and to `["execute", span, prefix, label, unit]` for the spans. */
  addExecute(span: string | null, prefix: string, label: string, unit: string, value: number): void {
    const id = `${span}\0${prefix}\0${label}\0${unit}`;
    const known = this.#spans.get(id);
    if (known !== undefined) known.sum += value;
    else {
      add(this.#spans, id, ["execute", span, prefix, label, unit], value, unit === "bytes" || unit === "count");
    }
  }

  /** What user code metered in a task: any label, which travels as it came. */
  addMetered(span: string | null, prefix: string, label: Value, unit: string, value: Value): void {
    this.addNamed(["execute", span, prefix, label, unit], value);
  }

  /** A digest of the executor under its whole name: a text, or a tuple with the span where its context has one. */
  addNamed(name: Value, value: Value): void {
    const parts = Array.isArray(name) ? (name as readonly Value[]) : [name];
    const isInt = !(value instanceof Float) && Number.isInteger(asNumber(value, 0.5));
    const sums = parts.length > 1 && CONTEXTS_WITH_SPAN.has(parts[0] as Value) ? this.#spans : this.#sums;
    add(sums, keyId(parts), parts, asNumber(value, 0), isInt);
  }

  /** The sums so far, without and with spans; they start anew. */
  take(): { readonly totals: Map<Value, Value>; readonly spans: Map<Value, Value> } {
    const totals = new Map<string, Digest>();
    for (const { parts, sum, isInt } of this.#sums.values()) merge(totals, parts, sum, isInt);
    const spans = new Map<string, Digest>();
    for (const { parts, sum, isInt } of this.#spans.values()) {
      const [context, span, ...rest] = parts;
      merge(totals, [context as Value, ...rest], sum, isInt);
      if (span !== null) merge(spans, parts, sum, isInt);
    }
    this.#sums = new Map();
    this.#spans = new Map();
    return { totals: toMap(totals), spans: toMap(spans) };
  }
}

function add(sums: Map<string, Digest>, id: string, parts: readonly Value[], value: number, isInt: boolean): void {
  const digest = sums.get(id);
  if (digest !== undefined) {
    digest.sum += value;
    digest.isInt &&= isInt;
  } else if (sums.size < MAX_DIGESTS) {
    sums.set(id, { parts, sum: value, isInt });
  }
}

/** The same key may have been counted under two ids; on the wire it must stand once. */
function merge(sums: Map<string, Digest>, parts: readonly Value[], value: number, isInt: boolean): void {
  add(sums, keyId(parts), parts, value, isInt);
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
