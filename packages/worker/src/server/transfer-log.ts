/** The last transfers in one direction (Worker.transfer_incoming_log, transfer_outgoing_log), for dumps. */
import { float, formatKey, type Key, type Value } from "@dask-ts/protocol";

export interface Transfer {
  /** Scheduler time, seconds. */
  readonly start: number;
  readonly stop: number;
  /** Address of the peer. */
  readonly who: string;
  /** Bytes by key. */
  readonly keys: readonly (readonly [key: Key, nbytes: number])[];
  /** Bytes. */
  readonly total: number;
}

/** Keys shown of one transfer. */
const MAX_KEYS = 100;

export class TransferLog {
  readonly #length: number;
  #transfers: Transfer[] = [];

  constructor(length: number) {
    this.#length = Math.max(1, length);
  }

  add(transfer: Transfer): void {
    const { keys } = transfer;
    this.#transfers.push(keys.length > MAX_KEYS ? { ...transfer, keys: keys.slice(0, MAX_KEYS) } : transfer);
    // Cut in blocks: a shift per transfer would move the whole array each time.
    if (this.#transfers.length >= 2 * this.#length) this.#transfers = this.#transfers.slice(-this.#length);
  }

  /** Oldest first, with the fields of stock's log. */
  entries(): Value {
    return this.#transfers.slice(-this.#length).map(({ start, stop, who, keys, total }) => {
      const duration = Math.max(0.001, stop - start);
      return new Map<Value, Value>([
        ["start", float(start)],
        ["stop", float(stop)],
        ["middle", float((start + stop) / 2)],
        ["duration", float(duration)],
        ["keys", new Map(keys.map(([key, nbytes]) => [formatKey(key), nbytes]))],
        ["total", total],
        ["bandwidth", float(total / duration)],
        ["who", who],
      ]);
    });
  }
}
