/** `dask-ts worker`, `dask-worker`: the flags of `dask worker` (distributed.cli.dask_worker). */
import { readFileSync } from "node:fs";
import { type Config, findPython, loadConfig, loadSecurity, parseHostPort, TimeoutError } from "@dask-ts/protocol";
import {
  cpuCount,
  Nanny,
  type NannyOptions,
  pythonStarter,
  Worker,
  WorkerGroup,
  workerSettings,
} from "@dask-ts/worker";
import { type Command, Option } from "commander";
import { collect, command, integer, ownOptions, refuseStrayArguments, type TlsFlags, tlsOptions } from "./flags.ts";
import { describePython, onTermination, writePidFile } from "./lifecycle.ts";
import { type Log, openLog } from "./log-output.ts";
import { checkMemoryLimit, secondsOf } from "./quantity-flags.ts";
import { securityFields, tlsFiles, tlsOverrides } from "./tls-flags.ts";
import { apportionPorts, layoutWorkers, parseResources, UsageError, workerName } from "./worker-layout.ts";

/** Classes that this worker stands in for. */
const WORKER_CLASSES = new Set([
  "dask.distributed.Worker",
  "distributed.Worker",
  "distributed.worker.Worker",
  "dask.distributed.Nanny",
  "distributed.Nanny",
  "distributed.nanny.Nanny",
]);
const FILE_POLL_MS = 20;
/** Where workers serve HTTP by default. */
const ANY_PORT = ":0";
/** `0GB`: an amount that a deployer rounded down, where a bare 0 asks for no limit. */
const ZERO_WITH_UNIT = /^\s*0*(?:\.0*)?\s*[a-z]+\s*$/i;

export interface WorkerFlags extends TlsFlags {
  readonly workerPort?: string;
  readonly nannyPort?: string;
  readonly dashboardAddress: string;
  readonly dashboard: boolean;
  readonly dashboardPrefix?: string;
  readonly listenAddress?: string;
  readonly contactAddress?: string;
  readonly host?: string;
  readonly interface?: string;
  readonly protocol?: string;
  readonly nthreads: number;
  readonly nworkers?: string;
  readonly name?: string;
  readonly memoryLimit: string;
  readonly nanny: boolean;
  readonly pidFile?: string;
  readonly localDirectory?: string;
  readonly resources?: string;
  readonly schedulerFile?: string;
  readonly deathTimeout?: string;
  readonly lifetime?: string;
  readonly lifetimeStagger?: string;
  readonly lifetimeRestart?: boolean;
  readonly terminationGrace?: string;
  readonly workerClass: string;
  readonly preload: string[];
  readonly preloadNanny: string[];
  readonly schedulerSni?: string;
  readonly python?: string;
  readonly logFormat?: string;
}

/** Flags as given, in old spellings too. */
interface OldWorkerFlags extends WorkerFlags {
  readonly nprocs?: string;
  readonly bokehPort?: string;
  readonly bokeh?: boolean;
}

/** Old spellings count as the new ones, which win where both are given. */
function modernFlags({ nprocs, bokehPort, bokeh, ...flags }: OldWorkerFlags): WorkerFlags {
  return {
    ...flags,
    ...(nprocs === undefined || flags.nworkers !== undefined ? {} : { nworkers: nprocs }),
    ...(bokehPort === undefined || flags.dashboardAddress !== ANY_PORT ? {} : { dashboardAddress: `:${bokehPort}` }),
    dashboard: flags.dashboard && bokeh !== false,
  };
}

type Act = (scheduler: string | undefined, argv: string[], flags: WorkerFlags) => Promise<number>;

