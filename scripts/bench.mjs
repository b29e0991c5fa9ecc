#!/usr/bin/env node
// Compares with stock Dask; prints a table. See benchmarks/README.md.
//     npm run bench [-- schedulers|intake|execution|worker-start|transfer|gather|gil] [its options, --help among them]
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
/** Programs in benchmarks/python; the first where none is named. */
const PROGRAMS = {
  schedulers: "bench.py",
  intake: "intake.py",
  execution: "execution.py",
  "worker-start": "worker_start.py",
  transfer: "transfer.py",
  gather: "gather.py",
  gil: "gil.py",
};

const [first = "", ...rest] = process.argv.slice(2);
const named = first !== "" && !first.startsWith("-");
const program = PROGRAMS[named ? first : "schedulers"];
if (program === undefined) {
  console.error(`bench: there is no '${first}'; there are ${Object.keys(PROGRAMS).join(", ")}`);
  process.exit(2);
}
const result = spawnSync(
  join(ROOT, ".venv", "bin", "python"),
  [join(ROOT, "benchmarks", "python", program), ...(named ? rest : process.argv.slice(2))],
  { cwd: ROOT, stdio: "inherit" },
);
process.exitCode = result.status ?? 1;
