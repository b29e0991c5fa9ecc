/**
 * CPU per task of the worker's state machine alone: compute-task → execute → execute-success → task-finished → free-keys.
 *
 *     npx tsx --conditions=source benchmarks/src/worker-core.ts [tasks]
 *
 * Messages are made while the clock stands. `independent` tasks have no dependencies; in `chain` each needs the one before
 * it; in `fetch` each needs one value of a peer.
 */
import type { Value } from "@dask-ts/protocol";
import { type Instruction, WorkerMachine, type WorkerEvent } from "@dask-ts/worker/internal";

const n = Number(process.argv[2] ?? 200_000);
/** Events are made so many at a time, off the clock. */
const CHUNK = 200;
const TYPE = new Uint8Array(40);
const PEERS = Array.from({ length: 20 }, (_, i) => `tcp://10.0.0.${i + 2}:1`);

type Shape = "independent" | "chain" | "fetch";

function computeTask(i: number, shape: Shape): WorkerEvent {
  const key = `inc-${i.toString(16).padStart(32, "0")}`;
  const whoHas = new Map<Value, Value>();
  const nbytes = new Map<Value, Value>();
  if (shape === "chain" && i % 100 > 0) {
    const before = `inc-${(i - 1).toString(16).padStart(32, "0")}`;
    whoHas.set(before, ["tcp://10.0.0.1:1"]);
    nbytes.set(before, 28);
  } else if (shape === "fetch") {
    whoHas.set(`data-${i}`, PEERS.slice(i % PEERS.length, (i % PEERS.length) + 1));
    nbytes.set(`data-${i}`, 1000);
  }
  return {
    kind: "compute-task",
    message: {
      op: "compute-task",
      key,
      run_id: i,
      priority: [0, 1, i],
      who_has: whoHas,
      nbytes,
      run_spec: TYPE,
      resource_restrictions: null,
      actor: false,
      annotations: new Map(),
      span_id: null,
      stimulus_id: `compute-task-${i}`,
    },
  };
}

function run(shape: Shape): void {
  const machine = new WorkerMachine({ address: "tcp://10.0.0.1:1", nthreads: 4, seed: 1 });
  let finished = 0;
  let toFree: Value[] = [];
  const queue: WorkerEvent[] = [];
  const follow = (instructions: readonly Instruction[]): void => {
    for (const instruction of instructions) {
      switch (instruction.kind) {
        case "execute":
          queue.push({
            kind: "execute-success",
            key: instruction.key,
            runId: instruction.runId,
            nbytes: 28,
            type: TYPE,
            typename: "int",
            start: 1.5,
            stop: 1.75,
            thread: 1,
            startstops: [],
            metadata: null,
            stimulusId: "task-finished-1.5",
          });
          break;
        case "gather":
          queue.push({
            kind: "gather-success",
            worker: instruction.worker,
            totalNbytes: instruction.totalNbytes,
            received: instruction.keys.map((key) => ({ key, nbytes: 1000, type: TYPE, typename: "bytes" })),
            start: 1.5,
            stop: 1.75,
            stimulusId: "gather-dep-success-1.5",
          });
          break;
        case "send":
          if (instruction.message["op"] === "task-finished") {
            finished++;
            toFree.push(instruction.message["key"] as Value);
          } else if (instruction.message["op"] === "add-keys") {
            for (const key of instruction.message["keys"] as Value[]) toFree.push(key);
          }
          break;
        case "fail":
          throw new Error(instruction.reason);
        default:
          break;
      }
    }
  };
  let cpu = 0;
  let cpuBefore = process.cpuUsage();
  let events: WorkerEvent[] = [];
  // As they come from a scheduler: a few tasks ahead, results freed in batches.
  for (let i = 0; i < n; i++) {
    if (i % CHUNK === 0) {
      cpu += microseconds(process.cpuUsage(cpuBefore));
      events = Array.from({ length: Math.min(CHUNK, n - i) }, (_, j) => computeTask(i + j, shape));
      cpuBefore = process.cpuUsage();
    }
    follow(machine.handle(events[i % CHUNK] as WorkerEvent, i + 0.5));
    if (shape === "chain" || i % 8 === 7 || i === n - 1) {
      for (let event = queue.shift(); event !== undefined; event = queue.shift())
        follow(machine.handle(event, i + 0.5));
      if (toFree.length >= 200 || i === n - 1) {
        const last = i === n - 1 ? [] : toFree.splice(-2);
        follow(
          machine.handle({ kind: "free-keys", message: { op: "free-keys", keys: toFree, stimulus_id: "f" } }, i + 0.5),
        );
        toFree = last;
      }
    }
  }
  cpu += microseconds(process.cpuUsage(cpuBefore));
  if (finished !== n) throw new Error(`${finished} of ${n} tasks finished`);
  console.log(`${shape}: ${(cpu / n).toFixed(2)} µs of CPU per task; ${machine.tasks.size} tasks left`);
}

function microseconds({ user, system }: NodeJS.CpuUsage): number {
  return user + system;
}

// The first round is for the compiler.
for (const shape of ["independent", "chain", "fetch", "independent", "chain", "fetch"] as const) run(shape);