/** @param act what is done with arguments and flags; the exit code. */
export function workerCommand(act: Act = run): Command {
  const worker = command("worker")
    .description("Launch a Dask worker attached to an existing scheduler.")
    .argument("[scheduler]", "address of the scheduler, host:8786")
    .argument("[preload_argv...]", "arguments for preload modules");
  tlsOptions(worker)
    .option("--worker-port <port>", "Serving port, or a range first:last; random by default")
    .option("--nanny-port <port>", "Port of the nanny, or a range first:last; random by default")
    .option("--dashboard-address <address>", "Address on which to listen for health and metrics", ANY_PORT)
    .option("--dashboard", "Launch the dashboard (default)", true)
    .option("--no-dashboard", "No dashboard; /health and /metrics stay")
    .option("--listen-address <address>", "The address to which the worker binds, like tcp://0.0.0.0:9000")
    .option("--contact-address <address>", "The address that the worker gives to others, like tcp://127.0.0.1:9000")
    .option("--host <host>", "Serving host, visible to the scheduler and other workers")
    .option("--interface <name>", "Network interface like 'eth0' or 'ib0'")
    .option("--protocol <protocol>", "Protocol like tcp, tls, ws, wss")
    .option("--nthreads <n>", "Threads per worker [default: the cores, shared by the workers]", integer, 0)
    .option("--nworkers <n>", "Workers to launch; negative: cores + 1 + n; or 'auto' [default: 1]")
    .option("--name <name>", "A unique name; with --nworkers the number is appended: name-0, name-1")
    .option("--memory-limit <limit>", "Bytes, a fraction, a text like 5GB, 'auto', or 0 for none, per worker", "auto")
    .option("--nanny", "Supervise the worker and start it again (default)", true)
    .option("--no-nanny", "Do not supervise the worker")
    .option("--pid-file <file>", "File to write the process PID")
    .option("--local-directory <directory>", "Directory to place worker files")
    .option("--resources <resources>", 'Resources for task constraints like "GPU=2 MEM=10e9", per worker')
    .option("--scheduler-file <file>", "File with scheduler information, as dask-scheduler --scheduler-file wrote it")
    .option("--death-timeout <time>", "Seconds to wait for a scheduler before closing")
    .addOption(new Option("--dashboard-prefix <prefix>", "deprecated, without effect").hideHelp())
    // Spellings of releases before 2022, which task definitions still have.
    .addOption(new Option("--nprocs <n>", "now --nworkers").hideHelp())
    .addOption(new Option("--bokeh-port <port>", "now --dashboard-address").hideHelp())
    .addOption(new Option("--bokeh", "now --dashboard").hideHelp())
    .addOption(new Option("--no-bokeh", "now --no-dashboard").hideHelp())
    .option("--lifetime <time>", "Shut down the worker after this duration")
    .option("--lifetime-stagger <time>", "Random amount by which to stagger lifetimes")
    .option("--lifetime-restart", "Start the worker again after its lifetime")
    .option("--no-lifetime-restart", "Do not start it again (default)")
    .option("--termination-grace <time>", "Time after SIGTERM for handing data over to other workers; 0: none [25s]")
    .option(
      "--worker-class <class>",
      "Worker class; only stock's own names, which this worker stands in for",
      "dask.distributed.Worker",
    )
    .option("--preload <module>", "Module to load in each worker's Python", collect, [])
    .option("--preload-nanny <module>", "Module to load in each nanny", collect, [])
    .option("--scheduler-sni <name>", "Scheduler SNI, where it is not the host name");
  return ownOptions(worker).action(async (scheduler: string | undefined, argv: string[], given: OldWorkerFlags) => {
    refuseStrayArguments(worker, argv, given.preload);
    process.exitCode = await act(scheduler, argv, modernFlags(given));
  });
}

