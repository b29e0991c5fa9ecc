/**
 * Time to read the graphs of clients without Python:
 *
 *     npx tsx --conditions=source benchmarks/src/native-graphs.ts [tasks]
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { decode, findPython, type Key, type Message, Serialized, type Value } from "@dask-ts/protocol";
import { GraphPickles, type GraphReading, KnownGlobals } from "@dask-ts/scheduler";

type Expression = ReadonlyMap<Value, Value>;

const tasks = Number(process.argv[2] ?? 10_000);
const script = fileURLToPath(new URL("../python/expressions.py", import.meta.url));
const python = (await findPython()).path;
const expressions = decode(execFileSync(python, [script, String(tasks)], { maxBuffer: 2 ** 32 })) as Message;

const pickles = new GraphPickles(new KnownGlobals());

/** @returns the reading, and the longest that the event loop would have been kept, in milliseconds of CPU. */
function read(expression: Expression): [GraphReading, number] {
  const request = {
    exprSer: new Serialized(expression.get("header") as Uint8Array, expression.get("frames") as Uint8Array[]),
    keys: expression.get("keys") as Key[],
  };
  const steps = pickles.read(request, true);
  let longest = 0;
  for (;;) {
    const before = process.cpuUsage();
    const step = steps.next();
    longest = Math.max(longest, process.cpuUsage(before).user / 1000);
    if (step.done) return [step.value, longest];
  }
}

console.log("graph                   tasks   µs a task (best, median)   longest step ms   bytes a task");
for (const [name, value] of Object.entries(expressions)) {
  const expression = value as Expression;
  const n = expression.get("tasks") as number;
  const rounds = n === 1 ? 20_000 : Math.max(5, Math.ceil(300_000 / n));
  const times: number[] = [];
  let longest = Number.POSITIVE_INFINITY;
  let bytes = 0;
  for (let round = 0; round < rounds; round++) {
    const start = process.cpuUsage();
    const startMs = performance.now();
    const [reading, step] = read(expression);
    const elapsed = n === 1 ? (performance.now() - startMs) * 1000 : process.cpuUsage(start).user;
    times.push(elapsed / n);
    // the collector and other processes hit some round or other: the best of them tells what the step itself takes
    longest = Math.min(longest, step);
    if (!("graph" in reading)) throw new Error(`${name}: ${reading.notKnown}`);
    if (round === 0) for (const spec of reading.graph.runSpecs) bytes += spec.nbytes / n;
  }
  const sorted = times.toSorted((a, b) => a - b);
  const show = (at: number): string => (sorted[Math.floor(sorted.length * at)] as number).toFixed(2).padStart(8);
  console.log(
    `${name.padEnd(20)} ${String(n).padStart(8)} ${show(0)} ${show(0.5)} ${longest.toFixed(1).padStart(24)} ${bytes.toFixed(0).padStart(14)}`,
  );
}
