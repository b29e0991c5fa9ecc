/**
 * Every flag of stock's commands (stock-flags.json, as click lists them; tests/e2e/test_comms.py compares it with the
 * installed release): accepted and seen in the options that the process starts with, or refused with a sentence.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { networkInterfaces, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadConfig } from "@dask-ts/protocol";
import type { SchedulerOptions } from "@dask-ts/scheduler";
import type { NannyOptions } from "@dask-ts/worker";
import { deprecations, schedulerCommand, type SchedulerFlags, schedulerOptions } from "../src/scheduler-command.ts";
import { tlsOverrides } from "../src/tls-flags.ts";
import { checkWorkerFlags, unquoted, workerCommand, type WorkerFlags, workerOptions } from "../src/worker-command.ts";

interface StockFlag {
  readonly names: readonly string[];
  readonly takesValue: boolean;
  readonly multiple: boolean;
}
const STOCK = JSON.parse(readFileSync(new URL("stock-flags.json", import.meta.url), "utf8")) as {
  readonly scheduler: readonly StockFlag[];
  readonly worker: readonly StockFlag[];
};

/** A command line, and what it leads to: part of the options, a warning, or an error's text. */
interface Case {
  readonly argv: readonly string[] | (() => readonly string[]);
  readonly options?: object;
  readonly warning?: RegExp;
  readonly refused?: RegExp;
}

let folder: string;
const pem = (name: string): string => join(folder, name);
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "dask-ts-flags-"));
  const python = fileURLToPath(new URL("../../../.venv/bin/python", import.meta.url));
  const script = fileURLToPath(new URL("../../protocol/test/support/make_certs.py", import.meta.url));
  execFileSync(process.env["DASK_TS_PYTHON"] ?? python, [script, folder]);
});
afterAll(() => rmSync(folder, { recursive: true }));

const config = (overrides = {}): ReturnType<typeof loadConfig> => loadConfig({ env: {}, paths: [], overrides });
const tls = (): readonly string[] => ["--tls-ca-file", pem("ca.pem"), "--tls-cert", pem("peer.pem")];
const tlsWithKey = (): readonly string[] => [...tls(), "--tls-key", pem("peer.pem")];
const encrypted = expect.objectContaining({ requireEncryption: true, tls: expect.anything() });
const loopback = Object.entries(networkInterfaces()).find(([, all]) => all?.some((a) => a.address === "127.0.0.1"))![0];

async function schedulerFlags(argv: readonly string[]): Promise<SchedulerFlags> {
  let seen: SchedulerFlags | undefined;
  const command = schedulerCommand((flags) => {
    seen = flags;
    return Promise.resolve(0);
  });
  await command.parseAsync([...argv], { from: "user" });
  return seen!;
}

async function schedulerOf(argv: readonly string[]): Promise<SchedulerOptions> {
  const flags = await schedulerFlags(argv);
  return schedulerOptions(flags, config(tlsOverrides(flags, "scheduler")));
}

async function workerOf(argv: readonly string[]): Promise<readonly NannyOptions[]> {
  let seen: WorkerFlags | undefined;
  const command = workerCommand((_scheduler, _argv, flags) => {
    seen = flags;
    return Promise.resolve(0);
  });
  await command.parseAsync(["tcp://127.0.0.1:8786", ...argv], { from: "user" });
  checkWorkerFlags(seen!);
  const surroundings = { config: config(tlsOverrides(seen!, "worker")), deathTimeoutS: null, python: "python3" };
  return workerOptions("tcp://127.0.0.1:8786", [], seen!, surroundings);
}

