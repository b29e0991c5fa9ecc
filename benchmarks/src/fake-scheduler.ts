/**
 * A scheduler that is only there to keep one worker busy: it takes its registration and its heartbeats, and hands it
 * tiny tasks, so that what is measured is the worker. Prints its address; each line on stdin is an order:
 *
 *     node dist/fake-scheduler.js PICKLED_TASK_FILE
 *     COUNT WINDOW          runs COUNT tasks with WINDOW of them in flight; prints the seconds it took
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { type Message, pickled, type Value } from "@dask-ts/protocol";
import { computeTask, takeOneWorker } from "./one-worker.ts";

const runSpec = pickled(readFileSync(process.argv[2] as string));
let onFinished: (key: Value) => void = () => {};
const worker = takeOneWorker("FakeScheduler", {
  heartbeatS: 0.5,
  onMessage: (message) => {
    if (message["op"] === "task-finished") onFinished(message["key"] as Value);
  },
});

let runs = 0;

/** Seconds for `count` tasks, of which the worker knows at most `window` at a time. */
async function run(count: number, window: number): Promise<number> {
  const { stream } = await worker;
  const send = (message: Message): void => stream.send(message);
  const label = `neg-${++runs}`;
  let sent = 0;
  let finished = 0;
  const next = (): void => {
    const index = sent++;
    send(computeTask(`${label}-${index}`, runSpec, index, [0, runs, index]));
  };
  const start = performance.now();
  await new Promise<void>((resolve) => {
    onFinished = (key) => {
      finished++;
      send({ op: "free-keys", keys: [key], stimulus_id: `free-${label}` });
      if (sent < count) next();
      if (finished === count) resolve();
    };
    while (sent < Math.min(window, count)) next();
  });
  return (performance.now() - start) / 1000;
}

for await (const line of createInterface({ input: process.stdin })) {
  const [count, window] = line.split(" ").map(Number) as [number, number];
  console.log(await run(count, window));
}
process.exit(0);
