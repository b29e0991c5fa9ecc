#!/usr/bin/env node
// Deploys to an AWS on this machine (tests/aws): moto's server, and a runner that starts tasks as processes. Its Python
// environment is .venv-aws/.
// Arguments: --report FILE for JUnit's XML; others are pytest's.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const VENV = join(ROOT, ".venv-aws");
const PYTHON = join(VENV, "bin", "python");
const STAMP = join(VENV, "stamp");
const UV = join(ROOT, ".tools", "uv", "bin", "uv");
const REQUIREMENTS = join(ROOT, "tests", "aws", "requirements.txt");

const { values, positionals } = parseArgs({ allowPositionals: true, options: { report: { type: "string" } } });

function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit" });
  return status ?? 1;
}

function install() {
  const digest = createHash("sha256").update(readFileSync(REQUIREMENTS)).digest("hex");
  if (existsSync(PYTHON) && existsSync(STAMP) && readFileSync(STAMP, "utf8") === digest) return;
  console.log("aws: making the Python environment .venv-aws …");
  const made =
    run(UV, ["venv", "--quiet", "--clear", "--python", join(ROOT, ".venv", "bin", "python"), VENV]) === 0 &&
    run(UV, ["pip", "sync", "--quiet", "--require-hashes", "--python", PYTHON, REQUIREMENTS]) === 0;
  if (!made) process.exit(1);
  writeFileSync(STAMP, digest);
}

install();
const tests = positionals.length > 0 ? positionals : ["tests/aws"];
const report = values.report === undefined ? [] : [`--junitxml=${values.report}`];
process.exit(
  run(PYTHON, ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=300", "--durations=5", ...report, ...tests]),
);
