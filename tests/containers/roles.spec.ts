/** What the image promises beside a cluster: its commands, its entrypoint, whom it runs as, its size. */
import { getContainerRuntimeClient, type StartedTestContainer } from "testcontainers";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { DaskContainer, exitCode, idle, IMAGE, logs, python } from "./containers.ts";

/** What is promised of the image with dask, distributed, numpy, pandas and pyarrow. */
const SIZE_LIMIT_BYTES = 750e6;

let place: StartedTestContainer;
beforeAll(async () => {
  place = await idle();
});
afterAll(async () => {
  await place.stop({ timeout: 1000 });
});

async function run(argv: readonly string[], env: Readonly<Record<string, string>> = {}) {
  return await place.exec(["/usr/bin/prepare.sh", ...argv], { env: { DASK_TS_REDIRECT: "1", ...env } });
}

describe("every name of every role is ours, and stock's where that is asked for", () => {
  const forms = [
    ...["scheduler", "worker", "spec", "ssh"].flatMap((role) => [
      `dask-${role}`,
      `dask ${role}`,
      `python -m distributed.cli.dask_${role}`,
      `python -m dask ${role}`,
    ]),
    "dask config",
    "env PATH=/usr/local/bin:/usr/bin:/bin dask-scheduler",
    "env DASK_LOGGING__DISTRIBUTED=info python -u -W ignore -m distributed.cli.dask_scheduler",
  ];

  /** What each form says its version is, with its exit code. */
  async function versions(redirect: string, wanted: readonly string[]): Promise<string[]> {
    const loop = 'for form in "$@"; do echo "$($form --version 2>&1 | tail -1), $?"; done';
    const argv = ["sh", "-c", loop, "sh", ...wanted];
    return (await place.exec(argv, { env: { DASK_TS_REDIRECT: redirect } })).output.trim().split("\n");
  }

  test("ours", async () => {
    const ours = expect.stringMatching(/^dask-ts, version [\d.]+ \(speaks distributed [\d.]+\), 0$/);
    expect(await versions("1", forms)).toEqual(forms.map(() => ours));
  });

  test("stock's", async () => {
    const stock = ["dask-scheduler", "dask worker", "python -m distributed.cli.dask_scheduler"];
    expect(await versions("0", stock)).toEqual(stock.map(() => expect.stringMatching(/, version 20[\d.]+, 0$/)));
  });
});

test("the user's distributed is stock's: a LocalCluster of its own processes", async () => {
  const script = `
import distributed, sys
if __name__ == "__main__":
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster:
        with distributed.Client(cluster) as client:
            print(type(cluster.scheduler).__module__, client.submit(lambda: 7).result())
`;
  const { output } = await run([
    "sh",
    "-c",
    `cat >/tmp/local.py <<'E'\n${script}\nE\npython /tmp/local.py 2>/dev/null`,
  ]);
  expect(output.trim().split("\n").at(-1)).toBe("distributed.scheduler 7");
});

test("exit codes: 2 for a wrong command line, 1 without a scheduler in time", async () => {
  expect((await run(["dask-worker", "--no-such-flag"])).exitCode).toBe(2);
  const alone = await new DaskContainer(["dask-worker", "no-such-host:8786", "--death-timeout", "2"]).start();
  expect(await exitCode(alone)).toBe(1);
  expect(await logs(alone)).toContain("Timed out starting worker");
  await alone.stop();
});

/** What a container that ends by itself ended with, and printed. */
async function outcome(container: DaskContainer): Promise<readonly [code: number, log: string]> {
  const started = await container.start();
  const seen = [await exitCode(started), await logs(started)] as const;
  await started.stop();
  return seen;
}

