/** deploy/compose.yaml, up and down, with an address in quotes as old compose files have it. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { IMAGE, NOTEBOOK_IMAGE, until } from "./containers.ts";

const FILE = fileURLToPath(new URL("../../deploy/compose.yaml", import.meta.url));
const PROJECT = `dask-ts-test-${process.pid}`;
const [program = "docker", ...words] = (process.env["DASK_TS_COMPOSE"] ?? "docker compose").split(" ");

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

beforeAll(() => {
  compose("up", "-d", "--no-build", "--scale", "worker=2");
});
afterAll(() => {
  compose("down", "--volumes", "--timeout", "20");
});

const inNotebook = (script: string): string => compose("exec", "-T", "notebook", "python", "-c", script).trim();

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
print(reply.status, reply.read(300))`);
  expect(get("lab")).toMatch(/^200 /);
  expect(get("proxy/scheduler:8787/health")).toBe("200 b'ok'");
  // What the extension asks before it shows the dashboard's plots.
  expect(get(`dask/dashboard-check/${encodeURIComponent("http://scheduler:8787")}`)).toMatch(/"isActive": true/);
  expect(() => get("proxy/worker:8787/health")).toThrow(/HTTP Error 403/);
});
