/** Our worker with a stock scheduler, a stock client and a stock worker. */
import { connect as connectSocket } from "node:net";
import { join } from "node:path";
import { parseHostPort, parseAddress } from "@dask-ts/protocol";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Nanny } from "../../src/nanny/nanny.ts";
import type { WorkerOptions } from "../../src/server/options.ts";
import { pythonStarter } from "../../src/server/python-starter.ts";
import { Worker } from "../../src/server/worker.ts";
import { PYTHON, StockCluster } from "./support/stock-cluster.ts";
import { differences, readFamilies, stockFamilies } from "../../../protocol/test/support/metric-families.ts";
import { until } from "./support/until.ts";

let cluster: StockCluster;
let ours: Worker;
let stock: string;

function options(name: string): WorkerOptions {
  return {
    scheduler: cluster.address,
    // What tasks print is none of this test's business.
    startExecutor: pythonStarter({ python: PYTHON, onLine: () => undefined }),
    name,
    nthreads: 2,
    memoryLimit: 2e9,
    localDirectory: cluster.scratch,
  };
}

beforeAll(async () => {
  cluster = await StockCluster.start();
  [stock, ours] = await Promise.all([cluster.startWorker("stock"), Worker.start(options("ours"))]);
});

afterAll(async () => {
  await ours?.close({ reason: "test" });
  await cluster?.stop();
});

test("the scheduler knows the worker as a stock one", async () => {
  const info = await cluster.client<Record<string, unknown>>(
    `
emit({**c.scheduler_info()["workers"][args[0]], "versions": list(c.get_versions(check=True)["workers"][args[0]])})
`,
    [ours.address],
  );
  expect(info).toMatchObject({
    type: "Worker",
    name: "ours",
    nthreads: 2,
    memory_limit: 2e9,
    status: "running",
    nanny: null,
  });
  expect(info["versions"]).toEqual(["host", "packages"]);
});

test("submit, map, gather, scatter, run, keys that are tuples", async () => {
  const results = await cluster.client(
    `
o = dict(workers=[args[0]])
x = c.submit(lambda a: a + 1, 1, key=("x", 0), **o)
[s] = c.scatter([41], workers=[args[0]])
emit([x.result(), sum(c.gather(c.map(lambda i: 2 * i, range(100), **o))), c.submit(lambda a: a + 1, s, **o).result(),
      c.run(lambda dask_worker: dask_worker.address, workers=[args[0]]), c.has_what()[args[0]] != ()])
`,
    [ours.address],
  );
  expect(results).toEqual([2, 9900, 42, { [ours.address]: ours.address }, true]);
});

test("large values travel both ways between our worker and a stock one", async () => {
  const results = await cluster.client(
    `
import numpy as np
out = []
for a, b in [args, args[::-1]]:
    x = c.submit(np.full, 4_000_000, 2.0, workers=[a], pure=False)
    out.append(float(c.submit(np.sum, x, workers=[b], pure=False).result()))
emit(out)
`,
    [ours.address, stock],
  );
  expect(results).toEqual([8e6, 8e6]);
  expect(ours.transfers.outgoingCountTotal).toBeGreaterThan(0);
  expect(ours.transfers.outgoingCount).toBe(0);
});

test("a task's error reaches the client with its traceback", async () => {
  const results = await cluster.client<[string, string, boolean]>(
    `
import traceback
def fails(x):
    return 1 / x
f = c.submit(fails, 0, workers=[args[0]])
try:
    f.result()
except ZeroDivisionError as e:
    emit([type(e).__name__, str(e), "in fails" in traceback.format_exc()])
`,
    [ours.address],
  );
  expect(results).toEqual(["ZeroDivisionError", "division by zero", true]);
});

test("a cancelled task leaves room for the next", async () => {
  const result = await cluster.client(
    `
slow = [c.submit(time.sleep, 0.5, workers=[args[0]], pure=False) for _ in range(8)]
time.sleep(0.1)
c.cancel(slow)
emit(c.submit(lambda: 9, workers=[args[0]]).result(timeout=200))
`,
    [ours.address],
  );
  expect(result).toBe(9);
});