async function run(schedulerArgument: string | undefined, argv: string[], flags: WorkerFlags): Promise<number> {
  const warnings: string[] = [];
  const config = loadConfig({
    env: process.env,
    overrides: tlsOverrides(flags, "worker"),
    warn: (text) => warnings.push(text),
  });
  const log = openLog(flags.logFormat, "distributed.dask_worker", config);
  for (const text of warnings) log.write("WARNING", text);
  if (flags.dashboardPrefix !== undefined) {
    log.write("WARNING", "--dashboard-prefix is deprecated and has no effect for workers");
  }
  checkWorkerFlags(flags);
  writePidFile(flags.pidFile);
  const deathTimeoutS = secondsOf("--death-timeout", flags.deathTimeout);
  const configured = config.has("scheduler-address") ? config.getString("scheduler-address") : null;
  const scheduler = unquoted(
    schedulerArgument ||
      (flags.schedulerFile ? await readSchedulerFile(flags.schedulerFile, deathTimeoutS) : undefined) ||
      configured ||
      "",
  );
  if (!scheduler) throw new UsageError("Need to provide scheduler address like `dask worker SCHEDULER_ADDRESS:8786`");
  const python = await findPython({ python: flags.python });
  log.write("INFO", describePython(python));
  const options = workerOptions(scheduler, argv, flags, { config, deathTimeoutS, python: python.path });
  for (const text of options[0]?.comms?.warnings ?? []) log.write("WARNING", text);
  return await serveWorkers(
    options.map((one) => makeWorker({ ...one, logSinks: [log.sink] }, flags.nanny)),
    log,
    Math.max(0, ...options.map((one) => one.terminationGraceMs ?? 0)),
  );
}

/** What is known beside the flags. */
export interface WorkerSurroundings {
  readonly config: Config;
  readonly deathTimeoutS: number | null;
  /** The interpreter of the executors. */
  readonly python: string;
}

/** @throws {UsageError} where flags contradict each other, or one cannot be had here. */
export function checkWorkerFlags(flags: WorkerFlags): void {
  const fail = (text: string): never => {
    throw new UsageError(`Failed to launch worker. ${text}`);
  };
  const { nworkers } = layoutWorkers(flags.nworkers, flags.nthreads, cpuCount());
  if (nworkers > 1 && !flags.nanny) fail("You cannot use the --no-nanny argument when n_workers > 1.");
  if (flags.contactAddress && !flags.listenAddress) {
    fail("Must specify --listen-address when --contact-address is given");
  }
  if (nworkers > 1 && flags.listenAddress) fail("You cannot specify --listen-address when n_workers > 1.");
  if ((flags.workerPort || flags.host) && flags.listenAddress) {
    fail("You cannot specify --listen-address when --worker-port or --host is given.");
  }
  if (!WORKER_CLASSES.has(flags.workerClass)) {
    fail(`--worker-class ${flags.workerClass} is a Python class that this worker cannot run; leave it out.`);
  }
}

/**
 * One set of options for each worker of the command.
 *
 * @throws {UsageError} {@link ConfigError} where a value makes no sense.
 */
