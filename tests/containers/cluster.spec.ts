/** A cluster of containers as deployers make it, and what happens to it: deaths, replacements, orderly ends. */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Network, type StartedNetwork, type StartedTestContainer } from "testcontainers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { idle, inspect, kill, logs, python, pythonJson, scheduler, terminate, until, worker } from "./containers.ts";

let network: StartedNetwork;
let hub: StartedTestContainer;
let workers: StartedTestContainer[];
let client: StartedTestContainer;
const running = new Set<StartedTestContainer>();

/** Remembers it for the end. */
async function up(container: Promise<StartedTestContainer>): Promise<StartedTestContainer> {
  const started = await container;
  running.add(started);
  return started;
}

const CONNECT = `
import json
from distributed import Client
client = Client("tcp://scheduler:8786", timeout=30)
`;

beforeAll(async () => {
  network = await new Network().start();
  client = await up(idle(network));
  // Workers come first: no name `scheduler` exists yet (P6). They are a service's: started again when they end.
  const waiting = [0, 1, 2].map((name) =>
    up(
      worker(network, ["--name", `${name}`, "--nthreads", "1", "--memory-limit", "1GB", "--death-timeout", "60"])
        .withRestart()
        .start(),
    ),
  );
  hub = await up(
    scheduler(network, ["--idle-timeout", "5 minutes"])
      // The hard limit is what counts: deployers raise that one.
      .withUlimits({ nofile: { soft: 1024, hard: 20_000 } })
      .start(),
  );
  workers = await Promise.all(waiting);
});

afterAll(async () => {
  await Promise.all([...running].map((container) => container.stop({ timeout: 1000 })));
  await network.stop();
});

test("the scheduler listens before deployers give up, which is after 30 seconds", async () => {
  const [, day, time] = /^(\S+) (\S+) - .*Scheduler at:/m.exec(await logs(hub)) ?? [];
  const listening = Date.parse(`${day}T${time?.replace(",", ".")}Z`);
  const { StartedAt } = (await inspect(hub)).State;
  expect(listening - Date.parse(StartedAt)).toBeLessThan(30_000);
});

test("a stock client computes; names are the integers that deployers retire by", async () => {
  const script = `${CONNECT}
client.wait_for_workers(3, timeout=60)
import dask.array as da, dask.dataframe as dd, pandas as pd, dask.bag as db
total = int(da.ones((2000, 2000), chunks=500).sum().compute())
frame = dd.from_pandas(pd.DataFrame({"k": [i % 3 for i in range(300)], "v": range(300)}), npartitions=6)
means = frame.groupby("k").v.mean().compute().sort_index().tolist()
info = client.scheduler_info(n_workers=-1)
client.get_versions(check=True)
print(json.dumps({
    "total": total,
    "means": means,
    "squares": sum(client.gather(client.map(lambda x: x * x, range(200)))),
    "names": sorted(w["name"] for w in info["workers"].values()),
    "limits": sorted({w["memory_limit"] for w in info["workers"].values()}),
    "dashboard": client.dashboard_link,
    "link": info["services"],
}))`;
  expect(await pythonJson(client, script)).toEqual({
    total: 4_000_000,
    means: [148.5, 149.5, 150.5],
    squares: 2_646_700,
    names: [0, 1, 2],
    limits: [1_000_000_000],
    dashboard: "http://scheduler:8787/status",
    link: { dashboard: 8787 },
  });
});

test("a client on the other side of a NAT keeps to the address that it knows", () => {
  // The scheduler's own idea of its address is that of the container's network.
  const address = `tcp://${hub.getHost()}:${hub.getMappedPort(8786)}`;
  const script = `
from distributed import Client
with Client("${address}", timeout=30) as client:
    print(client.scheduler.address, client.gather(client.map(abs, [-1, -2])))`;
  const interpreter = fileURLToPath(new URL("../../.venv/bin/python", import.meta.url));
  const output = execFileSync(interpreter, ["-W", "ignore", "-c", script], { encoding: "utf8" });
  expect(output.trim()).toBe(`${address} [1, 2]`);
});

/** The process that the init has started. */
async function first(): Promise<string> {
  const { output } = await hub.exec(["cat", "/proc/1/task/1/children"]);
  return output.trim().split(" ")[0] ?? "";
}

test("processes are not root's, an init is the first, and limits of open files are used", async () => {
  const { output } = await hub.exec(["sh", "-c", "id -u; tr '\\0' ' ' </proc/1/cmdline; cat /proc/1/comm"]);
  expect(output).toMatch(/^1000\ntini -- \/usr\/bin\/prepare.sh dask-scheduler --idle-timeout 5 minutes tini\n$/);
  // The entrypoint became its arguments, and these became Node: nothing lies between the init and the scheduler.
  const child = await hub.exec(["sh", "-c", `tr '\\0' ' ' </proc/${await first()}/cmdline`]);
  expect(child.output).toMatch(/^node .*\/dask-ts scheduler --idle-timeout/);
  const { output: files } = await hub.exec(["sh", "-c", "grep 'open files' /proc/[0-9]*/limits"]);
  expect(files).toMatch(/Max open files +20000 +20000 /);
});

