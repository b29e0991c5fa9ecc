#!/usr/bin/env node
// HEALTHCHECK of the image: asks the server that the container runs, as its command line (that of process 1) says.
//   scheduler         GET /health on the dashboard's port
//   worker            the same where --dashboard-address names a port; otherwise its process must be there
//   jupyter           GET /api
//   anything else     healthy
// Exit code 0 or 1, with one line that says why.
import { readdirSync, readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";

const TIMEOUT_MS = 4000;

/** What to ask for, from the arguments of a container's first process. */
export function target(argv) {
  const option = (name) => {
    const at = argv.findLastIndex((word) => word === name || word.startsWith(`${name}=`));
    if (at < 0) return undefined;
    return argv[at].includes("=") ? argv[at].slice(argv[at].indexOf("=") + 1) : argv[at + 1];
  };
  const spec =
    argv.includes("--spec") || argv.some((word) => word.startsWith("--spec=")) ? option("--spec") : undefined;
  const names = argv.map((word) => word.slice(word.lastIndexOf("/") + 1));
  const has = (role) =>
    names.some((word) => [`dask-${role}`, `distributed.cli.dask_${role}`].includes(word)) ||
    names.some((word, i) => ["dask", "dask-ts"].includes(word) && names[i + 1] === role);
  if (has("scheduler") || spec?.includes("Scheduler")) {
    const address = option("--dashboard-address") ?? option("--bokeh-port") ?? specField(spec, "dashboard_address");
    return { port: port(address) ?? 8787, path: `${prefix(option("--dashboard-prefix"))}/health` };
  }
  if (has("worker") || spec !== undefined) {
    const given = port(option("--dashboard-address") ?? option("--bokeh-port") ?? specField(spec, "dashboard_address"));
    const several = ![undefined, "1"].includes(option("--nworkers") ?? option("--nprocs"));
    return given === undefined || given === 0 || several ? { process: "node" } : { port: given, path: "/health" };
  }
  if (names.some((word) => word.startsWith("jupyter"))) return { port: port(option("--port")) ?? 8888, path: "/api" };
  return {};
}

function specField(spec, name) {
  return spec === undefined ? undefined : new RegExp(`"${name}"\\s*:\\s*"?([^",}]+)`).exec(spec)?.[1]?.trim();
}

/** Of `8787`, `:8787`, `host:8787`; the first of several. */
function port(address) {
  const digits = /(?:^|:)(\d+)$/.exec(address?.split(",")[0] ?? "")?.[1];
  return digits === undefined ? undefined : Number(digits);
}

function prefix(text) {
  const bare = (text ?? "").replace(/^\/+|\/+$/g, "");
  return bare === "" ? "" : `/${bare}`;
}

/** A dashboard with a certificate answers HTTPS only. */
function get(client, { port, path }) {
  return new Promise((resolve, reject) => {
    const options = { host: "127.0.0.1", port, path, timeout: TIMEOUT_MS, rejectUnauthorized: false };
    const request = client.get(options, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.on("timeout", () => {
      request.destroy(Object.assign(new Error(`no answer in ${TIMEOUT_MS} ms`), { code: "ETIMEDOUT" }));
    });
    request.on("error", reject);
  });
}

function runs(name) {
  return readdirSync("/proc").some((pid) => {
    try {
      if (!/^\d+$/.test(pid) || Number(pid) === process.pid) return false;
      const [, command, state] = /\((.*)\) (\S)/s.exec(readFileSync(`/proc/${pid}/stat`, "utf8"));
      // Node may name its main thread.
      const named = command === name || readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")[0].endsWith(name);
      return named && state !== "Z" && state !== "T";
    } catch {
      return false;
    }
  });
}

async function check() {
  const wanted = target(readFileSync("/proc/1/cmdline", "utf8").split("\0").slice(0, -1));
  if (wanted.process !== undefined) {
    return runs(wanted.process)
      ? "the worker's process runs"
      : Promise.reject(new Error("the worker's process is gone"));
  }
  if (wanted.port === undefined) return "nothing to ask";
  // What does not answer in time has none left for a second question: Docker waits for five seconds.
  const status = await get(http, wanted).catch((error) => {
    if (error.code === "ETIMEDOUT") throw error;
    return get(https, wanted);
  });
  if (status === 200) return `${wanted.path} on ${wanted.port}: 200`;
  throw new Error(`${wanted.path} on ${wanted.port}: ${status}`);
}

if (process.argv[2] === "--print") {
  console.log(JSON.stringify(target(process.argv.slice(3))));
} else {
  try {
    console.log(await check());
  } catch (error) {
    console.log(error.message);
    process.exitCode = 1;
  }
}
