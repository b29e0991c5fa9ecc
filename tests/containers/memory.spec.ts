/** A worker in a container with limits: it has as many threads, and spills before the kernel would kill it. */
import { Network, type StartedNetwork, type StartedTestContainer } from "testcontainers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { idle, inspect, pythonJson, scheduler, worker } from "./containers.ts";

/** Of the container, in MiB; Node, the executor and its libraries take a third. */
const LIMIT = 700;

let network: StartedNetwork;
let containers: StartedTestContainer[];
beforeAll(async () => {
  network = await new Network().start();
  const hub = scheduler(network).start();
  const one = worker(network).withProcessors(1).withMemory(LIMIT).withRestart().start();
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
limits = [info["memory_limit"] <= ${LIMIT} * 2**20, info["nthreads"]]
print(json.dumps([len(sizes), set(sizes) == {20_000_000}, spilled > 10, *limits]))`;
  expect(await pythonJson(client!, script)).toEqual([40, true, true, true, 1]);
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
  // The kernel may be faster than the worker, and ends the executor as well: the largest process.
  const { RestartCount, State } = await inspect(one!);
  expect([RestartCount, State.Running]).toEqual([0, true]);
  expect(
    await pythonJson(client!, `${CONNECT}\nprint(json.dumps(len(client.submit(block, 1).result(timeout=60))))`),
  ).toBe(20_000_000);
});
