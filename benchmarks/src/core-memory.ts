/**
 * Heap per task of the scheduler's state machine for graphs of a million tasks.
 *
 *     node --expose-gc --max-old-space-size=6000 --conditions=source --import tsx benchmarks/src/core-memory.ts [shape] [tasks]
 *
 * Counted after a full collection: the graph as the graph host delivers it (which the core lets go of afterwards), the
 * state after update-graph without any worker, and the same with every task in memory or released.
 */
import type { Message, Value } from "@dask-ts/protocol";
import { DEFAULT_CORE_CONFIG, SchedulerCore } from "@dask-ts/scheduler/internal";
import { type BenchGraph, benchGraph, type Shape } from "./core-graphs.ts";
import { addBenchWorker } from "./core-worker.ts";

const shapes = (process.argv[2] ?? "map,tree").split(",") as Shape[];
const n = Number(process.argv[3] ?? 1_000_000);
/** Bytes of a typical pickled task, without its own function. */
const RUN_SPEC_BYTES = 150;
const collectGarbage = (globalThis as { gc?: () => void }).gc;
if (collectGarbage === undefined) throw new Error("run with --expose-gc");

function megabytes(): number {
  collectGarbage?.();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}

function measure(shape: Shape): void {
  let now = 1000;
  const base = megabytes();
  let bench: BenchGraph | undefined = benchGraph(shape, n, "a", RUN_SPEC_BYTES);
  const graphOnly = megabytes() - base;
  const tasks = bench.graph.keys.length;
  const core = new SchedulerCore({ ...DEFAULT_CORE_CONFIG, makeException: () => null }, now);
  core.addClient("c", now);
  let longest = 0;
  const steps = core.updateGraph(
    {
      client: "c",
      graph: bench.graph,
      keys: bench.keys,
      // The order is the graph host's or the client's affair here.
      internalPriority: new Map(bench.graph.keys.map((key, i) => [key as Value, i])),
      submittingTask: null,
      fifoTimeout: 0.1,
      actors: null,
      userPriority: 0,
    },
    now,
  );
  const started = process.cpuUsage();
  for (;;) {
    const before = process.hrtime.bigint();
    const step = steps.next(now);
    longest = Math.max(longest, Number(process.hrtime.bigint() - before) / 1e6);
    if (step.done) break;
  }
  const used = process.cpuUsage(started);
  core.outbox.clear();
  bench = undefined;
  const waiting = megabytes() - base;

  const worker = addBenchWorker(core, "1", 2000, now);
  const take = (): Message[] => {
    const messages = core.outbox.toWorkers.get(worker) ?? [];
    core.outbox.clear();
    return messages;
  };
  for (let batch = take(); batch.length > 0; batch = take()) {
    now += 0.01;
    for (const message of batch) {
      if (message.op !== "compute-task") continue;
      core.workerMessage(
        worker,
        {
          op: "task-finished",
          key: message.key,
          run_id: message.run_id,
          nbytes: 28,
          type: new Uint8Array(40),
          typename: "int",
          metadata: new Map(),
          startstops: [],
          stimulus_id: "task-finished-1",
        },
        now,
      );
    }
  }
  const done = megabytes() - base;
  const bytes = (mb: number): string =>
    `${mb.toFixed(0).padStart(5)} MB (${((mb * 2 ** 20) / tasks).toFixed(0)} B/task)`;
  const us = (used.user + used.system) / tasks;
  console.log(
    `${shape.padEnd(6)} ${tasks} tasks: graph alone ${bytes(graphOnly)}, state ${bytes(waiting)}, done ${bytes(done)};` +
      ` update-graph ${us.toFixed(2)} µs/task, longest step ${longest.toFixed(0)} ms`,
  );
}

for (const shape of shapes) measure(shape);
