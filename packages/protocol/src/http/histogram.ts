/** Counts by size, as Prometheus wants them: cumulative since the process started. */

export class Histogram {
  /** Upper bounds of the buckets, ascending; what is larger counts in `count` only. */
  readonly bounds: readonly number[];
  /** By bucket, not summed up. */
  readonly counts: Float64Array;
  count = 0;
  sum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.counts = new Float64Array(bounds.length);
  }

  /** @param times how often the value was seen */
  observe(value: number, times = 1): void {
    this.count += times;
    this.sum += value * times;
    const { bounds } = this;
    for (let i = 0; i < bounds.length; i++) {
      if (value <= (bounds[i] as number)) {
        this.counts[i] = (this.counts[i] as number) + times;
        return;
      }
    }
  }
}

/** For what takes from a tenth of a millisecond to seconds. */
export const SECONDS_BOUNDS: readonly number[] = Object.freeze([
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
]);
