/**
 * How long a heartbeat takes while the scheduler is busy: one paused worker (it never gets a task) sends
 * `heartbeat_worker` on a connection of its own, the next one PERIOD ms after the last was sent, or at once when that
 * one took longer. A line on standard input ends a window, once the heartbeat under way is back: its latencies are printed
 * as JSON, in milliseconds. A heartbeat that waits holds up those that should have been sent meanwhile: each of these counts with what it would
 * have waited.
 *
 *     node dist/heartbeat-probe.js tcp://127.0.0.1:8786 [PERIOD_MS]
 */
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { connect, ConnectionPool, isMessage, listen, serveComm } from "@dask-ts/protocol";
import { heartbeat, registration } from "./fake-worker.ts";

const [scheduler, period = "5"] = process.argv.slice(2);
if (scheduler === undefined) throw new Error("usage: heartbeat-probe SCHEDULER [PERIOD_MS]");

const listener = await listen("tcp://127.0.0.1:0", {
  onComm: (comm) => void serveComm(comm, {}, { name: "HeartbeatProbe" }),
});
const stream = await connect(scheduler);
stream.send(registration(listener.contactAddress, "heartbeat-probe", 1, "paused"));
const reply = await stream.receive();
if (!isMessage(reply) || reply["status"] !== "OK") throw new Error(`not registered: ${JSON.stringify(reply)}`);
stream.listen(() => undefined);
stream.onClose(() => process.exit(0));

let latencies: number[] = [];
let asked = 0;
createInterface({ input: process.stdin }).on("line", () => {
  asked++;
});

function answer(): void {
  asked--;
  const sorted = latencies.toSorted((a, b) => a - b);
  latencies = [];
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  const line = { count: sorted.length, p50: at(0.5), p99: at(0.99), max: sorted.at(-1) ?? 0 };
  process.stdout.write(`${JSON.stringify(line)}\n`);
}

const pool = new ConnectionPool();
await pool.call(scheduler, "heartbeat_worker", heartbeat(listener.contactAddress));
process.stdout.write("ready\n");
for (;;) {
  const start = performance.now();
  await pool.call(scheduler, "heartbeat_worker", heartbeat(listener.contactAddress));
  const took = performance.now() - start;
  for (let late = took; late > 0; late -= Number(period)) latencies.push(late);
  if (asked > 0) answer();
  if (took < Number(period)) await sleep(Number(period) - took);
}
