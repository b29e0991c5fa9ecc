#!/usr/bin/env node
// Makes this checkout ready to run: pnpm, the packages, a Python environment, the build. Needs only Node, npm and
// Python >= 3.10. Each step leaves a stamp, so that the second time costs a moment.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const TOOLS = join(ROOT, ".tools");
const VENV = join(ROOT, ".venv");
const PNPM_VERSION = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).packageManager.split("@")[1];
const UV_VERSION = "0.13.9";
const MIN_NODE = [20, 19];
const MIN_PYTHON = [3, 10];

/** Says what is being done, and how long it took. */
function step(what, work) {
  process.stderr.write(`setup: ${what} …`);
  const start = Date.now();
  work();
  process.stderr.write(` ${((Date.now() - start) / 1000).toFixed(1)} s\n`);
}

function fail(text) {
  process.stderr.write(`\nsetup: ${text}\n`);
  process.exit(1);
}

/** Runs a command quietly; shows all that it printed where it fails. */
function run(command, args, options = {}) {
  const result = spawnSync(command, args, { cwd: ROOT, encoding: "utf8", maxBuffer: 2 ** 28, ...options });
  if (result.status !== 0) {
    process.stderr.write(`\n${result.stdout ?? ""}${result.stderr ?? ""}\n`);
    fail(`\`${command} ${args.join(" ")}\` failed${result.error ? `: ${result.error.message}` : ""}`);
  }
  return result.stdout;
}

/** True where `name` was last made from the same inputs; `done()` records that it is now. */
function stamp(name, ...inputs) {
  const hash = createHash("sha256");
  for (const input of inputs) hash.update(input);
  const digest = hash.digest("hex");
  const file = join(TOOLS, `${name}.stamp`);
  return {
    fresh: existsSync(file) && readFileSync(file, "utf8") === digest,
    done: () => writeFileSync(file, digest),
  };
}

const text = (file) => readFileSync(join(ROOT, file));

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major < MIN_NODE[0] || (major === MIN_NODE[0] && minor < MIN_NODE[1])) {
    fail(`Node ${process.versions.node} is too old: install Node ${MIN_NODE.join(".")} or newer`);
  }
}

/** The newest-enough Python on PATH. */
function findPython() {
  const names = [process.env.PYTHON, "python3", "python", "python3.13", "python3.12", "python3.11", "python3.10"];
  for (const name of names.filter(Boolean)) {
    const found = spawnSync(name, ["-c", "import sys; print(*sys.version_info[:3]); print(sys.executable)"], {
      encoding: "utf8",
    });
    if (found.status !== 0) continue;
    const [version, executable] = found.stdout.trim().split("\n");
    const [major, minor] = version.split(" ").map(Number);
    if (major > MIN_PYTHON[0] || (major === MIN_PYTHON[0] && minor >= MIN_PYTHON[1])) return { executable, version };
  }
  return fail(
    `no Python ${MIN_PYTHON.join(".")} or newer on PATH: install one, or name it with PYTHON=/path/to/python3`,
  );
}

function installPackages() {
  const pnpm = join(TOOLS, "node_modules", "pnpm", "bin", "pnpm.cjs");
  const lock = stamp(
    "packages",
    text("pnpm-lock.yaml"),
    text("package.json"),
    ...["protocol", "scheduler", "worker", "cli"].map((name) => text(`packages/${name}/package.json`)),
    text("benchmarks/package.json"),
    process.versions.node,
  );
  if (lock.fresh && existsSync(join(ROOT, "node_modules"))) return;
  const has = existsSync(pnpm) && JSON.parse(text(".tools/node_modules/pnpm/package.json")).version === PNPM_VERSION;
  if (!has) {
    step(`fetching pnpm ${PNPM_VERSION}`, () =>
      run("npm", ["install", "--no-audit", "--no-fund", "--no-save", "--prefix", TOOLS, `pnpm@${PNPM_VERSION}`]),
    );
  }
  step("installing the packages that pnpm-lock.yaml names", () =>
    run(process.execPath, [pnpm, "install", "--frozen-lockfile", "--reporter=append-only"], {
      env: { ...process.env, CI: "true" },
    }),
  );
  lock.done();
}

function installPython() {
  const python = findPython();
  const lock = stamp("python", text("requirements/dev.txt"), python.executable, python.version, UV_VERSION);
  const interpreter = join(VENV, "bin", "python");
  if (lock.fresh && existsSync(interpreter)) return;
  const uvVenv = join(TOOLS, "uv");
  const uv = join(uvVenv, "bin", "uv");
  const uvLock = stamp("uv", UV_VERSION, python.executable, python.version);
  if (!uvLock.fresh || !existsSync(uv)) {
    step(`fetching uv ${UV_VERSION}`, () => {
      run(python.executable, ["-m", "venv", "--clear", uvVenv]);
      run(join(uvVenv, "bin", "python"), ["-m", "pip", "install", "--quiet", `uv==${UV_VERSION}`]);
    });
    uvLock.done();
  }
  step(`making the Python environment .venv (Python ${python.version.replaceAll(" ", ".")})`, () => {
    run(uv, ["venv", "--quiet", "--clear", "--python", python.executable, VENV]);
    run(uv, ["pip", "sync", "--quiet", "--python", interpreter, "requirements/dev.txt"]);
  });
  lock.done();
}

function build() {
  const out = spawnSync("git", ["ls-files", "-s", "--", "packages/*/src", "*.json"], { cwd: ROOT, encoding: "utf8" });
  const changed = spawnSync("git", ["status", "--porcelain", "--", "packages", "benchmarks"], {
    cwd: ROOT,
    encoding: "utf8",
  });
  // In a checkout without changes the index tells whether the build is current; otherwise tsc looks for itself.
  const tree = stamp("build", out.stdout ?? "", process.versions.node);
  const built = existsSync(join(ROOT, "packages", "cli", "dist", "main.js"));
  if (out.status === 0 && changed.stdout === "" && tree.fresh && built) return;
  step("compiling TypeScript", () =>
    run(process.execPath, [join(ROOT, "node_modules", "typescript", "bin", "tsc"), "-b"]),
  );
  tree.done();
}

checkNode();
mkdirSync(TOOLS, { recursive: true });
installPackages();
installPython();
build();
