/**
 * What only the executor knows for a heartbeat: user-defined metrics and the extensions' reports. Asked for behind each
 * heartbeat and sent with the next, so that a task that holds Python's event loop never delays a heartbeat.
 */
import type { Value } from "@dask-ts/protocol";
import type { Executor } from "../executor/executor.ts";
import type { Digests } from "./digests.ts";

type ValueMap = Map<Value, Value>;

export class ExecutorFigures {
  readonly #digests: Digests;
  #asking = false;
  #metrics: ReadonlyMap<Value, Value> = new Map();
  #extensions: ReadonlyMap<Value, Value> = new Map();

  constructor(digests: Digests) {
    this.#digests = digests;
  }

  /** Core metrics win over user-defined ones of the same name (Worker.get_metrics). */
  addMetrics(metrics: ValueMap): void {
    for (const [name, value] of this.#metrics) if (!metrics.has(name)) metrics.set(name, value);
  }

  /** `extensions` of a heartbeat; what an extension reported is sent once. */
  takeExtensions(spans: ValueMap): ValueMap {
    const extensions = new Map(this.#extensions);
    this.#extensions = new Map();
    // What the executor digests comes with its metrics; its own spans extension has nothing to report.
    return extensions.set("spans", spans);
  }

  /** Asks anew, unless an answer is still awaited. */
  refresh(executor: Executor): void {
    if (this.#asking) return;
    this.#asking = true;
    void this.#ask(executor);
  }

  async #ask(executor: Executor): Promise<void> {
    try {
      const [metrics, extensions] = await Promise.all([
        executor.call("heartbeat-metrics", {}),
        executor.call("heartbeat-extensions", {}),
      ]);
      if (metrics instanceof Map && !metrics.has("status")) {
        this.#takeDigests(metrics.get("digests"));
        metrics.delete("digests");
        this.#metrics = metrics;
      }
      if (extensions instanceof Map && !extensions.has("status")) this.#extensions = extensions;
    } catch {
      // The executor is gone; its end is reported by itself.
    } finally {
      this.#asking = false;
    }
  }

  #takeDigests(pairs: Value | undefined): void {
    if (!Array.isArray(pairs)) return;
    for (const pair of pairs as readonly Value[]) {
      if (Array.isArray(pair)) this.#digests.addNamed(pair[0] ?? null, pair[1] ?? 0);
    }
  }
}
