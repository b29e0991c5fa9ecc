import { afterEach, beforeEach, expect, test } from "vitest";
import { BatchedSend, type Value } from "../src/index.ts";
import { commPair, type Pair } from "./support/pair.ts";
import { until } from "./support/wait.ts";

let pair: Pair;
let batches: Value[][];

beforeEach(async () => {
  pair = await commPair();
  batches = [];
  pair.server.listen((message) => {
    batches.push(message as Value[]);
  });
});
afterEach(() => pair.close());

test("what is sent in one turn is one array, and the next one waits for the interval", async () => {
  const stream = new BatchedSend(pair.client, 100);
  stream.send({ op: "a" });
  await Promise.resolve();
  stream.sendAll([{ op: "b" }, { op: "c" }]);
  expect(stream.length).toBe(3);
  await until(() => batches.length === 1, "the first batch");
  const first = performance.now();
  expect(batches[0]).toEqual([{ op: "a" }, { op: "b" }, { op: "c" }]);
  stream.send({ op: "d" });
  stream.send({ op: "e" });
  await until(() => batches.length === 2, "the second batch");
  expect(performance.now() - first).toBeGreaterThan(80);
  expect(batches[1]).toEqual([{ op: "d" }, { op: "e" }]);
  expect(stream).toMatchObject({ messageCount: 5, batchCount: 2, length: 0 });
  expect(stream.byteCount).toBeGreaterThan(20);
});

test("the interval grows while batches are large, and is short again after a rest", async () => {
  const stream = new BatchedSend(pair.client, 20, { maxIntervalMs: 640 });
  const many = Array.from({ length: 10 }, (_, i) => ({ op: "x", i }));
  const sent = async (): Promise<number> => {
    const start = performance.now();
    const batch = batches.length + 1;
    stream.sendAll(many);
    await until(() => batches.length === batch, `batch ${batch}`);
    return performance.now() - start;
  };
  for (let i = 0; i < 5; i++) await sent();
  expect(await sent()).toBeGreaterThan(250);
  // The rest is what is tested here.
  await new Promise((resolve) => setTimeout(resolve, 700));
  await sent();
  expect(await sent()).toBeLessThan(250);
});

test("nothing is sent where there is nothing to send", async () => {
  const stream = new BatchedSend(pair.client, 1);
  stream.sendAll([]);
  stream.flush();
  await stream.close();
  await until(() => pair.server.closed, "the end");
  expect(batches).toEqual([]);
});

test("close sends what is left; afterwards send throws", async () => {
  const stream = new BatchedSend(pair.client, 10_000);
  stream.send(1);
  await until(() => batches.length === 1, "the first batch");
  stream.send(2);
  await stream.close();
  await until(() => batches.length === 2, "the rest");
  expect(batches).toEqual([[1], [2]]);
  expect(() => stream.send(3)).toThrow(/is closed/);
});

test("abort drops what is left", async () => {
  const stream = new BatchedSend(pair.client, 10_000);
  stream.send(1);
  await until(() => batches.length === 1, "the first batch");
  stream.send(2);
  stream.abort();
  await until(() => pair.server.closed, "the end");
  expect(batches).toEqual([[1]]);
  expect(() => stream.sendAll([3])).toThrow(/is closed/);
});

test("a batch that cannot be encoded aborts the comm", async () => {
  let error: Error | undefined;
  const stream = new BatchedSend(pair.client, 1, { onError: (e) => (error = e) });
  stream.send({ op: "x", value: 1n << 80n });
  await until(() => pair.server.closed, "the end");
  expect(error?.message).toMatch(/64 bits/);
  expect(stream.closed).toBe(true);
  expect(batches).toEqual([]);
});

test("the peer's going is seen by send", async () => {
  const stream = new BatchedSend(pair.client, 1);
  pair.server.abort();
  await until(() => stream.closed, "the peer is gone");
  expect(() => stream.send(1)).toThrow(/is closed/);
});

test("a peer that does not keep up is told of", async () => {
  pair.close();
  pair = await commPair();
  const queued: number[] = [];
  const stream = new BatchedSend(pair.client, 1, { highWaterBytes: 2 ** 20, onHighWater: (n) => queued.push(n) });
  stream.send({ data: new Uint8Array(8 * 2 ** 20) });
  await until(() => queued.length > 0, "the high water mark");
  expect(queued[0]).toBeGreaterThan(2 ** 20);
});