test("processes whose parents are gone do not stay as zombies", async () => {
  const { output } = await hub.exec(["sh", "-c", "(sh -c 'echo $$; exec sleep 0.1' &)"]);
  const orphan = Number(output);
  expect(orphan).toBeGreaterThan(1);
  await until(
    () => hub.exec(["test", "-e", `/proc/${orphan}`]),
    (seen) => seen.exitCode === 1,
    10,
  );
});

test("the health check sees scheduler and workers", async () => {
  for (const container of [hub, workers[0]!]) {
    const { exitCode, output } = await container.exec(["dask-ts-health"]);
    expect([exitCode, output.trim()]).toEqual([
      0,
      container === hub ? "/health on 8787: 200" : "the worker's process runs",
    ]);
  }
});

test("the health check sees a scheduler that does not answer", async () => {
  const pid = await first();
  const script = `trap 'kill -CONT ${pid}' EXIT; kill -STOP ${pid}; dask-ts-health`;
  const { exitCode, output } = await hub.exec(["sh", "-c", script]);
  expect([exitCode, output.trim()]).toEqual([1, "no answer in 4000 ms"]);
});

test("lines that people and tools look for are in the logs, with versions", async () => {
  const text = await logs(hub);
  expect(text).toMatch(/^prepare: python 3[\d.]+, dask 20[\d.]+, distributed 20[\d.]+, numpy/m);
  expect(text).toMatch(/ - INFO - +Scheduler at: +tcp:\/\/[\d.]+:8786$/m);
  expect(text).toMatch(/dashboard at: +http:\/\/[\d.]+:8787\/status$/m);
  const one = await logs(workers[0]!);
  for (const line of ["Start Nanny at:", "Start worker at:", "Listening to:", "Registered to:"]) {
    expect(one).toContain(line);
  }
});

test("work goes on when a worker is killed, and the service's new one joins", async () => {
  const script = `${CONNECT}
import time
client.wait_for_workers(3, timeout=60)
def slow(x):
    time.sleep(0.1)
    return x + 1
first = client.map(slow, range(60), pure=False)
second = client.map(slow, first, pure=False)
total = client.submit(sum, second)
open("/tmp/going", "w").write("")
print(json.dumps({"total": total.result(timeout=100)}))
client.wait_for_workers(3, timeout=60)`;
  const result = pythonJson(client, script);
  await until(
    () => client.exec(["test", "-e", "/tmp/going"]),
    ({ exitCode }) => exitCode === 0,
  );
  const before = (await inspect(workers[2]!)).State.Pid;
  await workers[2]!.exec(["sh", "-c", "kill -9 -1"]);
  expect(await result).toEqual({ total: 1890 });
  await until(
    async () => (await inspect(workers[2]!)).State,
    (state) => state.Running && state.Pid !== before,
  );
});

test("Docker itself calls scheduler and workers healthy", async () => {
  for (const container of [hub, workers[0]!]) {
    await until(
      async () => (await inspect(container)).State.Health?.Status,
      (status) => status === "healthy",
      30,
    );
  }
});

test("a worker that is told to stop hands its data over first, within the grace time", async () => {
  const scattered = `${CONNECT}
client.wait_for_workers(3, timeout=60)
# What is scattered cannot be computed again: if a worker takes it with it, it is lost.
futures = client.scatter([bytes([i]) * 1_000_000 for i in range(30)], broadcast=False)
client.publish_dataset(kept=futures)
print(json.dumps(sorted(len(keys) for keys in client.has_what().values())))`;
  expect(await pythonJson(client, scattered)).toEqual([10, 10, 10]);
  const { code, seconds } = await terminate(workers[0]!, 30);
  expect(code).toBe(0);
  expect(seconds).toBeLessThan(20);
  const gathered = `${CONNECT}
values = client.gather(client.get_dataset("kept"))
print(json.dumps([len(values), all(v == bytes([i]) * 1_000_000 for i, v in enumerate(values))]))
client.unpublish_dataset("kept")`;
  expect(await pythonJson(client, gathered)).toEqual([30, true]);
});

test("workers join a scheduler that takes the place of a killed one under the same name", async () => {
  await kill(hub);
  await hub.stop();
  running.delete(hub);
  hub = await up(scheduler(network).start());
  const script = `${CONNECT}
client.wait_for_workers(2, timeout=90)
print(json.dumps(client.submit(sum, [1, 2, 3]).result(timeout=60)))`;
  expect(await pythonJson(client, script)).toBe(6);
});

test("the scheduler ends with code 0 on SIGTERM, and when a deployer says terminate", async () => {
  await python(
    client,
    `${CONNECT}
async def terminate():
    await client.scheduler.terminate()
try:
    client.sync(terminate)
except OSError:
    pass
client.close()`,
  ).catch((error: unknown) => {
    // The client may complain that its scheduler went away.
    if (!String(error).includes("CommClosedError")) throw error;
  });
  const ended = await until(
    async () => (await inspect(hub)).State,
    (state) => !state.Running,
    30,
  );
  expect(ended.ExitCode).toBe(0);
  const other = await up(scheduler(network).start());
  const { code, seconds } = await terminate(other, 30);
  expect(code).toBe(0);
  expect(seconds).toBeLessThan(10);
});
