/** A worker whose container has less memory than its results: it spills before the kernel would kill it. */
import { Network, type StartedNetwork, type StartedTestContainer } from "testcontainers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { idle, inspect, pythonJson, scheduler, until, worker } from "./containers.ts";

/** Of the container, in MiB; Node, the executor and its libraries take a third. */
const LIMIT = 700;

let network: StartedNetwork;
let containers: StartedTestContainer[];
beforeAll(async () => {
  network = await new Network().start();
  const hub = scheduler(network).start();
  const one = worker(network, ["--nthreads", "1"]).withMemory(LIMIT).withRestart().start();
  containers = await Promise.all([idle(network), hub, one]);
});
afterAll(async () => {
  await Promise.all(containers.map((container) => container.stop({ timeout: 1000 })));
  await network.stop();
});

const CONNECT = `
import json
from distributed import Client, wait
client = Client("scheduler:8786", timeout=30)
client.wait_for_workers(1, timeout=60)
def block(i):
    import numpy
    return numpy.random.default_rng(i).integers(0, 255, 20_000_000, dtype="u1")
`;

test("more results than memory are spilled to disk; all are there in the end", async () => {
  const [client, , one] = containers;
  const script = `${CONNECT}
futures = client.map(block, range(40), pure=False)
wait(futures, timeout=120)
(spilled,) = client.run(lambda dask_worker: len(dask_worker.data.slow)).values()
(info,) = client.scheduler_info(n_workers=-1)["workers"].values()
sizes = client.gather(client.map(len, futures))
print(json.dumps([len(sizes), set(sizes) == {20_000_000}, spilled > 10, info["memory_limit"] <= ${LIMIT} * 2**20]))`;
  expect(await pythonJson(client!, script)).toEqual([40, true, true, true]);
  expect((await inspect(one!)).RestartCount).toBe(0);
});

test("a task that takes all memory ends its executor, not the container; it is named", async () => {
  const [client, , one] = containers;
  const script = `${CONNECT}
def greedy():
    held = []
    while True:
        held.append(bytearray(b"x" * 20_000_000))
try:
    client.submit(greedy, key="greedy-task").result(timeout=120)
except Exception as error:
    print(json.dumps([type(error).__name__, "greedy-task" in str(error)]))`;
  expect(await pythonJson(client!, script)).toEqual(["KilledWorker", true]);
  const state = await until(
    async () => (await inspect(one!)).State,
    ({ Running }) => Running,
  );
  expect(state.OOMKilled).toBe(false);
  expect(
    await pythonJson(client!, `${CONNECT}\nprint(json.dumps(len(client.submit(block, 1).result(timeout=60))))`),
  ).toBe(20_000_000);
});
