/**
 * Tiny tasks through the executor: tasks a second, and CPU of both processes a task.
 *
 *   node --conditions=source --import tsx benchmarks/src/executor.ts [tasks] [nthreads]
 *
 * `in flight` tasks are with the executor at any time; a new one goes out for each that ends.
 */
import { readFileSync } from "node:fs";
import { findPython, pickled } from "@dask-ts/protocol";
import { type ExecuteRequest, PythonExecutor } from "@dask-ts/worker/internal";

const TASKS = Number(process.argv[2] ?? 20_000);
const NTHREADS = Number(process.argv[3] ?? 1);

/** `dask._task_spec.Task("x", operator.neg, 1)`, pickled. */
const NEG = Buffer.from(
  "gAWVSAAAAAAAAACMD2Rhc2suX3Rhc2tfc3BlY5SMBFRhc2uUk5QpgZQoiSiRlE5OTksBhZSMCV9vcGVyYXRvcpSMA25lZ5STlIwBeJR9lHSUYi4=",
  "base64",
);

function cpuSeconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

let finished = 0;
let onOutcome: () => void = () => undefined;
const executor = await PythonExecutor.start(
  {
    python: (await findPython()).path,
    address: "tcp://127.0.0.1:1",
    scheduler: "tcp://127.0.0.1:1",
    name: "benchmark",
    nthreads: NTHREADS,
    localDirectory: null,
    memoryLimit: process.env.SPILL === undefined ? null : 8e9,
  },
  {
    outcome: (outcome) => {
      if (outcome.kind !== "success") throw new Error(`a task failed: ${JSON.stringify(outcome)}`);
      finished += 1;
      onOutcome();
    },
    seceded: () => undefined,
    logEvent: () => undefined,
    request: () => Promise.resolve(null),
    log: () => undefined,
    exit: () => undefined,
  },
);

function request(i: number): ExecuteRequest {
  return {
    key: `neg-${i}`,
    runId: i,
    runSpec: pickled(NEG),
    dependencies: [],
    annotations: new Map(),
    actor: false,
    priority: [0, i],
    spanId: null,
  };
}

async function measure(inFlight: number, tasks: number): Promise<void> {
  finished = 0;
  let sent = 0;
  const before = process.cpuUsage();
  const childBefore = cpuSeconds(executor.pid);
  const start = performance.now();
  await new Promise<void>((resolve) => {
    let scheduled = false;
    const refill = (): void => {
      scheduled = false;
      const requests: ExecuteRequest[] = [];
      while (sent < tasks && sent - finished < inFlight) requests.push(request(sent++));
      executor.execute(requests);
    };
    onOutcome = () => {
      if (finished === tasks) return resolve();
      // once a turn, as the worker does
      if (!scheduled) {
        scheduled = true;
        queueMicrotask(refill);
      }
    };
    refill();
  });
  const seconds = (performance.now() - start) / 1000;
  const node = process.cpuUsage(before);
  const perTask = (s: number): string => ((s / tasks) * 1e6).toFixed(1).padStart(6);
  console.log(
    `${String(inFlight).padStart(5)} in flight: ${Math.round(tasks / seconds)
      .toString()
      .padStart(6)} tasks/s, CPU us/task: node ${perTask((node.user + node.system) / 1e6)}, python ${perTask(
      cpuSeconds(executor.pid) - childBefore,
    )}`,
  );
  executor.drop(Array.from({ length: tasks }, (_, i) => `neg-${i}`));
}

await measure(100, 2000);
for (const inFlight of [1, 2, 10, 100, 1000]) await measure(inFlight, inFlight === 1 ? TASKS / 4 : TASKS);
await executor.close(5000);
