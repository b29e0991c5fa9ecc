#!/usr/bin/env node
// Libraries with a Dask mode of their own, against our scheduler and workers; prints a table (docs/ecosystem.md).
// Arguments: names of suites, and --scheduler stock, --worker stock to compare. Its Python environment is .ecosystem/.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const FOLDER = join(ROOT, ".ecosystem");
const PYTHON = join(FOLDER, "venv", "bin", "python");
const REQUIREMENTS = join(ROOT, "tests", "ecosystem", "requirements.txt");
const UV = join(ROOT, ".tools", "uv", "bin", "uv");
const TESTS = join(ROOT, "tests", "ecosystem");
const TEST_SECONDS = 300;

/** Our tests of a library, or the library's own. */
const SUITES = {
  xgboost: [join(TESTS, "test_xgboost.py")],
  lightgbm: [join(TESTS, "test_lightgbm.py")],
  "dask-ml": [join(TESTS, "test_dask_ml.py")],
  joblib: [join(TESTS, "test_joblib.py")],
  // Unchanged; outside_clusters.py replaces the clusters it starts.
  xarray: ["-p", "outside_clusters", "--pyargs", "xarray.tests.test_distributed"],
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    scheduler: { type: "string", default: "ours" },
    worker: { type: "string", default: "ours" },
  },
});
const unknown = positionals.filter((name) => !(name in SUITES));
if (unknown.length > 0) {
  console.error(`ecosystem: no suite '${unknown[0]}'; there are ${Object.keys(SUITES).join(", ")}`);
  process.exit(2);
}

function run(command, args) {
  const result = spawnSync(command, args, { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"] });
  if (result.status !== 0) process.exit(result.status ?? 1);
}

function install() {
  const digest = createHash("sha256").update(readFileSync(REQUIREMENTS)).digest("hex");
  const stamp = join(FOLDER, "stamp");
  if (existsSync(PYTHON) && existsSync(stamp) && readFileSync(stamp, "utf8") === digest) return;
  console.error("ecosystem: making the Python environment .ecosystem/venv …");
  mkdirSync(FOLDER, { recursive: true });
  run(UV, ["venv", "--quiet", "--clear", "--python", join(ROOT, ".venv", "bin", "python"), join(FOLDER, "venv")]);
  run(UV, ["pip", "sync", "--quiet", "--require-hashes", "--python", PYTHON, REQUIREMENTS]);
  writeFileSync(stamp, digest);
}

/** Numbers of a JUnit report. */
function count(report) {
  const number = (name) => Number(new RegExp(`<testsuite [^>]*\\b${name}="(\\d+)"`).exec(report)?.[1] ?? 0);
  const failed = number("failures") + number("errors");
  return { passed: number("tests") - failed - number("skipped"), failed, skipped: number("skipped") };
}

function test(name) {
  const report = join(FOLDER, `${name}.xml`);
  const args = [
    "-q",
    "-p",
    "no:cacheprovider",
    `--timeout=${TEST_SECONDS}`,
    `--junitxml=${report}`,
    "--rootdir",
    TESTS,
  ];
  const start = Date.now();
  spawnSync(PYTHON, ["-m", "pytest", ...args, ...SUITES[name]], {
    cwd: FOLDER,
    stdio: ["ignore", "inherit", "inherit"],
    env: {
      ...process.env,
      PYTHONPATH: [TESTS, join(ROOT, "tests", "e2e")].join(delimiter),
      DASK_TS_ECOSYSTEM_SCHEDULER: values.scheduler,
      DASK_TS_ECOSYSTEM_WORKER: values.worker,
    },
  });
  const seconds = Math.round((Date.now() - start) / 1000);
  return { name, ...count(existsSync(report) ? readFileSync(report, "utf8") : ""), seconds };
}

install();
const results = (positionals.length > 0 ? positionals : Object.keys(SUITES)).map(test);
console.log(`\nscheduler: ${values.scheduler}, workers: ${values.worker}\n`);
console.log("| suite | passed | failed | skipped | seconds |");
console.log("| --- | --- | --- | --- | --- |");
for (const { name, passed, failed, skipped, seconds } of results) {
  console.log(`| ${name} | ${passed} | ${failed} | ${skipped} | ${seconds} |`);
}
process.exitCode = results.some(({ passed, failed }) => failed > 0 || passed === 0) ? 1 : 0;
