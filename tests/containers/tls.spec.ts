/** TLS from text in variables, as secrets reach containers; on a file system that cannot be written, as any user. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Network, type StartedNetwork, type StartedTestContainer } from "testcontainers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { DaskContainer, exitCode, idle, logs, pythonJson, scheduler, worker } from "./containers.ts";

const repository = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url));

let network: StartedNetwork;
let containers: StartedTestContainer[];
let client: StartedTestContainer;
let pem: Record<string, string>;

function certificates(): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), "dask-ts-tls-"));
  execFileSync(repository(".venv/bin/python"), [repository("packages/protocol/test/support/make_certs.py"), folder]);
  const [ca, peer] = ["ca.pem", "peer.pem"].map((name) => readFileSync(join(folder, name), "utf8"));
  rmSync(folder, { recursive: true });
  // The certificate in base64, as some secret stores want it on one line.
  return { DASK_TS_TLS_CA: ca!, DASK_TS_TLS_CERT: Buffer.from(peer!).toString("base64"), DASK_TS_TLS_KEY: peer! };
}

beforeAll(async () => {
  pem = certificates();
  network = await new Network().start();
  // Another user than the image's, in root's group, as some platforms choose one.
  const hub = scheduler(network).withEnvironment(pem).withReadOnlyRoot().withUser("4242:0").start();
  const one = worker(network, ["--nthreads", "2"]).withEnvironment(pem).withReadOnlyRoot();
  // `tcp://` in the command of a deployer that knows nothing of TLS would be refused; the name alone becomes `tls://`.
  one.withCommand(["dask-worker", "scheduler:8786", "--nthreads", "2"]);
  client = await idle(network);
  containers = [client, ...(await Promise.all([hub, one.start()]))];
});

afterAll(async () => {
  await Promise.all(containers.map((container) => container.stop({ timeout: 1000 })));
  await network.stop();
});

test("a cluster computes over TLS alone", async () => {
  const script = `
import json
from distributed import Client
with Client("scheduler:8786", timeout=30) as client:
    client.wait_for_workers(1, timeout=30)
    info = client.scheduler_info(n_workers=-1)
    print(json.dumps([client.submit(sum, [1, 2]).result(), info["address"][:6], [w[:6] for w in info["workers"]]]))`;
  expect(await pythonJson(client, script, pem)).toEqual([3, "tls://", ["tls://"]]);
});

test("a client without TLS is told so at once", async () => {
  const script = `
import json, time
from distributed import Client
start = time.time()
try:
    Client("tcp://scheduler:8786", timeout=20)
except Exception as error:
    print(json.dumps([isinstance(error, OSError), time.time() - start < 15]))`;
  expect(await pythonJson(client, script)).toEqual([true, true]);
  expect(await logs(containers[1]!)).toMatch(/WARNING - Connection of tls:\S+ refused: .*wrong version number/);
});

test("the texts do not reach the processes of tasks, and the files are readable by their owner alone", async () => {
  const [, hub] = containers;
  const { output } = await hub!.exec([
    "sh",
    "-c",
    "ls -ln /dev/shm/dask-tls.*/; tr '\\0' '\\n' </proc/7/environ | grep -c TLS_CA=",
  ]);
  expect(output).toMatch(/-rw------- 1 4242 /);
  const script = `
import json, os
from distributed import Client
with Client("scheduler:8786") as client:
    print(json.dumps(client.submit(lambda: [k for k in os.environ if k.startswith("DASK_TS_TLS")]).result()))`;
  expect(await pythonJson(client, script, pem)).toEqual([]);
});

test("half of the material is refused with a sentence", async () => {
  const { DASK_TS_TLS_KEY: _, ...half } = pem;
  const alone = await new DaskContainer(["dask-scheduler"]).withEnvironment(half).start();
  expect(await exitCode(alone)).toBe(1);
  expect(await logs(alone)).toContain(
    "DASK_TS_TLS_CA, DASK_TS_TLS_CERT and DASK_TS_TLS_KEY go together; one is missing",
  );
  await alone.stop();
});