const SCHEDULER: Readonly<Record<string, readonly Case[]>> = {
  "--host": [
    { argv: ["--host", "10.0.0.1"], options: { host: "10.0.0.1", port: 8786 } },
    { argv: ["--host", "tls://h:1234"], options: { host: "tls://h:1234", port: undefined } },
  ],
  "--port": [
    { argv: [], options: { port: 8786 } },
    { argv: ["--port", "0"], options: { port: 0 } },
    { argv: ["--port", "8000,8001", "--protocol", "tcp,ws"], options: { port: [8000, 8001], protocol: ["tcp", "ws"] } },
    { argv: ["--port", "8000,8001"], refused: /lists of equal length/ },
    { argv: ["--port", "http"], refused: /--port takes numbers/ },
  ],
  "--interface": [{ argv: ["--interface", loopback], options: { interface: loopback } }],
  "--protocol": [
    { argv: ["--protocol", "ws"], options: { protocol: "ws" } },
    { argv: ["--protocol", "tcp,ws,tls"], options: { protocol: ["tcp", "ws", "tls"], port: [8786, 0, 0] } },
  ],
  "--tls-ca-file": [{ argv: tls, options: { host: "tls://", security: encrypted } }],
  "--tls-cert": [{ argv: () => tls().slice(0, 2), refused: /give both --tls-ca-file and --tls-cert/ }],
  "--tls-key": [{ argv: tlsWithKey, options: { host: "tls://", security: encrypted } }],
  "--dashboard-address": [{ argv: ["--dashboard-address", ":0"], options: { dashboardAddress: ":0" } }],
  "--dashboard": [
    { argv: ["--dashboard"], options: { dashboard: true } },
    { argv: ["--no-dashboard"], options: { dashboard: false } },
  ],
  "--dashboard-prefix": [{ argv: ["--dashboard-prefix", "/foo"], options: { dashboardPrefix: "/foo" } }],
  "--jupyter": [
    { argv: ["--no-jupyter"], options: { dashboard: true } },
    { argv: ["--jupyter"], refused: /needs a Python scheduler process: run Jupyter beside/ },
  ],
  "--show": [{ argv: ["--no-show"], warning: /--no-show is deprecated/ }],
  "--use-xheaders": [{ argv: ["--use-xheaders", "true"], warning: /--use-xheaders is deprecated/ }],
  "--pid-file": [{ argv: ["--pid-file", "/tmp/x.pid"], options: {} }],
  "--scheduler-file": [{ argv: ["--scheduler-file", "s.json"], options: { schedulerFile: "s.json" } }],
  "--idle-timeout": [
    { argv: ["--idle-timeout", "5 minutes"], options: { idleTimeout: 300 } },
    { argv: ["--idle-timeout", "soon"], refused: /soon/ },
  ],
};

const WORKER: Readonly<Record<string, readonly Case[]>> = {
  "--tls-ca-file": [{ argv: tls, options: { comms: encrypted } }],
  "--tls-cert": [{ argv: () => tls().slice(2), refused: /give both --tls-ca-file and --tls-cert/ }],
  "--tls-key": [{ argv: tlsWithKey, options: { comms: encrypted } }],
  "--worker-port": [
    { argv: ["--worker-port", "9000"], options: { ports: [9000] } },
    { argv: ["--worker-port", "9000:9002"], options: { ports: [9000, 9001, 9002] } },
    { argv: ["--worker-port", "9000:9001", "--nworkers", "3"], refused: /Not enough ports/ },
  ],
  "--nanny-port": [{ argv: ["--nanny-port", "9000:9001"], options: { nannyPorts: [9000, 9001] } }],
  "--dashboard-address": [{ argv: ["--dashboard-address", ":9999"], options: { dashboardAddress: ":9999" } }],
  "--dashboard": [{ argv: ["--no-dashboard"], options: {} }],
  "--dashboard-prefix": [{ argv: ["--dashboard-prefix", "x"], options: {} }],
  "--listen-address": [
    {
      argv: ["--listen-address", "ws://[::1]:9000"],
      options: { host: "::1", ports: [9000], protocol: "ws", contactAddress: "ws://[::1]:9000" },
    },
    { argv: ["--listen-address", "tcp://0.0.0.0:9000", "--host", "a"], refused: /when --worker-port or --host/ },
    { argv: ["--listen-address", "tcp://0.0.0.0:9000", "--nworkers", "2"], refused: /when n_workers > 1/ },
  ],
  "--contact-address": [
    {
      argv: ["--listen-address", "tcp://0.0.0.0:9000", "--contact-address", "tcp://1.2.3.4:9001"],
      options: { host: "0.0.0.0", contactAddress: "tcp://1.2.3.4:9001" },
    },
    { argv: ["--contact-address", "tcp://1.2.3.4:9001"], refused: /Must specify --listen-address/ },
  ],
  "--host": [{ argv: ["--host", "127.0.0.1"], options: { host: "127.0.0.1" } }],
  "--interface": [{ argv: ["--interface", loopback], options: { interface: loopback } }],
  "--protocol": [{ argv: ["--protocol", "wss"], options: { protocol: "wss" } }],
  "--nthreads": [{ argv: ["--nthreads", "7"], options: { nthreads: 7 } }],
  "--nworkers": [
    { argv: ["--nworkers", "3"], options: { nthreads: expect.any(Number) } },
    { argv: ["--nworkers", "many"], refused: /takes a number or "auto"/ },
  ],
  "--name": [
    { argv: ["--name", "alice"], options: { name: "alice" } },
    { argv: ["--name", "7"], options: { name: 7 } },
    { argv: ["--name", "a", "--nworkers", "2"], options: { name: "a-0" } },
  ],
  "--memory-limit": [{ argv: ["--memory-limit", "2GB"], options: { memoryLimit: "2GB" } }],
  "--nanny": [{ argv: ["--no-nanny", "--nworkers", "2"], refused: /cannot use the --no-nanny argument/ }],
  "--pid-file": [{ argv: ["--pid-file", "/tmp/x.pid"], options: {} }],
  "--local-directory": [{ argv: ["--local-directory", "/scratch"], options: { localDirectory: "/scratch" } }],
  "--resources": [
    {
      argv: ["--resources", "GPU=2, MEM=10e9"],
      options: {
        resources: new Map([
          ["GPU", 2],
          ["MEM", 10e9],
        ]),
      },
    },
    { argv: ["--resources", "GPU"], refused: /NAME=NUMBER/ },
  ],
  "--scheduler-file": [{ argv: ["--scheduler-file", "s.json"], options: {} }],
  "--death-timeout": [{ argv: ["--death-timeout", "10s"], options: {} }],
  "--lifetime": [{ argv: ["--lifetime", "1 hour"], options: { lifetimeS: 3600 } }],
  "--lifetime-stagger": [{ argv: ["--lifetime-stagger", "5s"], options: { lifetimeStaggerS: 5 } }],
  "--lifetime-restart": [
    { argv: ["--lifetime-restart"], options: { lifetimeRestart: true } },
    { argv: ["--no-lifetime-restart"], options: { lifetimeRestart: false } },
  ],
  "--worker-class": [
    { argv: ["--worker-class", "distributed.Worker"], options: { memoryLimit: "auto" } },
    { argv: ["--worker-class", "dask_cuda.CUDAWorker"], refused: /Python class that this worker cannot run/ },
  ],
  "--preload": [{ argv: ["--preload", "a", "--preload", "b.py"], options: { preload: ["a", "b.py"] } }],
  "--preload-nanny": [
    { argv: ["--preload-nanny", "a", "--preload-nanny", "b.py"], options: { preloadNanny: ["a", "b.py"] } },
  ],
  "--scheduler-sni": [{ argv: ["--scheduler-sni", "hub"], options: { serverHostname: "hub" } }],
};

