/** Counts and bandwidth of the transfers from and to other workers (Worker._update_metrics_received_data). */
import { float, type Value } from "@dask-ts/protocol";
import { type Transfer, TransferLog } from "./transfer-log.ts";

/** A transfer smaller than this says more about latency than about bandwidth. */
const BANDWIDTH_MIN_BYTES = 1_000_000;

export class TransferMetrics {
  outgoingBytes = 0;
  outgoingCount = 0;
  outgoingBytesTotal = 0;
  outgoingCountTotal = 0;
  /** Bytes per second: an exponential average over transfers of more than 1 MB. */
  bandwidthBytesPerS: number;
  readonly incomingLog: TransferLog;
  readonly outgoingLog: TransferLog;
  #byWorker = new Map<string, [sum: number, count: number]>();
  #byType = new Map<string, [sum: number, count: number]>();

  /** @param logLength transfers kept in each of the two logs. */
  constructor(bandwidthBytesPerS: number, logLength = 1000) {
    this.bandwidthBytesPerS = bandwidthBytesPerS;
    this.incomingLog = new TransferLog(logLength);
    this.outgoingLog = new TransferLog(logLength);
  }

  /**
   * Books one transfer from a peer.
   *
   * @param typenames names of the values' types; bandwidth is booked by type where there is only one.
   */
  received(transfer: Transfer, typenames: ReadonlySet<string>): void {
    this.incomingLog.add(transfer);
    const { who: worker, total: totalBytes } = transfer;
    const durationS = transfer.stop - transfer.start;
    if (totalBytes <= BANDWIDTH_MIN_BYTES) return;
    const bandwidth = totalBytes / Math.max(0.001, durationS);
    this.bandwidthBytesPerS = this.bandwidthBytesPerS * 0.95 + bandwidth * 0.05;
    book(this.#byWorker, worker, bandwidth);
    const [typename, ...others] = typenames;
    if (typename !== undefined && others.length === 0) book(this.#byType, typename, bandwidth);
  }

  /** `bandwidth` of the metrics map. */
  bandwidth(): Map<Value, Value> {
    return new Map<Value, Value>([
      ["total", float(this.bandwidthBytesPerS)],
      ["workers", toMap(this.#byWorker)],
      ["types", toMap(this.#byType)],
    ]);
  }

  /** A heartbeat has delivered the figures by worker and type (Worker.heartbeat). */
  clearRecent(): void {
    this.#byWorker.clear();
    this.#byType.clear();
  }
}

function book(sums: Map<string, [number, number]>, name: string, bandwidth: number): void {
  const entry = sums.get(name);
  if (entry === undefined) sums.set(name, [bandwidth, 1]);
  else {
    entry[0] += bandwidth;
    entry[1] += 1;
  }
}

function toMap(sums: ReadonlyMap<string, readonly [number, number]>): Map<Value, Value> {
  const out = new Map<Value, Value>();
  for (const [name, [sum, count]] of sums) out.set(name, [float(sum), count]);
  return out;
}
