/** How busy this process's event loop is; one measurement for all workers in it. */
import { type IntervalHistogram, monitorEventLoopDelay } from "node:perf_hooks";

/** `distributed.admin.tick.interval` */
const RESOLUTION_MS = 20;

let histogram: IntervalHistogram | undefined;

function measured(): IntervalHistogram {
  if (histogram === undefined) {
    histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
    histogram.enable();
  }
  return histogram;
}

/** Mean seconds between two ticks (`event_loop_interval`). */
export function eventLoopIntervalS(): number {
  const { mean } = measured();
  return Number.isFinite(mean) ? mean / 1e9 : RESOLUTION_MS / 1000;
}

export function tickCount(): number {
  return measured().count;
}

/** The longest tick since the last call, seconds. */
export function takeMaxTickS(): number {
  const max = measured().max / 1e9;
  measured().reset();
  return max;
}
