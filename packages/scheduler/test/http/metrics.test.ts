/** `/metrics` beside what stock showed after the same little workload. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { differences, readFamilies, stockFamilies } from "../../../protocol/test/support/metric-families.ts";
import { TestCluster } from "../server/cluster.ts";

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start();
  await cluster.worker();
  await cluster.client(`
    from distributed import Semaphore
    semaphore = Semaphore(max_leases=1, name="fixture")
    semaphore.acquire()
    semaphore.release()
    report(sum=sum(c.gather(c.map(inc, range(10)))), bad=raises(lambda: c.submit(operator.truediv, 1, 0).result()))
  `);
});
afterAll(() => cluster.stop());

const scrape = async (): Promise<string> =>
  await (await fetch(`http://127.0.0.1:${cluster.scheduler.httpPort}/metrics`)).text();

const value = (text: string, sample: string): number =>
  Number(
    text
      .split("\n")
      .find((line) => line.startsWith(`${sample} `))
      ?.slice(sample.length + 1),
  );

test("every family of stock, with its type, labels and their values", async () => {
  // The scheduler has no Python of its own whose garbage collector could be counted.
  const missing = async (): Promise<string[]> =>
    differences(readFamilies(await scrape()), stockFamilies("scheduler")).filter(
      (line) => !line.startsWith("python_gc_"),
    );
  // What the worker counts comes with its next heartbeat.
  await expect.poll(missing, { timeout: 20_000 }).toEqual([]);
});

test("families of our own count batches, calls and graphs", async () => {
  const text = await scrape();
  const ours = [...readFamilies(text)].filter(([name]) => name.startsWith("dask_ts_"));
  expect(ours.map(([name, { type }]) => `${type} ${name}`)).toEqual([
    "histogram dask_ts_event_loop_lag_seconds",
    "histogram dask_ts_message_batch_seconds",
    "histogram dask_ts_call_seconds",
    "histogram dask_ts_graph_intake_seconds",
    "histogram dask_ts_graph_intake_tasks",
  ]);
  // map is one graph, submit another.
  expect(value(text, "dask_ts_graph_intake_seconds_count")).toBe(2);
  expect(value(text, "dask_ts_graph_intake_tasks_sum")).toBe(11);
  expect(value(text, 'dask_ts_message_batch_seconds_count{peer="worker"}')).toBeGreaterThan(0);
  expect(value(text, 'dask_ts_message_batch_seconds_count{peer="client"}')).toBeGreaterThan(0);
  expect(value(text, 'dask_ts_call_seconds_count{op="semaphore_acquire"}')).toBe(1);
});

test("counters only grow, and gauges say how it is", async () => {
  const [before, after] = [await scrape(), await scrape()];
  for (const name of [
    "dask_scheduler_tick_count_total",
    "process_cpu_seconds_total",
    "dask_scheduler_last_time_total",
  ]) {
    expect(value(after, name)).toBeGreaterThanOrEqual(value(before, name));
  }
  expect(value(after, 'dask_scheduler_workers{state="idle"}')).toBe(1);
  expect(value(after, 'dask_semaphore_acquire_total{name="fixture"}')).toBe(1);
  expect(value(after, 'dask_scheduler_prefix_state_totals_total{task_prefix_name="inc",state="memory"}')).toBe(10);
});
