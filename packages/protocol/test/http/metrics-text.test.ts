import { expect, test } from "vitest";
import { EventLoopMeter } from "../../src/http/event-loop.ts";
import { Histogram } from "../../src/http/histogram.ts";
import { MetricsText, metricsPrefix } from "../../src/http/metrics-text.ts";

test("families as the Python client library writes them", () => {
  const out = new MetricsText();
  out.gauge("a", "two\nlines", 1.5);
  out.counter("b", "help", [
    [{ name: 'q"\\\n' }, 1],
    [{ name: "r" }, Number.POSITIVE_INFINITY],
  ]);
  out.counter("c_total", "help", Number.NaN);
  expect(out.toString().split("\n")).toEqual([
    "# HELP a two\\nlines",
    "# TYPE a gauge",
    "a 1.5",
    "# HELP b_total help",
    "# TYPE b_total counter",
    'b_total{name="q\\"\\\\\\n"} 1',
    'b_total{name="r"} +Inf',
    "# HELP c_total help",
    "# TYPE c_total counter",
    "c_total NaN",
    "",
  ]);
  expect([metricsPrefix("dask", "worker"), metricsPrefix("", "worker")]).toEqual(["dask_worker_", "worker_"]);
});

test("histograms are cumulative", () => {
  const histogram = new Histogram([0.5, 1, 10]);
  for (const value of [0.25, 1, 5, 11]) histogram.observe(value);
  histogram.observe(0.25, 3);
  const out = new MetricsText();
  out.histogram("h", "help", [{ op: "x" }, histogram]);
  expect(out.toString().split("\n").slice(2)).toEqual([
    'h_bucket{op="x",le="0.5"} 4',
    'h_bucket{op="x",le="1.0"} 5',
    'h_bucket{op="x",le="10.0"} 6',
    'h_bucket{op="x",le="+Inf"} 7',
    'h_sum{op="x"} 18',
    'h_count{op="x"} 7',
    "",
  ]);
});

test("a long turn of the event loop is counted once, and stays counted", async () => {
  const meter = EventLoopMeter.get();
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const { tickCount: before } = meter;
  const end = performance.now() + 150;
  meter.takeMaxTickS();
  while (performance.now() < end) {
    // Nothing else has its turn.
  }
  while (meter.tickCount === before) await turn();
  expect(meter.takeMaxTickS()).toBeGreaterThan(0.14);
  expect(meter.takeMaxTickS()).toBeLessThan(0.14);
  const long = meter.lag.bounds.map((bound, i) => (bound > 0.1 ? (meter.lag.counts[i] ?? 0) : 0));
  expect(long.reduce((sum, count) => sum + count, 0)).toBeGreaterThanOrEqual(1);
  expect(meter.lag.count).toBe(meter.tickCount);
});
