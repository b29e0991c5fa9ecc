#!/usr/bin/env node
// All that the gate checks, in order of cost. The last line counts tests: `N passed, N failed, N skipped`; a failed
// static check counts as one failed test.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const BIN = join(ROOT, "node_modules", ".bin");
const PYTHON = join(ROOT, ".venv", "bin", "python");
/** Packages with tests in TypeScript: each has a tsconfig.json of its own there, which emits nothing. */
const TESTED = ["protocol", "scheduler", "worker", "cli", "deploy"];
/** Tests that belong to no package. */
const TESTED_BESIDE = ["tests/simulation", "tests/containers"];
/** More failures than this are no accident. */
const MOST_TRIED_AGAIN = 5;
const only = process.argv.slice(2);
const reports = mkdtempSync(join(tmpdir(), "dask-ts-check-"));
const total = { passed: 0, failed: 0, skipped: 0 };

/** Runs one check with its output shown; true where it succeeded. */
function run(name, command, args, options = {}) {
  if (only.length > 0 && !only.includes(name)) return undefined;
  const start = Date.now();
  console.log(`check: ${name} …`);
  const result = spawnSync(command, args, { cwd: ROOT, stdio: "inherit", ...options });
  const good = result.status === 0;
  console.log(`check: ${name} ${good ? "ok" : "FAILED"} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  return good;
}

/** Starts a check whose output is shown when it has ended: by what is returned; undefined where it is not to run. */
function beside(name, command, args) {
  if (only.length > 0 && !only.includes(name)) return undefined;
  const start = Date.now();
  const log = join(reports, `${name}.log`);
  const output = openSync(log, "w");
  console.log(`check: ${name}, shown later …`);
  const child = spawn(command, args, { cwd: ROOT, stdio: ["ignore", output, output] });
  const ended = once(child, "close");
  return async () => {
    const [code] = await ended;
    const seconds = ((Date.now() - start) / 1000).toFixed(1);
    process.stdout.write(readReport(log));
    console.log(`check: ${name} ${code === 0 ? "ok" : "FAILED"} (${seconds} s, with what ran beside it)`);
  };
}

function check(name, command, args, options) {
  const good = run(name, command, args, options);
  if (good === false) total.failed++;
  else if (good === true) total.passed++;
}

check("format", join(BIN, "biome"), ["format", "."]);
check("lint", join(BIN, "oxlint"), ["--type-aware", "--deny-warnings"]);
check("types", join(BIN, "tsc"), ["-b"]);
check("test-types", join(BIN, "tsc"), ["-b", ...TESTED.map((name) => `packages/${name}/test`), ...TESTED_BESIDE]);
check("knip", join(BIN, "knip"), []);
check("python-lint", join(ROOT, ".venv", "bin", "ruff"), [
  "check",
  "packages",
  "demo",
  "benchmarks",
  "examples",
  "tests",
]);
check("python-types", join(ROOT, ".venv", "bin", "mypy"), [
  "--config-file",
  "packages/python/pyproject.toml",
  "packages/python/dask_ts",
]);

// Three at a time, a file each: most of what an end-to-end test does is to wait for processes to start.
const IN_PARALLEL = ["-n", "3", "--dist", "loadfile"];
for (const [name, folder, ...more] of [
  ["pytest", "packages/python/tests"],
  ["e2e", "tests/e2e", ...IN_PARALLEL],
  ["chaos", "tests/chaos/test_hostile_tasks.py"],
]) {
  const report = join(reports, `${name}.xml`);
  const cache = `cache_dir=${join(reports, name)}`;
  const args = ["-m", "pytest", "-q", "-o", cache, "--timeout=300", `--junitxml=${report}`, folder];
  if (run(name, PYTHON, [...args, ...more]) === undefined) continue;
  const again = () => run(name, PYTHON, [...args, "--last-failed", "--last-failed-no-failures=none"]);
  countWithSecondTry(name, report, again);
}

const vitestReport = join(reports, "vitest.json");
const vitest = ["run", "--reporter=default", "--reporter=json", `--outputFile.json=${vitestReport}`];
if (run("vitest", join(BIN, "vitest"), vitest) !== undefined) countVitest(readReport(vitestReport));

// Both wait most of their time, for containers and for tasks that start: one beside the other.
const awsReport = join(reports, "aws.xml");
const awsCommand = [join(ROOT, "scripts", "aws.mjs"), "--report", awsReport, "--cache", join(reports, "aws")];
const aws = beside("aws", process.execPath, awsCommand);

const containersReport = join(reports, "containers.json");
const containers = [join(ROOT, "scripts", "containers.mjs"), "--report", containersReport];
if (run("containers", process.execPath, containers) !== undefined) countVitest(readReport(containersReport));

if (aws !== undefined) {
  await aws();
  countWithSecondTry("aws", awsReport, () => run("aws", process.execPath, [...awsCommand, "--again"]));
}

rmSync(reports, { recursive: true, force: true });
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed === 0 ? 0 : 1;

/** Adds the counts of a report of vitest's; a run that wrote none has failed as a whole. */
function countVitest(text) {
  if (text === "") {
    total.failed++;
    return;
  }
  const result = JSON.parse(text);
  total.passed += result.numPassedTests;
  total.failed += result.numFailedTests;
  total.skipped += result.numPendingTests + result.numTodoTests;
  // A file that cannot be loaded, or an error outside any test, has no failed test of its own.
  if (!result.success && result.numFailedTests === 0) total.failed++;
}

/**
 * Adds the counts of a JUnit report. Where a few tests with real processes failed on a machine full of them, these run
 * once more, by themselves: what fails again has failed, what does not is counted as passed, and named.
 */
function countWithSecondTry(name, report, again) {
  let counts = readCounts(report);
  if (counts.failed > 0 && counts.failed <= MOST_TRIED_AGAIN) {
    console.log(`check: ${name}: ${counts.failed} failed, and run once more by themselves`);
    const first = failedTests(report);
    rmSync(report, { force: true });
    again();
    const second = readCounts(report);
    // Every one of them has to have run.
    if (second.passed + second.failed + second.skipped >= counts.failed) {
      counts = {
        passed: counts.passed + second.passed,
        failed: second.failed,
        skipped: counts.skipped + second.skipped,
      };
      const still = failedTests(report);
      for (const test of first)
        if (!still.includes(test)) console.log(`check: ${name}: only at the second try: ${test}`);
    }
  }
  for (const outcome of Object.keys(total)) total[outcome] += counts[outcome];
}

function failedTests(report) {
  const cases = readReport(report).matchAll(/<testcase classname="([^"]*)" name="([^"]*)"[^>]*><(?:failure|error)/g);
  return [...cases].map(([, where, name]) => `${where}::${name}`);
}

/** A run that wrote no report has failed as a whole. */
function readCounts(report) {
  const xml = readReport(report);
  const count = (name) => Number(new RegExp(`<testsuite [^>]*?${name}="(\\d+)"`).exec(xml)?.[1] ?? Number.NaN);
  const [tests, failures, errors, skipped] = ["tests", "failures", "errors", "skipped"].map(count);
  if (Number.isNaN(tests)) return { passed: 0, failed: 1, skipped: 0 };
  const failed = failures + errors;
  return { passed: tests - failed - skipped, failed, skipped };
}

function readReport(file) {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return "";
  }
}
