/**
 * The command lines that deployers start the image with: dask-cloudprovider's VM clusters, the Kubernetes operator, the
 * Helm chart, our own manifests with their probes.
 */
import { readFileSync } from "node:fs";
import { Network, type StartedNetwork, type StartedTestContainer, Wait } from "testcontainers";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseConfigText } from "../../packages/protocol/src/index.ts";
import { DaskContainer, exitCode, idle, pythonJson, until } from "./containers.ts";

let network: StartedNetwork;
let client: StartedTestContainer;
beforeAll(async () => {
  network = await new Network().start();
  client = await idle(network);
});
afterAll(async () => {
  await client.stop({ timeout: 1000 });
  await network.stop();
});

/** Computes with whatever cluster answers to the name, then ends it. */
async function computes(name: string, cluster: readonly Promise<StartedTestContainer>[]): Promise<unknown> {
  const started = await Promise.all(cluster);
  const script = `
import json
from distributed import Client
with Client("${name}:8786", timeout=30) as client:
    client.wait_for_workers(1, timeout=60)
    (worker,) = client.scheduler_info(n_workers=-1)["workers"].values()
    print(json.dumps([client.submit(sum, [1, 2]).result(timeout=60), worker["name"], worker["nthreads"]]))`;
  try {
    return await pythonJson(client, script);
  } finally {
    await Promise.all(started.map((container) => container.stop({ timeout: 1000 })));
  }
}

const ready = Wait.forLogMessage(/Scheduler at:|Registered to:/);
const start = (name: string, command: readonly string[], env = {}): Promise<StartedTestContainer> =>
  new DaskContainer(command, network)
    .withNetworkAliases(name)
    .withEnvironment(env)
    .withWaitStrategy(ready)
    .withExposedPorts(8787)
    .start();

test("VM clusters: modules of distributed, with configuration in a variable", async () => {
  const config = Buffer.from(JSON.stringify({ distributed: { scheduler: { "allowed-failures": 7 } } })).toString(
    "base64",
  );
  const prefix = ["env", `DASK_INTERNAL_INHERIT_CONFIG=${config}`, "python", "-m"];
  const spec = { cls: "dask.distributed.Nanny", opts: { nthreads: 2, name: 5, memory_limit: "1 GB" } };
  const cluster = [
    start("vm", [...prefix, "distributed.cli.dask_scheduler", "--idle-timeout", "5 minutes"]),
    start("vm-worker", [...prefix, "distributed.cli.dask_spec", "tcp://vm:8786", "--spec", JSON.stringify(spec)]),
  ];
  expect(await computes("vm", cluster)).toEqual([3, 5, 2]);
});

test("SpecCluster: its calls by name", async () => {
  const hub = await start("spec", ["dask-scheduler", "--idle-timeout", "5 minutes"]);
  const workers = await Promise.all(
    [0, 1, 2].map((name) => start(`spec-${name}`, ["dask-worker", "tcp://spec:8786", "--name", `${name}`])),
  );
  const script = `
import json, time
from distributed import Client
client = Client("spec:8786", timeout=30)
call = lambda name, **arguments: client.sync(getattr(client.scheduler, name), **arguments)
client.wait_for_workers(3, timeout=30)
call("set_metadata", keys=["cluster-manager-info"], value={"name": "x"})
wanted = call("adaptive_target", target_duration="5s")
closable = call("workers_to_close", n=1, attribute="name")
retired = call("retire_workers", workers=[2], close_workers=True)
left = lambda: sorted(w["name"] for w in client.scheduler_info(n_workers=-1)["workers"].values())
while left() != [0, 1]:
    time.sleep(0.1)
retired |= call("retire_workers", names=[1], close_workers=True)
while left() != [0]:
    time.sleep(0.1)
found = call("get_metadata", keys=["cluster-manager-info"], default={})
print(json.dumps([wanted, len(closable), type(closable[0]).__name__, len(retired), found["name"], len(client.get_worker_logs())]))`;
  try {
    expect(await pythonJson(client, script)).toEqual([expect.any(Number), 1, "int", 2, "x", 1]);
  } finally {
    await Promise.all([hub, ...workers].map((container) => container.stop({ timeout: 1000 })));
  }
});

