/** Containers of the image under test: roles of a cluster, and a stock client in one of its own. */
import {
  GenericContainer,
  getContainerRuntimeClient,
  type StartedNetwork,
  type StartedTestContainer,
  Wait,
} from "testcontainers";

export const IMAGE: string = process.env["DASK_TS_IMAGE"] ?? "dask-ts:test";
export const NOTEBOOK_IMAGE: string = process.env["DASK_TS_NOTEBOOK_IMAGE"] ?? "dask-ts-notebook:test";

/** What Docker can do to a container beside what testcontainers offers. */
export class DaskContainer extends GenericContainer {
  constructor(command: readonly string[], network?: StartedNetwork) {
    super(IMAGE);
    this.withCommand([...command]);
    if (network !== undefined) this.withNetwork(network);
  }

  /** Nothing but /tmp can be written. */
  withReadOnlyRoot(): this {
    this.hostConfig.ReadonlyRootfs = true;
    return this.withTmpFs({ "/tmp": "rw,exec,mode=1777" });
  }

  /** Started again whenever it ends, as a service does. */
  withRestart(): this {
    this.hostConfig.RestartPolicy = { Name: "always" };
    return this;
  }

  /** Processors that it may use, by quota. */
  withProcessors(count: number): this {
    this.hostConfig.NanoCpus = count * 1e9;
    return this;
  }

  /** Memory in MiB, hard, without swap. */
  withMemory(mebibytes: number): this {
    this.hostConfig.Memory = mebibytes * 2 ** 20;
    this.hostConfig.MemorySwap = mebibytes * 2 ** 20;
    return this;
  }
}

/** A scheduler that other containers of the network find as `scheduler`. */
export function scheduler(network: StartedNetwork, args: readonly string[] = []): DaskContainer {
  return new DaskContainer(["dask-scheduler", ...args], network)
    .withNetworkAliases("scheduler")
    .withExposedPorts(8786, 8787)
    .withWaitStrategy(Wait.forLogMessage(/Scheduler at:/));
}

/** A worker; it is started when it has registered. */
export function worker(network: StartedNetwork, args: readonly string[] = []): DaskContainer {
  return new DaskContainer(["dask-worker", "tcp://scheduler:8786", ...args], network).withWaitStrategy(
    Wait.forLogMessage(/Registered to:/),
  );
}

/** A container that does nothing: a place for clients and commands. */
export async function idle(network?: StartedNetwork, change = (one: DaskContainer): DaskContainer => one) {
  const container = new DaskContainer(["sleep", "infinity"], network).withEnvironment({ DASK_TS_REDIRECT: "0" });
  return await change(container).start();
}

/**
 * Runs a script with stock's client; by way of the entrypoint where it has an environment of its own.
 *
 * @returns what it printed.
 * @throws with all output where it fails.
 */
export async function python(
  container: StartedTestContainer,
  script: string,
  env?: Readonly<Record<string, string>>,
): Promise<string> {
  const command = ["python", "-c", script];
  const { exitCode, output, stdout } = await (env === undefined
    ? container.exec(command)
    : container.exec(["/usr/bin/prepare.sh", ...command], { env: { ...env } }));
  if (exitCode !== 0) throw new Error(`exit code ${exitCode}\n${output}`);
  return stdout.trim();
}

/** What a script prints as JSON on its last line. */
export async function pythonJson(
  container: StartedTestContainer,
  script: string,
  env?: Readonly<Record<string, string>>,
): Promise<unknown> {
  return JSON.parse((await python(container, script, env)).split("\n").at(-1) ?? "");
}

async function docker(container: StartedTestContainer) {
  return (await getContainerRuntimeClient()).container.getById(container.getId());
}

/** SIGKILL, to all of it. */
export async function kill(container: StartedTestContainer): Promise<void> {
  await (await docker(container)).kill();
}

/**
 * SIGTERM, as Docker, Kubernetes and ECS end containers; SIGKILL after `graceSeconds`.
 *
 * @returns the exit code, and how long it took.
 */
export async function terminate(
  container: StartedTestContainer,
  graceSeconds: number,
): Promise<{ readonly code: number; readonly seconds: number }> {
  const handle = await docker(container);
  const start = performance.now();
  await handle.stop({ t: graceSeconds });
  const { State } = await handle.inspect();
  return { code: State.ExitCode, seconds: (performance.now() - start) / 1000 };
}

/** The exit code of a container that ends by itself. */
export async function exitCode(container: StartedTestContainer): Promise<number> {
  const { StatusCode } = (await (await docker(container)).wait()) as { StatusCode: number };
  return StatusCode;
}

export async function inspect(container: StartedTestContainer) {
  return await (await docker(container)).inspect();
}

/** Both streams of a container's log so far. */
export async function logs(container: StartedTestContainer): Promise<string> {
  const stream = await (await docker(container)).logs({ stdout: true, stderr: true, follow: false });
  // Each piece of output has a header of 8 bytes that ends in its length.
  const lines: string[] = [];
  for (let at = 0; at + 8 <= stream.length; ) {
    const length = stream.readUInt32BE(at + 4);
    lines.push(stream.toString("utf8", at + 8, at + 8 + length));
    at += 8 + length;
  }
  return lines.join("");
}

/** Waits until a condition holds; says the last state where it never does. */
export async function until<T>(look: () => Promise<T>, holds: (state: T) => boolean, seconds = 60): Promise<T> {
  const deadline = performance.now() + seconds * 1000;
  for (;;) {
    const state = await look();
    if (holds(state)) return state;
    if (performance.now() > deadline) throw new Error(`not so after ${seconds} s: ${JSON.stringify(state)}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
