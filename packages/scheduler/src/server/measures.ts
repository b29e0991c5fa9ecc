/** What the scheduler measures of itself, always: one observation for a batch, a call, a graph; never for a task. */
import { Histogram, type RpcHandler, type RpcHandlers, SECONDS_BOUNDS } from "@dask-ts/protocol";

const TASK_BOUNDS: readonly number[] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000];

export class Measures {
  /** Seconds of handling one batch of a stream: decisions and what follows from them, without decoding. */
  readonly workerBatch: Histogram = new Histogram(SECONDS_BOUNDS);
  readonly clientBatch: Histogram = new Histogram(SECONDS_BOUNDS);
  /** Seconds from a call to its reply, by op. */
  readonly calls: Map<string, Histogram> = new Map();
  /** Seconds from the arrival of a graph until its tasks are in the core. */
  readonly graphSeconds: Histogram = new Histogram(SECONDS_BOUNDS);
  readonly graphTasks: Histogram = new Histogram(TASK_BOUNDS);

  /** Times the taking in of one graph. */
  graph(takeIn: () => Promise<void> | undefined): Promise<void> | undefined {
    const start = performance.now();
    const done = (): void => this.graphSeconds.observe((performance.now() - start) / 1000);
    const waiting = takeIn();
    if (waiting === undefined) done();
    return waiting?.finally(done);
  }

  /** The same handlers, timed. */
  timed(handlers: RpcHandlers): RpcHandlers {
    return Object.fromEntries(Object.entries(handlers).map(([op, handler]) => [op, this.#timed(op, handler)]));
  }

  #timed(op: string, handler: RpcHandler): RpcHandler {
    return (fields, context) => {
      const start = performance.now();
      const result = handler(fields, context);
      if (result instanceof Promise) {
        return result.finally(() => this.#called(op, start));
      }
      this.#called(op, start);
      return result;
    };
  }

  #called(op: string, start: number): void {
    let histogram = this.calls.get(op);
    if (histogram === undefined) {
      histogram = new Histogram(SECONDS_BOUNDS);
      this.calls.set(op, histogram);
    }
    histogram.observe((performance.now() - start) / 1000);
  }
}
