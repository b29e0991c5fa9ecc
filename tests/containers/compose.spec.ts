/** deploy/compose.yaml, up and down, with an address in quotes as old compose files have it. */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { IMAGE, NOTEBOOK_IMAGE, until } from "./containers.ts";

const FILE = fileURLToPath(new URL("../../deploy/compose.yaml", import.meta.url));
const PROJECT = `dask-ts-test-${process.pid}`;
const [program = "docker", ...words] = (process.env["DASK_TS_COMPOSE"] ?? "docker compose").split(" ");

let down = false;

function compose(...args: readonly string[]): string {
  const { status, stdout, stderr } = spawnSync(program, [...words, "-f", FILE, "-p", PROJECT, ...args], {
    encoding: "utf8",
    env: {
      ...process.env,
      DASK_TS_IMAGE: IMAGE,
      DASK_TS_NOTEBOOK_IMAGE: NOTEBOOK_IMAGE,
      DASK_SCHEDULER_ADDRESS: '"tcp://scheduler:8786"',
      // Any free ports of this machine.
      DASK_PORT: "0",
      DASK_DASHBOARD_PORT: "0",
      JUPYTER_PORT: "0",
    },
  });
  if (status !== 0) throw new Error(`compose ${args.join(" ")} ended with ${status}\n${stdout}\n${stderr}`);
  return stdout;
}

/** The notebook's image is built while other tests run; this file appears with what went wrong, or nothing. */
async function built(file: string | undefined): Promise<void> {
  if (file === undefined) return;
  await until(
    () => Promise.resolve(existsSync(file)),
    (there) => there,
    170,
  );
  const problem = readFileSync(file, "utf8");
  if (problem !== "") throw new Error(problem);
}

beforeAll(async () => {
  await built(process.env["DASK_TS_NOTEBOOK_BUILT"]);
  compose("up", "-d", "--no-build", "--scale", "worker=2");
  notebook = compose("ps", "-q", "notebook").trim();
});
afterAll(() => {
  if (!down) compose("down", "--volumes", "--timeout", "20");
});

/** The notebook's container; Docker itself runs commands in it, which is faster than by way of compose. */
let notebook = "";

function inNotebook(script: string): string {
  const { status, stdout, stderr } = spawnSync("docker", ["exec", notebook, "python", "-c", script], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`ended with ${status}\n${stdout}\n${stderr}`);
  return stdout.trim();
}

test("Client() in the notebook finds the scheduler; two workers compute on shared files", () => {
  const script = `
import os
from distributed import Client
client = Client()
client.wait_for_workers(2, timeout=60)
workers = list(client.scheduler_info(n_workers=-1)["workers"])
def write():
    open("/data/seen", "w").write("by all")
client.submit(write, workers=workers[:1]).result()
read = lambda: open("/data/seen").read()
print(client.submit(read, workers=workers[1:]).result(), open("/data/seen").read(), client.dashboard_link)
client.close()
`;
  expect(inNotebook(script)).toBe("by all by all /proxy/scheduler:8787/status");
});

test("Jupyter tells its token in the log, has the extension, and leads to the dashboard", async () => {
  const log = await until(
    () => Promise.resolve(compose("logs", "--no-color", "notebook")),
    (text) => /http:\/\/\S+:8888\/lab\?token=\w+/.test(text),
  );
  const token = /token=(\w+)/.exec(log)?.[1] ?? "";
  const get = (path: string): string =>
    inNotebook(`
import urllib.request
reply = urllib.request.urlopen("http://127.0.0.1:8888/${path}?token=${token}")
print(reply.status, reply.read())`);
  // What the page loads beside JupyterLab itself.
  expect(get("lab")).toMatch(/^200 .*"federated_extensions": \[.*"name": "dask-labextension"/);
  expect(get("proxy/scheduler:8787/health")).toBe("200 b'ok'");
  // What the extension asks before it shows the dashboard's plots, by way of Jupyter or at an address of the network's.
  const pages = inNotebook(`
import json, urllib.request
def get(path):
    return urllib.request.urlopen(f"http://127.0.0.1:8888/proxy/scheduler:8787{path}?token=${token}").read().decode()
plots = json.loads(get("/individual-plots.json"))
assert plots["Individual Progress"] == "/individual-progress", plots
print({"<title>Dask: " in get(path) for path in plots.values()})`);
  expect(pages).toBe("{True}");
  expect(get(`dask/dashboard-check/${encodeURIComponent("http://scheduler:8787")}`)).toMatch(/"isActive": true/);
  expect(() => get("proxy/worker:8787/health")).toThrow(/HTTP Error 403/);
});

test("down ends workers in their grace time, and leaves nothing", () => {
  const start = performance.now();
  const args = ["--filter", `label=com.docker.compose.project=${PROJECT}`, "--quiet"];
  const left = (kind: string, ...more: readonly string[]): string =>
    spawnSync("docker", [kind, "ls", ...more, ...args], { encoding: "utf8" }).stdout.trim();
  expect(left("container", "--all").split("\n").length).toBe(4);
  // No time of its own: the file's counts.
  compose("down", "--volumes");
  down = true;
  expect((performance.now() - start) / 1000).toBeLessThan(45);
  expect([left("container", "--all"), left("network"), left("volume")]).toEqual(["", "", ""]);
});