/** Flags with tests of their own: what they do is more than an option. */
const ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  scheduler: ["--preload"],
};

async function check(run: Case, start: (argv: readonly string[]) => Promise<object>): Promise<void> {
  const argv = typeof run.argv === "function" ? run.argv() : run.argv;
  if (run.refused !== undefined) await expect(start(argv)).rejects.toThrow(run.refused);
  else if (run.warning !== undefined)
    expect(deprecations(await schedulerFlags(argv))).toEqual([expect.stringMatching(run.warning)]);
  else expect(await start(argv)).toMatchObject(run.options ?? {});
}

describe.each([
  ["scheduler", SCHEDULER, schedulerOf],
  ["worker", WORKER, async (argv: readonly string[]) => (await workerOf(argv))[0]!],
] as const)("%s", (role, table, start) => {
  test("the table knows every flag of stock's command", () => {
    const known = new Set([...Object.keys(table), ...(ELSEWHERE[role] ?? [])]);
    expect(STOCK[role].map((flag) => flag.names[0]!).filter((name) => !known.has(name))).toEqual([]);
  });

  test("the command knows every spelling of every flag, and whether it takes a value", () => {
    const command = role === "scheduler" ? schedulerCommand() : workerCommand();
    for (const flag of STOCK[role]) {
      for (const name of flag.names) {
        const option = command.options.find((one) => one.long === name);
        expect(option, name).toBeDefined();
        expect(option?.required ?? false, `${name} takes a value`).toBe(flag.takesValue);
      }
    }
  });

  test.each(Object.entries(table).flatMap(([name, cases]) => cases.map((one, i) => [`${name} ${i}`, one] as const)))(
    "%s",
    (_, one) => check(one, start),
  );
});

test("old spellings of flags", async () => {
  const workers = await workerOf(["--nprocs", "2", "--no-bokeh", "--bokeh-port", "9002"]);
  expect(workers.map(({ dashboard, dashboardAddress }) => [dashboard, dashboardAddress])).toEqual([
    [false, ":9002"],
    [false, ":9002"],
  ]);
  expect((await workerOf(["--nprocs", "2", "--nworkers", "3"])).length).toBe(3);
  expect(await schedulerOf(["--no-bokeh", "--bokeh-port", "9999"])).toMatchObject({
    dashboard: false,
    dashboardAddress: ":9999",
  });
});

test("a memory limit that was rounded down to zero of a unit is the machine's", async () => {
  const limits = await Promise.all(
    ["0GB", "0 MiB", "0", "0.5", "3G"].map(async (text) => (await workerOf(["--memory-limit", text]))[0]?.memoryLimit),
  );
  expect(limits).toEqual(["auto", "auto", "0", "0.5", "3G"]);
});

test("quotes around an address are taken off, a stray one is told", () => {
  expect(unquoted('"tcp://scheduler:8786"')).toBe("tcp://scheduler:8786");
  expect(unquoted("scheduler:8786")).toBe("scheduler:8786");
  expect(() => unquoted('"scheduler:8786')).toThrow(/stray quote in the scheduler's address: "scheduler:8786/);
});

test("as many workers as asked for", async () => {
  expect((await workerOf(["--nworkers", "3"])).length).toBe(3);
});
