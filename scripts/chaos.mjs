#!/usr/bin/env node
// Breaks real clusters while they work: `node scripts/chaos.mjs [--minutes 30] [--seed N]`. First every test of
// tests/chaos once, then the soak for so long.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const { values } = parseArgs({ options: { minutes: { type: "string", default: "30" }, seed: { type: "string" } } });
const seconds = Number(values.minutes) * 60;
const python = join(ROOT, ".venv", "bin", "python");
const env = { ...process.env, CHAOS_MINUTES: values.minutes, ...(values.seed ? { CHAOS_SEED: values.seed } : {}) };

const runs = [
  ["tests/chaos", "--timeout=200"],
  ["tests/chaos/soak.py", "-s", `--timeout=${Math.ceil(seconds) + 900}`],
];
let failed = 0;
for (const args of runs) {
  const command = ["-m", "pytest", "-p", "no:cacheprovider", "-q", ...args];
  failed += spawnSync(python, command, { cwd: ROOT, stdio: "inherit", env }).status === 0 ? 0 : 1;
}
process.exitCode = failed === 0 ? 0 : 1;