test("the idle timeout ends a scheduler under a client that stays", async () => {
  // The client waits for the scheduler, whose time runs from its start.
  const script = `
import json, os, time
from distributed import Client
client = Client("idle:8786", timeout=90)
while client.status == "running":
    time.sleep(0.1)
print(json.dumps("it ended"), flush=True)
os._exit(0)`;
  const told = pythonJson(client, script);
  const hub = await start("idle", ["dask-scheduler", "--idle-timeout", "10 seconds"]);
  try {
    expect(await told).toBe("it ended");
    expect(await exitCode(hub)).toBe(0);
  } finally {
    await hub.stop({ timeout: 1000 });
  }
});

test("dask-jobqueue: several workers of one command, by an interpreter's module", async () => {
  const options = "--name job-1 --nthreads 1 --memory-limit 0.95GiB --nworkers 2 --nanny --death-timeout 60";
  const command = `python -m distributed.cli.dask_worker tcp://jobs:8786 ${options} --local-directory /tmp/job`;
  const started = await Promise.all([
    start("jobs", ["dask-scheduler", "--idle-timeout", "5 minutes"]),
    start("jobs-worker", command.split(" ")),
  ]);
  const script = `
import json
from distributed import Client
with Client("jobs:8786", timeout=30) as client:
    client.wait_for_workers(2, timeout=60)
    info = client.scheduler_info(n_workers=-1)["workers"].values()
    print(json.dumps([sorted(w["name"] for w in info), {w["local_directory"].split("/")[2] for w in info} == {"job"}]))`;
  try {
    expect(await pythonJson(client, script)).toEqual([["job-1-0", "job-1-1"], true]);
  } finally {
    await Promise.all(started.map((container) => container.stop({ timeout: 1000 })));
  }
});

test("FargateCluster: a worker below 1 GB, a definition without an address, variables", async () => {
  const cluster = [
    start("fargate", ["dask-scheduler", "--idle-timeout", "5 minutes"]),
    start(
      "fargate-worker",
      ["dask-worker", "--nthreads", "1", "--memory-limit", "0GB", "--death-timeout", "60", "--name", "3"],
      {
        DASK_SCHEDULER_ADDRESS: '"tcp://fargate:8786"',
        DASK_DISTRIBUTED__WORKER__MEMORY__TARGET: "0.5",
        BUCKET: "s3://data with spaces",
      },
    ),
  ];
  await Promise.all(cluster);
  const script = `
import json, os, dask
from distributed import Client
def seen():
    return [os.environ["BUCKET"], dask.config.get("distributed.worker.memory.target")]
with Client("fargate:8786", timeout=30) as client:
    print(json.dumps(client.submit(seen).result(timeout=60)))`;
  expect(await pythonJson(client, script)).toEqual(["s3://data with spaces", 0.5]);
  expect(await computes("fargate", cluster)).toEqual([3, 3, 1]);
});

test("the workshop's task definitions", async () => {
  const cluster = [
    start("dask-scheduler.local-dask", ["dask-scheduler", "--dashboard", "--dashboard-address", "8787"]),
    start("workshop-worker", [
      ..."dask-worker dask-scheduler.local-dask:8786 --memory-limit 7000MB --worker-port 9000 --no-nanny".split(" "),
      ..."--no-dashboard --death-timeout 30 --nthreads 2 --nprocs 1".split(" "),
    ]),
  ];
  expect(await computes("dask-scheduler.local-dask", cluster)).toEqual([3, expect.stringMatching(/^tcp:.*:9000$/), 2]);
});

