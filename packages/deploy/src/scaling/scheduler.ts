/** The scheduler's RPCs that scaling needs, as distributed.deploy.Adaptive calls them. */
import { ConnectionPool, type ConnectSettings, float, type Value } from "@dask-ts/protocol";
import type { SchedulerView } from "./controller.ts";

/** Moving a full worker's data takes as long as its network does. */
const RETIRE_TIMEOUT_MS = 30 * 60_000;
const CALL_TIMEOUT_MS = 30_000;

export class RemoteScheduler implements SchedulerView {
  readonly #address: string;
  readonly #pool: ConnectionPool;

  constructor(address: string, connect: ConnectSettings) {
    this.#address = address;
    this.#pool = new ConnectionPool({ limit: 4, connect });
  }

  async adaptiveTarget(targetDurationS: number): Promise<number> {
    const target = await this.#call("adaptive_target", { target_duration: float(targetDurationS) });
    // Python's infinity, where tasks have no known end, is as many as there may be.
    const value = Number(target);
    if (Number.isNaN(value)) throw new TypeError(`the scheduler's adaptive target is no number: ${String(target)}`);
    return value;
  }

  async workersToClose(target: number): Promise<string[]> {
    const workers = await this.#call("workers_to_close", { target });
    if (!Array.isArray(workers) || !workers.every((one) => typeof one === "string")) {
      throw new TypeError("the scheduler's workers_to_close are no addresses");
    }
    return workers;
  }

  async retire(workers: readonly string[], close: boolean): Promise<void> {
    await this.#call(
      "retire_workers",
      { workers: [...workers], close_workers: close, remove: close },
      RETIRE_TIMEOUT_MS,
    );
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  async #call(op: string, fields: { [name: string]: Value }, timeoutMs = CALL_TIMEOUT_MS): Promise<Value> {
    return await this.#pool.call(this.#address, op, fields, { timeoutMs });
  }
}
