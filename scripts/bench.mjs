#!/usr/bin/env node
// Prints the comparison with stock Dask; see benchmarks/README.md. Arguments go to benchmarks/python/bench.py.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const result = spawnSync(
  join(ROOT, ".venv", "bin", "python"),
  [join(ROOT, "benchmarks", "python", "bench.py"), ...process.argv.slice(2)],
  { cwd: ROOT, stdio: "inherit" },
);
process.exitCode = result.status ?? 1;