test("the Helm chart, with its probes", async () => {
  const hub = start("helm", ["dask-scheduler", "--port=8786", "--dashboard-address=:8787"]);
  const command = "dask-worker helm:8786 --nthreads 1 --memory-limit 3G --no-dashboard --dashboard-address 8790";
  const one = start("helm-worker", command.split(" "));
  const probes = Promise.all([hub, one]).then(async () => {
    const urls = [
      "helm:8787/health",
      "helm:8787/status",
      "helm:8787/metrics",
      "helm-worker:8790/health",
      "helm-worker:8790/metrics",
    ];
    return await statuses(urls);
  });
  await probes;
  expect(await probes).toEqual([200, 200, 200, 200, 200]);
  expect(await computes("helm", [hub, one])).toEqual([3, expect.stringMatching(/^tcp:/), 1]);
});

async function statuses(urls: readonly string[]): Promise<unknown> {
  return await pythonJson(
    client,
    `
import json, urllib.request
print(json.dumps([urllib.request.urlopen("http://" + url).status for url in ${JSON.stringify(urls)}]))`,
  );
}

interface PodContainer {
  readonly args: readonly string[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly securityContext?: { readonly readOnlyRootFilesystem?: boolean };
  readonly [probe: `${string}Probe`]:
    | { readonly httpGet: { readonly path: string; readonly port: string } }
    | undefined;
}

interface PodSpec {
  readonly securityContext?: { readonly runAsUser?: number; readonly runAsGroup?: number };
  readonly containers: readonly PodContainer[];
}

/** What our manifests run. */
function manifest(file: string, pick: (document: never) => readonly PodSpec[]): PodSpec[] {
  const text = readFileSync(new URL(`../../deploy/kubernetes/${file}`, import.meta.url), "utf8");
  return text.split(/^---$/m).flatMap((document) => [...pick(parseConfigText(document) as never)]);
}

interface Workload {
  readonly kind: string;
  readonly spec: { readonly template: { readonly spec: PodSpec } };
}
interface DaskCluster {
  readonly spec: { readonly [role in "scheduler" | "worker"]: { readonly spec: PodSpec } };
}

/** A container of a pod, as the pod's user. */
function startOf({ args, securityContext }: PodContainer, pod: PodSpec): Promise<StartedTestContainer> {
  const command = args.map((arg) => arg.replace(/\$\(\w+\)/, "pod-0"));
  const container = new DaskContainer(command, network)
    .withNetworkAliases(args[0] === "dask-scheduler" ? "dask-scheduler" : "pod-0")
    .withEnvironment({ DASK_SCHEDULER_ADDRESS: "dask-scheduler:8786" })
    .withWaitStrategy(ready);
  const { runAsUser, runAsGroup } = pod.securityContext ?? {};
  if (runAsUser !== undefined) container.withUser(`${runAsUser}:${runAsGroup ?? 0}`);
  if (securityContext?.readOnlyRootFilesystem) container.withReadOnlyRoot().withDroppedCapabilities("ALL");
  return container.start();
}

test.each([
  ["cluster.yaml", (one: Workload) => (one.kind === "Deployment" ? [one.spec.template.spec] : [])],
  ["operator-cluster.yaml", ({ spec }: DaskCluster) => [spec.scheduler.spec, spec.worker.spec]],
] as const)("Kubernetes: %s, with its probes", async (file, pick) => {
  const pods = manifest(file, pick);
  const containers = pods.flatMap((pod) => pod.containers);
  expect(containers.length).toBe(2);
  const started = pods.flatMap((pod) => pod.containers.map((container) => startOf(container, pod)));
  await Promise.all(started);
  const urls = containers.flatMap((container) => {
    const host = container.args[0] === "dask-scheduler" ? "dask-scheduler" : "pod-0";
    return (["startupProbe", "readinessProbe", "livenessProbe"] as const).flatMap((name) => {
      const get = container[name]?.httpGet;
      const port = container.ports.find((one) => one.name === get?.port)?.containerPort;
      return get === undefined ? [] : [`${host}:${port}${get.path}`];
    });
  });
  expect(urls.length).toBeGreaterThan(1);
  await until(
    () => statuses(urls).catch(String),
    (seen) => Array.isArray(seen) && seen.every((one) => one === 200),
    30,
  );
  expect(await computes("dask-scheduler", started)).toEqual([3, "pod-0", expect.any(Number)]);
});
