/**
 * CPU per task of the scheduler's state machine alone: update-graph, then task-finished for every task until all
 * wanted keys are in memory, then the release of all.
 *
 *     npx tsx --conditions=source benchmarks/src/core-transitions.ts [shape] [tasks] [workers] [threads]
 *
 * Messages of the fake workers are made while the clock stands.
 */
import type { Message, Value } from "@dask-ts/protocol";
import { DEFAULT_CORE_CONFIG, SchedulerCore, WorkStealing } from "@dask-ts/scheduler/internal";
import { benchGraph, type Shape } from "./core-graphs.ts";
import { addBenchWorker, benchRequest } from "./core-worker.ts";

const shapes = (process.argv[2] ?? "map,tree,chains").split(",") as Shape[];
const sizes = (process.argv[3] ?? "10000,100000").split(",").map(Number);
const workers = Number(process.argv[4] ?? 100);
const nthreads = Number(process.argv[5] ?? 2);

/** Messages that arrive together. */
const BATCH = 200;
const TYPE = new Uint8Array(40);

function run(shape: Shape, n: number, warmup: boolean): void {
  let now = 1000;
  let clock = 0;
  const timed = <T>(work: () => T): T => {
    // CPU and not wall time: the machine may be busy with other things.
    const start = process.cpuUsage();
    const result = work();
    const used = process.cpuUsage(start);
    clock += (used.user + used.system) * 1000;
    return result;
  };
  const core = new SchedulerCore({ ...DEFAULT_CORE_CONFIG, makeException: () => null }, now);
  if (process.env["STEALING"] !== "0") core.stealing = new WorkStealing(core);
  core.addClient("c", now);
  for (let i = 0; i < workers; i++) {
    const name = String(i).padStart(4, "0");
    addBenchWorker(core, name, nthreads, now);
  }
  const pending: [address: string, message: Message][] = [];
  const startstops = [
    new Map<Value, Value>([
      ["action", "compute"],
      ["start", now],
      ["stop", now + 0.1],
    ]),
  ];
  let sent = 0;
  const collect = (): void => {
    for (const [address, messages] of core.outbox.toWorkers) {
      for (const message of messages) {
        if (message.op !== "compute-task") continue;
        sent++;
        pending.push([
          address,
          {
            op: "task-finished",
            key: message.key,
            run_id: message.run_id,
            nbytes: 28,
            type: TYPE,
            typename: "int",
            metadata: new Map(),
            thread: 1,
            startstops,
            stimulus_id: "task-finished-1",
            status: "OK",
          },
        ]);
      }
    }
    core.outbox.clear();
  };

  const { graph, keys } = benchGraph(shape, n, warmup ? "w" : "a", 100);
  const steps = core.updateGraph(benchRequest({ graph, keys }), now);
  let longest = 0;
  for (;;) {
    const before = clock;
    const step = timed(() => steps.next(now));
    longest = Math.max(longest, clock - before);
    if (step.done) break;
  }
  collect();
  const afterGraph = clock;

  let finished = 0;
  let at = 0;
  while (at < pending.length) {
    const batch = pending.slice(at, at + BATCH);
    at += batch.length;
    if (at > 50_000) {
      pending.splice(0, at);
      at = 0;
    }
    now += 0.001;
    timed(() => {
      for (const [address, message] of batch) core.workerMessage(address, message, now);
    });
    finished += batch.length;
    collect();
  }
  const afterFinish = clock;
  const inMemory = keys.filter((key) => core.state.tasks.get(key as string)?.state === "memory").length;
  if (inMemory !== keys.length) throw new Error(`${keys.length - inMemory} keys are not in memory`);
  timed(() => core.clientMessage("c", { op: "client-releases-keys", keys: keys }, now));
  if (core.state.tasks.size !== 0) throw new Error(`${core.state.tasks.size} tasks left`);
  if (warmup) return;
  const total = graph.keys.length;
  const us = (ns: number): string => (ns / 1000 / total).toFixed(2).padStart(6);
  console.log(
    `${shape.padEnd(7)} ${String(total).padStart(8)} tasks ${workers} workers: ${us(clock)} µs/task` +
      ` (graph ${us(afterGraph)}, finish ${us(afterFinish - afterGraph)}, release ${us(clock - afterFinish)};` +
      ` longest step of the graph ${(longest / 1e6).toFixed(1)} ms; ${finished} of ${sent} finished)`,
  );
}

for (const shape of shapes) {
  run(shape, 5000, true);
  for (const n of sizes) run(shape, n, false);
}
