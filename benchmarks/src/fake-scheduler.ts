/**
 * A scheduler that is only there to keep one worker busy: it takes its registration and its heartbeats, and hands it
 * tiny tasks, so that what is measured is the worker. Prints its address; each line on stdin is an order:
 *
 *     node dist/fake-scheduler.js PICKLED_TASK_FILE
 *     COUNT WINDOW          runs COUNT tasks with WINDOW of them in flight; prints the seconds it took
 */
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import {
  BatchedSend,
  float,
  isMessage,
  listen,
  type Message,
  pickled,
  type RpcHandlers,
  serveComm,
  TAKEN_OVER,
  type Value,
} from "@dask-ts/protocol";

/** The scheduler's own interval of sending (distributed.batched). */
const BATCH_MS = 2;
const SPAN = "00000000-0000-0000-0000-000000000000";

const runSpec = pickled(readFileSync(process.argv[2] as string));
let stream: BatchedSend | undefined;
let onFinished: (key: Value) => void = () => {};

function handle(message: Message): void {
  if (message["op"] === "task-finished") onFinished(message["key"] as Value);
  if (message["op"] === "task-erred") throw new Error(`a task erred: ${String(message["exception_text"])}`);
}

const handlers: RpcHandlers = {
  "register-worker": (_, { comm }) => {
    comm.send({
      status: "OK",
      time: float(Date.now() / 1000),
      "heartbeat-interval": float(0.5),
      "worker-plugins": new Map(),
    });
    stream = new BatchedSend(comm, BATCH_MS);
    comm.listen((batch) => {
      for (const message of batch as readonly Value[]) if (isMessage(message)) handle(message);
    });
    return TAKEN_OVER;
  },
  heartbeat_worker: () => ({ status: "OK", time: float(Date.now() / 1000), "heartbeat-interval": float(0.5) }),
  unregister: () => null,
};

let runs = 0;

/** Seconds for `count` tasks, of which the worker knows at most `window` at a time. */
async function run(count: number, window: number): Promise<number> {
  const send = (message: Message): void => stream?.send(message);
  const label = `neg-${++runs}`;
  let sent = 0;
  let finished = 0;
  const next = (): void => {
    const index = sent++;
    send({
      op: "compute-task",
      key: `${label}-${index}`,
      run_id: index,
      priority: [0, runs, index],
      stimulus_id: `compute-task-${label}`,
      who_has: new Map(),
      nbytes: new Map(),
      run_spec: runSpec,
      resource_restrictions: null,
      actor: false,
      annotations: new Map(),
      span_id: SPAN,
    });
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

const listener = await listen("tcp://127.0.0.1:0", {
  onComm: (comm) => void serveComm(comm, handlers, { name: "FakeScheduler" }),
});
console.log(listener.contactAddress);
for await (const line of createInterface({ input: process.stdin })) {
  const [count, window] = line.split(" ").map(Number) as [number, number];
  console.log(await run(count, window));
}
process.exit(0);
