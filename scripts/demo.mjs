#!/usr/bin/env node
// The main job on real data: a cluster of ours, a stock client, three analyses. See demo/run.py.
import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..");
const PYTHON = join(ROOT, ".venv", "bin", "python");
const START_TIMEOUT_MS = 60_000;

/** The first free port from 8786 on. */
async function freePort(port) {
  const free = await new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
  if (free) return port;
  console.log(`demo: port ${port} is taken, trying ${port + 1}`);
  return freePort(port + 1);
}

/** Starts the cluster; resolves with its address once scheduler and both workers are there. */
function startCluster(port) {
  const args = ["cluster", "--port", String(port), "--nworkers", "2", "--nthreads", "1", "--host", "127.0.0.1"];
  const cluster = spawn(
    join(ROOT, "bin", "dask-ts"),
    [...args, "--python", PYTHON, "--dashboard-address", "127.0.0.1:0"],
    {
      stdio: ["ignore", "pipe", "pipe"],
      // The tasks are functions of the demo's modules; the environment passes through to the executors.
      env: { ...process.env, PYTHONPATH: [join(ROOT, "demo"), process.env.PYTHONPATH].filter(Boolean).join(delimiter) },
    },
  );
  const lines = [];
  const address = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the cluster did not start in time")), START_TIMEOUT_MS);
    let found;
    let registered = 0;
    const onLine = (line) => {
      lines.push(line);
      found ??= /Scheduler at:\s*(\S+:\d+)/.exec(line)?.[1];
      if (line.includes("Registered to:")) registered++;
      if (found !== undefined && registered === 2) {
        clearTimeout(timer);
        resolve(found);
      }
    };
    createInterface({ input: cluster.stdout }).on("line", onLine);
    createInterface({ input: cluster.stderr }).on("line", onLine);
    cluster.once("exit", (code) => {
      clearTimeout(timer);
      reject(new Error(`the cluster ended with code ${code}`));
    });
  });
  return { cluster, address, lines };
}

const port = await freePort(8786);
console.log(`demo: starting a scheduler on port ${port} and two workers`);
const { cluster, address, lines } = startCluster(port);
let code = 1;
try {
  // The client starts beside the cluster, and imports what it needs while that comes up.
  const client = spawn(PYTHON, [join(ROOT, "demo", "run.py"), `tcp://127.0.0.1:${port}`], {
    cwd: ROOT,
    stdio: "inherit",
  });
  const ended = new Promise((resolve) => client.once("exit", (status) => resolve(status ?? 1)));
  try {
    console.log(`demo: cluster at ${await address}`);
    code = await ended;
  } finally {
    client.kill();
  }
} catch (error) {
  console.error(`demo: ${error.message}`);
}
if (code !== 0) console.error(`demo: failed. The last lines of the cluster's log:\n${lines.slice(-40).join("\n")}`);
const ended = new Promise((resolve) => cluster.once("exit", resolve));
if (cluster.exitCode === null) {
  cluster.kill("SIGTERM");
  const timer = setTimeout(() => cluster.kill("SIGKILL"), 10_000);
  await ended;
  clearTimeout(timer);
}
process.exitCode = code;
