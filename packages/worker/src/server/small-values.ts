/**
 * Results that are small and plain (numbers, short texts): they come with the outcome of their task, and are given to
 * peers and clients without the executor. Most gathers of many results are of these, and a task that holds the GIL does
 * not hold them up.
 */
import { type Key, keyId, type Value } from "@dask-ts/protocol";

/** Values that are kept here; further ones are only in the executor. About 150 bytes each. */
const MOST = 500_000;

export class SmallValues {
  readonly #values = new Map<string, Value>();
  readonly #most: number;

  constructor(most: number = MOST) {
    this.#most = most;
  }

  set(id: string, value: Value): void {
    if (this.#values.size < this.#most) this.#values.set(id, value);
  }

  /** Undefined where the executor has to be asked. */
  get(id: string): Value | undefined {
    return this.#values.get(id);
  }

  /** These keys have no value any more, or get another one. */
  delete(keys: readonly Key[]): void {
    if (this.#values.size === 0) return;
    for (const key of keys) this.#values.delete(keyId(key));
  }
}