test("get_client, actors and async tasks", async () => {
  const results = await cluster.client(
    `
from distributed import get_client
class Counter:
    n = 0
    def add(self):
        self.n += 1
        return self.n
async def later(x):
    import asyncio
    await asyncio.sleep(0.01)
    return x
o = dict(workers=[args[0]])
counter = c.submit(Counter, actor=True, **o).result()
emit([c.submit(lambda: get_client().submit(lambda: 5).result(), **o).result(timeout=200),
      counter.add().result(), counter.add().result(), counter.n, c.submit(later, 7, **o).result()])
`,
    [ours.address],
  );
  expect(results).toEqual([5, 1, 2, 2, 7]);
});

test("a p2p rechunk over both workers", async () => {
  const sum = await cluster.client(`
import dask, dask.array as da
with dask.config.set({"optimization.fuse.active": False}):
    x = da.ones((400, 400), chunks=(100, 400)).rechunk((400, 100), method="p2p")
    emit(float(x.sum().compute()))
`);
  expect(sum).toBe(160_000);
});

test("logs, call stacks, profile, story and monitor answer", async () => {
  const results = await cluster.client<unknown[]>(
    `
w = args[0]
def hold(path):
    while not os.path.exists(path):
        time.sleep(0.01)
f = c.submit(hold, args[1], workers=[w], pure=False)
while not c.processing().get(w):
    time.sleep(0.01)
stacks = None
while not stacks:
    stacks = c.call_stack()
open(args[1], "w").close()
logs = c.get_worker_logs(workers=[w])[w]
async def ask():
    r = c.scheduler.proxy
    return [len(await r(msg={"op": "get_story", "keys_or_stimuli": [f.key]}, worker=w)) > 0,
            sorted(await r(msg={"op": "get_monitor_info"}, worker=w)), (await r(msg={"op": "identity"}, worker=w))["type"],
            await r(msg={"op": "ping"}, worker=w) == b"pong", len(await r(msg={"op": "dump_state"}, worker=w)) > 5]
emit([list(stacks), any("Start worker at" in line for _, line in logs), sorted(c.profile(workers=[w]))] + c.sync(ask))
`,
    [ours.address, join(cluster.scratch, "release")],
  );
  expect(results).toEqual([
    [ours.address],
    true,
    ["children", "count", "description", "identifier"],
    true,
    ["count", "last_time", "range_query"],
    "Worker",
    true,
    true,
  ]);
});

test("replicate and rebalance use the worker's gather and free_keys", async () => {
  const results = await cluster.client<boolean[]>(
    `
fs = c.map(lambda i: i, range(10), workers=[args[1]])
wait(fs)
c.replicate(fs, n=2)
both = all(len(who) == 2 for who in c.who_has(fs).values())
c.replicate(fs, n=1)
emit([both, all(len(who) == 1 for who in c.who_has(fs).values()), c.gather(fs) == list(range(10))])
`,
    [ours.address, stock],
  );
  expect(results).toEqual([true, true, true]);
});