describe.concurrent("packages at the start", () => {
  test("from pip, in conda's spelling, and of an environment.yml, by the image's user", async () => {
    const environment = `
name: base
channels: [conda-forge]
dependencies:
  - python=3.11
  - conda-forge::toolz>=0.12
  - heapdict=1.0
  - pip
  - pip: [humanize]
`;
    const used = new DaskContainer(["python", "-c", "import cachey, heapdict, humanize, inflection; print('all')"])
      .withEnvironment({ EXTRA_PIP_PACKAGES: "inflection", EXTRA_CONDA_PACKAGES: "-c conda-forge cachey=0.2" })
      .withCopyContentToContainer([{ content: environment, target: "/opt/app/environment.yml" }]);
    expect(await outcome(used)).toEqual([0, expect.stringMatching(/^all$/m)]);
  });

  test("by a user who cannot write to the environment, on a file system that nobody can", async () => {
    const other = new DaskContainer(["python", "-c", "import humanize; print('found')"])
      .withUser("4242:0")
      .withReadOnlyRoot()
      .withEnvironment({ EXTRA_PIP_PACKAGES: "humanize" });
    expect(await outcome(other)).toEqual([0, expect.stringMatching(/^found$/m)]);
  });

  test("by conda where a derived image has it", async () => {
    const container = new DaskContainer(["true"])
      .withEnvironment({
        EXTRA_CONDA_PACKAGES: "-c conda-forge cachey=0.2",
        PATH: "/opt/app:/opt/dask/bin:/usr/bin:/bin",
      })
      .withCopyContentToContainer([
        { content: "dependencies: [heapdict]", target: "/opt/app/environment.yml" },
        { content: '#!/bin/sh\necho "called: $*"', target: "/opt/app/mamba", mode: 0o755 },
      ]);
    const [code, log] = await outcome(container);
    expect([code, log.match(/^called: .*$/gm)]).toEqual([
      0,
      [
        "called: env update --yes --prefix /opt/dask --file /opt/app/environment.yml",
        "called: install --yes --prefix /opt/dask -c conda-forge cachey=0.2",
      ],
    ]);
  });

  test("of Debian by root, and by nobody else", async () => {
    const extra = { EXTRA_APT_PACKAGES: "hello" };
    const [byRoot, refused] = await Promise.all([
      outcome(new DaskContainer(["hello"]).withUser("0:0").withEnvironment(extra)),
      outcome(new DaskContainer(["true"]).withEnvironment(extra)),
    ]);
    expect(byRoot).toEqual([0, expect.stringMatching(/^Hello, world!$/m)]);
    expect(refused).toEqual([1, expect.stringContaining("needs root")]);
  });

  test("that do not exist end the container with what pip says", async () => {
    const wrong = new DaskContainer(["true"]).withEnvironment({ EXTRA_PIP_PACKAGES: "humanize==0.0.0.0" });
    expect(await outcome(wrong)).toEqual([1, expect.stringMatching(/humanize==0\.0\.0\.0[^]*could not be installed/)]);
  });
});

test("/etc/dask is read by ours and by stock's", async () => {
  const configured = await idle(undefined, (one) =>
    one.withCopyContentToContainer([
      { content: "distributed:\n  scheduler:\n    allowed-failures: 10\n", target: "/etc/dask/dask.yaml" },
    ]),
  );
  const key = "distributed.scheduler.allowed-failures";
  const { output } = await configured.exec(["dask-ts", "config", "get", key]);
  expect(output.trim()).toBe("10");
  expect(await python(configured, `import dask, distributed; print(dask.config.get("${key}"))`)).toBe("10");
  await configured.stop({ timeout: 1000 });
});

test("size, user, labels, and a list of what is in it", async () => {
  const { container } = await getContainerRuntimeClient();
  const info = await container.dockerode.getImage(IMAGE).inspect();
  expect(info.Size).toBeLessThan(SIZE_LIMIT_BYTES);
  expect(info.Config.User).toBe("1000:1000");
  const label = (name: string): string | undefined => info.Config.Labels[`org.opencontainers.image.${name}`];
  expect([label("licenses"), label("title")]).toEqual(["BSD-3-Clause", "dask-ts"]);
  expect(label("version")).toMatch(/^\d+\.\d+\.\d+/);
  expect(label("revision")).toMatch(/^(?:[\da-f]{40}(?:-changed)?|unknown)$/);
  expect(info.Config.Healthcheck?.Test).toEqual(["CMD", "dask-ts-health"]);
  const { output } = await place.exec(["cat", "/opt/dask-ts/sbom.cdx.json"]);
  const { components } = JSON.parse(output) as { readonly components: readonly { readonly purl: string }[] };
  for (const name of ["pkg:pypi/distributed@", "pkg:npm/yaml@", "pkg:deb/debian/tini@", "pkg:generic/node@22"]) {
    expect(components.filter(({ purl }) => purl.startsWith(name)).length, name).toBe(1);
  }
});
