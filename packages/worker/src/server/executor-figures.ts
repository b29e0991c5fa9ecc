/**
 * What only the executor knows for a heartbeat: user-defined metrics and the extensions' reports. Asked for behind each
 * heartbeat and sent with the next, so that a task that holds Python's event loop never delays a heartbeat.
 */
import type { Value } from "@dask-ts/protocol";
import type { Executor } from "../executor/executor.ts";

type ValueMap = Map<Value, Value>;

export class ExecutorFigures {
  #asking = false;
  #metrics: ReadonlyMap<Value, Value> = new Map();
  #extensions: ReadonlyMap<Value, Value> = new Map();

  /** Core metrics win over user-defined ones of the same name (Worker.get_metrics). */
  addMetrics(metrics: ValueMap): void {
    for (const [name, value] of this.#metrics) if (!metrics.has(name)) metrics.set(name, value);
  }

  /** `extensions` of a heartbeat; what an extension reported is sent once. */
  takeExtensions(spans: ValueMap): ValueMap {
    const extensions = new Map(this.#extensions);
    this.#extensions = new Map();
    const reported = extensions.get("spans");
    // The executor's spans extension sees what user code meters; the shell's digests go with it.
    if (reported instanceof Map) for (const [key, value] of reported) if (!spans.has(key)) spans.set(key, value);
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
      if (metrics instanceof Map && !metrics.has("status")) this.#metrics = metrics;
      if (extensions instanceof Map && !extensions.has("status")) this.#extensions = extensions;
    } catch {
      // The executor is gone; its end is reported by itself.
    } finally {
      this.#asking = false;
    }
  }
}