test("HTTP: health, pages, sitemap", async () => {
  const url = `http://127.0.0.1:${ours.dashboardPort}`;
  const health = await fetch(`${url}/health`);
  expect(health.headers.get("content-type")).toBe("text/plain; charset=utf-8");
  expect(await health.text()).toBe("ok");
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
  const { paths } = (await (await fetch(`${url}/sitemap.json`)).json()) as { paths: string[] };
  for (const path of ["/health", "/sitemap.json", "/statics/css/base.css", "/status"]) expect(paths).toContain(path);
  for (const path of ["status", "system", "counters", "profile", "profile-server", "info/logs.html"]) {
    const page = await fetch(`${url}/${path}`);
    expect([path, page.status]).toEqual([path, 200]);
    expect(await page.text()).not.toMatch(/(?:href|src)="[/]/);
  }
  expect((await fetch(`${url}/nothing`)).status).toBe(404);
});

test("/metrics has every family of stock", async () => {
  await cluster.client(
    `
fs = [c.submit(pow, 2, n, workers=args) for n in range(2)]
bad = c.submit(lambda: 1 / 0, workers=args)
wait([*fs, bad])
c.gather(fs)
# so that they outlive the client
c.publish_dataset(fs=fs, bad=bad)
c.run(lambda dask_worker: dask_worker.data.evict(), workers=args)
emit(None)
`,
    [ours.address],
  );
  let found: string[] = ["nothing yet"];
  // The executor's figures come twice a second.
  const scrape = async (): Promise<void> => {
    const text = await (await fetch(`http://127.0.0.1:${ours.dashboardPort}/metrics`)).text();
    found = differences(readFamilies(text), stockFamilies("worker"));
  };
  const polling = setInterval(() => void scrape(), 50);
  await until(`every family is there: ${found.join("; ")}`, () => found.length === 0).catch(() => undefined);
  clearInterval(polling);
  expect(found).toEqual([]);
});

test("bytes that are no message disturb nobody", async () => {
  const { host, port } = parseHostPort(parseAddress(ours.address).loc);
  for (const bytes of [Buffer.from("GET / HTTP/1.1\r\n\r\n"), Buffer.alloc(64, 0xff), Buffer.alloc(9)]) {
    await new Promise<void>((done) => {
      const socket = connectSocket(port, host, () => socket.end(bytes));
      socket.on("error", () => undefined);
      socket.on("close", () => done());
      socket.resume();
    });
  }
  expect(
    await cluster.client(`emit(c.submit(lambda: 3, workers=[args[0]], pure=False).result(timeout=200))`, [
      ours.address,
    ]),
  ).toBe(3);
});

describe("under a nanny", () => {
  let nanny: Nanny;
  beforeAll(async () => {
    nanny = await Nanny.start(options("guarded"));
  });
  afterAll(async () => {
    await nanny?.close({ reason: "test" });
  });

  test("a task that kills its executor is given up; others and the worker live on", async () => {
    const results = await cluster.client<unknown[]>(
      `
import signal
from distributed.scheduler import KilledWorker
def dies():
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)
safe = c.submit(lambda: 5, workers=[args[1]], pure=False)
wait(safe)
f = c.submit(dies, workers=[args[0]])
try:
    f.result(timeout=200)
except KilledWorker as e:
    killed = e.task.startswith("dies")
emit([killed, safe.result(), c.submit(lambda: 6, workers=[args[0]], pure=False).result(timeout=200)])
`,
      [nanny.worker?.address ?? "", stock],
    );
    expect(results).toEqual([true, 5, 6]);
    expect(nanny.worker?.logs.lines().filter((line) => line.includes("was killed by signal SIGSEGV")).length).toBe(4);
  });

  test("restart_workers brings a new worker under the same name", async () => {
    const before = nanny.worker?.address ?? "";
    const reply = await cluster.client<Record<string, string>>(
      `
r = c.restart_workers([args[0]], timeout=120)
emit({**r, "value": str(c.submit(lambda: 8, workers=["guarded"], pure=False).result(timeout=200))})
`,
      [before],
    );
    expect(reply).toEqual({ [before]: "OK", value: "8" });
    expect(nanny.worker?.address).not.toBe(before);
  });

  test("a retired worker hands its data over and ends with its nanny", async () => {
    await until("it is back", () => nanny.worker?.status === "running");
    const results = await cluster.client<unknown[]>(
      `
fs = c.map(lambda i: i, range(5), workers=["guarded"], allow_other_workers=False)
wait(fs)
retired = c.retire_workers(names=["guarded"], close_workers=True)
emit([list(retired) == [args[0]], c.gather(fs)])
`,
      [nanny.worker?.address ?? ""],
    );
    expect(results).toEqual([true, [0, 1, 2, 3, 4]]);
    expect((await nanny.finished).exitCode).toBe(0);
  });
});
