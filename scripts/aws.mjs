#!/usr/bin/env node
// Deploys to an AWS on this machine (tests/aws): moto's server, and a runner that starts tasks as processes; and with the
// deployers that users have (tests/deployers). Their Python environment is .venv-aws/.
// Arguments: --report FILE for JUnit's XML; --cache FOLDER keeps which tests failed, --again runs only these; others are
// paths and names of tests.
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

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { report: { type: "string" }, cache: { type: "string" }, again: { type: "boolean", default: false } },
});

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

/** OpenSSH's server, for SSHCluster: CI installs it; elsewhere its tests are skipped and say what to install. */
function installSshd() {
  if (process.env.CI !== "true" || process.getuid?.() !== 0 || existsSync("/usr/sbin/sshd")) return;
  console.log("aws: installing openssh-server …");
  run("sh", ["-c", "apt-get update -qq && apt-get install -y -qq --no-install-recommends openssh-server >/dev/null"]);
}

install();
installSshd();
const tests = positionals.length > 0 ? positionals : ["tests/aws", "tests/deployers"];
const report = values.report === undefined ? [] : [`--junitxml=${values.report}`];
// Two at a time, each with an AWS of its own: they wait as often as they compute.
const parallel = positionals.length > 0 || values.again ? [] : ["-n", "2", "--dist", "loadgroup"];
const cache = values.cache === undefined ? ["-p", "no:cacheprovider"] : ["-o", `cache_dir=${values.cache}`];
if (values.again) cache.push("--last-failed", "--last-failed-no-failures=none");
const options = ["-q", ...cache, "--timeout=300", "--durations=8", ...parallel];
process.exit(run(PYTHON, ["-m", "pytest", ...options, ...report, ...tests]));
