/**
 * A scheduler and a peer in one, who ask a worker for things while its only thread runs a task that holds the GIL:
 *
 *     node dist/gil-scheduler.js HOLD VALUE ARRAY OTHER SECONDS      (files with a pickled task each)
 *
 * Prints its address, and, when a worker has come and all is over, a JSON document: for each kind of question the
 * milliseconds that each answer took, and what was answered. Questions of a kind follow each other, 100 ms apart.
 */
import { readFileSync } from "node:fs";
import { type Comm, connect, isMessage, type Message, pickled, type Value } from "@dask-ts/protocol";
import { computeTask, takeOneWorker } from "./one-worker.ts";

const [hold, value, array, other] = process.argv.slice(2, 6).map((file) => pickled(readFileSync(file)));
const holdMs = Number(process.argv[6]) * 1000;
const HEARTBEAT_S = 0.1;
const PAUSE_MS = 100;
const QUEUED = 200;

const answers: Record<string, { ms: number[]; said: Record<string, number> }> = {};
function answered(kind: string, ms: number, said: string): void {
  answers[kind] ??= { ms: [], said: {} };
  answers[kind].ms.push(ms);
  answers[kind].said[said] = (answers[kind].said[said] ?? 0) + 1;
}

const finished = new Set<string>();
const stolen = new Map<string, (state: string) => void>();
let onFinished: () => void = () => {};
let heartbeatAt = 0;
let measuring = false;
function handle(message: Message): void {
  if (message["op"] === "task-finished") {
    finished.add(String(message["key"]));
    onFinished();
  } else if (message["op"] === "steal-response") {
    stolen.get(String(message["key"]))?.(String(message["state"]));
  }
}

const { stream, address } = await takeOneWorker("GilScheduler", {
  heartbeatS: HEARTBEAT_S,
  onHeartbeat: () => {
    const now = performance.now();
    // what it came later than the interval says
    if (measuring) answered("heartbeat", Math.max(0, now - heartbeatAt - HEARTBEAT_S * 1000), "late by");
    heartbeatAt = now;
  },
  onMessage: handle,
});

let priority = 0;
function compute(key: string, task: Value): void {
  priority++;
  stream.send(computeTask(key, task, priority, [0, priority]));
}

async function until(key: string): Promise<void> {
  while (!finished.has(key)) {
    await new Promise<void>((resolve) => {
      onFinished = resolve;
    });
  }
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

compute("value", value as Value);
compute("array", array as Value);
await until("value");
await until("array");
const peers: Comm[] = [await connect(address), await connect(address)];

async function getData(kind: string, key: string, comm: Comm): Promise<void> {
  const start = performance.now();
  comm.send({ op: "get_data", reply: true, keys: [key], who: "tcp://127.0.0.1:1" });
  const reply = await comm.receive();
  const status = isMessage(reply) ? String(reply["status"]) : "nothing";
  answered(kind, performance.now() - start, status);
  if (status === "OK") comm.send("OK");
}

let next = 0;
async function steal(kind: string, before: (key: string) => void): Promise<void> {
  const key = `queued-${next++}`;
  const start = performance.now();
  const response = new Promise<string>((resolve) => stolen.set(key, resolve));
  before(key);
  stream.send({ op: "steal-request", key, stimulus_id: `steal-${key}` });
  const state = await response;
  answered(kind, performance.now() - start, state);
}

await sleep(2000); // what a worker does after its start is over
compute("hold", hold as Value);
await sleep(50);
for (let i = 0; i < QUEUED; i++) compute(`queued-${i}`, other as Value);
await sleep(250);
const start = performance.now();
const end = start + holdMs - 600;
heartbeatAt = start - (HEARTBEAT_S * 1000) / 2;
measuring = true;

async function again(ask: () => Promise<void>): Promise<void> {
  while (performance.now() < end && !finished.has("hold")) {
    await ask();
    await sleep(PAUSE_MS);
  }
}

await Promise.all([
  again(() => getData("get_data of an int", "value", peers[0] as Comm)),
  again(() => getData("get_data of 1 MB", "array", peers[1] as Comm)),
  again(() => steal("steal-request", () => {})),
  again(() =>
    steal("free-keys, then steal-request", (key) => stream.send({ op: "free-keys", keys: [key], stimulus_id: "free" })),
  ),
]);
measuring = false;
// after the hold, what was refused is given
await until("hold");
await sleep(300);
await getData("get_data of 1 MB, after", "array", peers[1] as Comm);
// a worker that sent no heartbeat at all was late by the whole time
if (answers["heartbeat"] === undefined) answered("heartbeat", performance.now() - start, "none");
console.log(JSON.stringify(answers));
process.exit(0);