export function workerOptions(
  scheduler: string,
  preloadArgv: readonly string[],
  flags: WorkerFlags,
  { config, deathTimeoutS, python }: WorkerSurroundings,
): NannyOptions[] {
  const { nworkers, nthreads } = layoutWorkers(flags.nworkers, flags.nthreads, cpuCount());
  const listen = flags.listenAddress ? parseHostPort(flags.listenAddress.replace(/^\w+:\/\//, ""), 0) : undefined;
  const ports = apportionPorts(
    listen === undefined ? flags.workerPort : String(listen.port),
    flags.nannyPort,
    nworkers,
    flags.nanny,
  );
  const comms = loadSecurity(config, "worker", tlsFiles(flags));
  const resources = parseResources(flags.resources);
  const settings = workerSettings(config);
  const graceS = secondsOf("--termination-grace", flags.terminationGrace);
  const shared = {
    scheduler,
    startExecutor: pythonStarter({ python, config, shared: nworkers > 1 }),
    pluginPython: { python, config },
    settings,
    nthreads,
    memoryLimit: memoryLimit(flags.memoryLimit),
    host: listen === undefined ? (flags.host ?? null) : listen.host,
    interface: flags.interface ?? null,
    protocol: flags.protocol ?? protocolOf(flags.listenAddress),
    contactAddress: flags.contactAddress ?? flags.listenAddress ?? null,
    dashboardAddress: flags.dashboardAddress,
    dashboard: flags.dashboard,
    localDirectory: flags.localDirectory ?? null,
    deathTimeoutS,
    security: securityFields(config, "worker"),
    preload: flags.preload.length > 0 ? flags.preload : config.getStrings("distributed.worker.preload"),
    preloadNanny: flags.preloadNanny.length > 0 ? flags.preloadNanny : config.getStrings("distributed.nanny.preload"),
    preloadNannyArgv: config.getStrings("distributed.nanny.preload-argv"),
    preloadArgv: preloadArgv.length > 0 ? preloadArgv : config.getStrings("distributed.worker.preload-argv"),
    lifetimeS: secondsOf("--lifetime", flags.lifetime) ?? settings.lifetimeS,
    lifetimeStaggerS: secondsOf("--lifetime-stagger", flags.lifetimeStagger) ?? settings.lifetimeStaggerS,
    lifetimeRestart: flags.lifetimeRestart ?? settings.lifetimeRestart,
    terminationGraceMs: graceS === null ? settings.terminationGraceMs : graceS * 1000,
    comms,
    ...(resources === undefined ? {} : { resources }),
    ...(flags.schedulerSni === undefined ? {} : { serverHostname: flags.schedulerSni }),
  };
  return ports.map((port, index) => {
    const name = workerName(flags.name, index, nworkers);
    return { ...shared, ports: port.worker, nannyPorts: port.nanny, ...(name === undefined ? {} : { name }) };
  });
}

/** A worker, with a nanny or without. */
export function makeWorker(options: NannyOptions, nanny: boolean): Worker | Nanny {
  return nanny ? new Nanny(options) : new Worker(options);
}

/**
 * Runs the workers until a signal or their own end; returns the exit code.
 *
 * @param graceMs after SIGTERM for handing their data over; Ctrl-C means now.
 */
export async function serveWorkers(workers: readonly (Worker | Nanny)[], log: Log, graceMs: number): Promise<number> {
  const group = new WorkerGroup(workers);
  onTermination((name, number) => {
    log.write("INFO", `Received signal ${name} (${number})`, "distributed._signals");
    void group.retire(`signal-${number}`, name === "SIGTERM" ? graceMs : 0);
  }, graceMs);
  try {
    return await group.run();
  } catch (error) {
    if (!(error instanceof TimeoutError)) throw error;
    log.write("INFO", "Timed out starting worker");
    return 1;
  } finally {
    log.write("INFO", "End worker");
  }
}

/** Waits for the file, as workers may start before their scheduler (distributed.scheduler.scheduler_from_file…). */
async function readSchedulerFile(path: string, timeoutS: number | null): Promise<string> {
  const deadline = timeoutS === null ? Number.POSITIVE_INFINITY : Date.now() + timeoutS * 1000;
  for (;;) {
    try {
      const { address } = JSON.parse(readFileSync(path, "utf8")) as { address?: unknown };
      if (typeof address === "string") return address;
    } catch (error) {
      // Not there yet, or not wholly written.
      if (Date.now() > deadline) throw new UsageError(`no scheduler in ${path}: ${(error as Error).message}`);
    }
    await new Promise((resolve) => setTimeout(resolve, FILE_POLL_MS));
  }
}

/** Zero of a unit is what the machine or its cgroup has: cloudprovider writes `0GB` for tasks below 1 GB. */
function memoryLimit(limit: string): string {
  checkMemoryLimit(limit);
  return /0/.test(limit) && ZERO_WITH_UNIT.test(limit) ? "auto" : limit;
}

/**
 * An address in quotes, as env files and compose files hand it over where nothing took them off.
 *
 * @throws {UsageError} where there is a quote on one side only.
 */
export function unquoted(address: string): string {
  const bare = address.trim().replace(/^(["'])(.*)\1$/, "$2");
  if (/["']/.test(bare)) throw new UsageError(`there is a stray quote in the scheduler's address: ${address}`);
  return bare;
}

function protocolOf(address: string | undefined): string | null {
  return /^(\w+):\/\//.exec(address ?? "")?.[1] ?? null;
}
