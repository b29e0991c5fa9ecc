/** `dask-ts scheduler`, `dask-scheduler`: the flags of `dask scheduler` (distributed.cli.dask_scheduler). */
import { type Config, findPython, loadConfig, parseTimedelta } from "@dask-ts/protocol";
import { Scheduler, type SchedulerOptions } from "@dask-ts/scheduler";
import { type Command, Option } from "commander";
import { collect, command, ownOptions, type TlsFlags, tlsOptions } from "./flags.ts";
import { describePython, onTermination, writePidFile } from "./lifecycle.ts";
import { type Log, openLog } from "./log-output.ts";
import { tlsOverrides, tlsSettings } from "./tls-files.ts";
import { UsageError } from "./worker-layout.ts";

const RULE = "-".repeat(47);

interface SchedulerFlags extends TlsFlags {
  readonly host?: string;
  readonly port?: string;
  readonly interface?: string;
  readonly protocol?: string;
  readonly dashboardAddress: string;
  readonly dashboard: boolean;
  readonly dashboardPrefix?: string;
  readonly jupyter: boolean;
  readonly pidFile?: string;
  readonly schedulerFile?: string;
  readonly preload: string[];
  readonly idleTimeout?: string;
  readonly python?: string;
  readonly logFormat?: string;
}

export function schedulerCommand(): Command {
  const scheduler = command("scheduler")
    .description("Launch a Dask scheduler.")
    .argument("[preload_argv...]", "arguments for preload modules")
    .option("--host <host>", "URI, IP or hostname of this server")
    .option("--port <port>", "Serving port, or a list separated by commas [default: 8786]")
    .option("--interface <name>", "Preferred network interface like 'eth0' or 'ib0'")
    .option("--protocol <protocol>", "Protocol like tcp, tls; or a list separated by commas");
  tlsOptions(scheduler)
    .option("--dashboard-address <address>", "Address on which to listen for health, metrics and dashboard", ":8787")
    .option("--dashboard", "Launch the dashboard (default)", true)
    .option("--no-dashboard", "No dashboard; /health, /metrics, /info and /json stay")
    .option("--dashboard-prefix <prefix>", "Prefix for all routes of the dashboard")
    .option("--jupyter", "Start a Jupyter server in the same process", false)
    .option("--no-jupyter", "No Jupyter server (default)")
    .addOption(new Option("--show", "deprecated, ignored").hideHelp())
    .addOption(new Option("--no-show", "deprecated, ignored").hideHelp())
    .addOption(new Option("--use-xheaders <flag>", "deprecated, ignored").hideHelp())
    .option("--pid-file <file>", "File to write the process PID")
    .option(
      "--scheduler-file <file>",
      "File to write connection information, for workers and clients on a shared drive",
    )
    .option("--preload <module>", "Module to load in the scheduler's Python", collect, [])
    .option("--idle-timeout <time>", "Time of inactivity after which to kill the scheduler");
  return ownOptions(scheduler).action(async (_argv: string[], flags: SchedulerFlags) => {
    process.exitCode = await run(flags);
  });
}

/** The options that the flags stand for. @throws {UsageError} where they contradict each other. */
export function schedulerOptions(flags: SchedulerFlags, config: Config): SchedulerOptions {
  if (flags.jupyter)
    throw new UsageError("--jupyter needs a Python scheduler process: run Jupyter beside this scheduler instead");
  const preload = [...flags.preload, ...config.getStrings("distributed.scheduler.preload")];
  if (preload.length > 0) {
    throw new UsageError(
      `--preload is not available for the scheduler yet (asked for: ${preload.join(", ")}); leave it out`,
    );
  }
  const protocols = list(flags.protocol);
  const ports = flags.port === undefined ? undefined : list(flags.port)?.map(portNumber);
  if ((protocols?.length ?? 1) > 1 || (ports?.length ?? 1) > 1) {
    if (ports !== undefined && protocols?.length !== ports.length) {
      throw new UsageError("--protocol and --port must both be lists of equal length");
    }
  }
  const hasTlsFlag = flags.tlsCaFile !== undefined || flags.tlsCert !== undefined || flags.tlsKey !== undefined;
  return {
    host: flags.host || (hasTlsFlag ? "tls://" : undefined),
    port: single(ports),
    interface: single(list(flags.interface)),
    protocol: single(protocols),
    tls: tlsSettings(config, "scheduler"),
    dashboardAddress: flags.dashboardAddress,
    dashboard: flags.dashboard,
    dashboardPrefix: flags.dashboardPrefix,
    idleTimeout: flags.idleTimeout === undefined ? undefined : parseTimedelta(flags.idleTimeout),
    schedulerFile: flags.schedulerFile || undefined,
    config,
  };
}

async function run(flags: SchedulerFlags): Promise<number> {
  const warnings: string[] = [];
  const config = loadConfig({
    env: process.env,
    overrides: tlsOverrides(flags, "scheduler"),
    warn: (text) => warnings.push(text),
  });
  const log = openLog(flags.logFormat, "distributed.scheduler", config);
  for (const text of warnings) log.write("WARNING", text);
  const options = schedulerOptions(flags, config);
  writePidFile(flags.pidFile);
  return await serveScheduler({ ...options, python: flags.python }, log);
}

/** Runs a scheduler until a signal or its own end; returns the exit code. */
export async function serveScheduler(options: SchedulerOptions, log: Log): Promise<number> {
  log.write("INFO", RULE);
  // The interpreter is checked before anything is served: an error here says what to install.
  const python = await findPython({ python: options.python });
  log.write("INFO", describePython(python));
  const scheduler = await Scheduler.start({ ...options, python: python.path, log: log.sink });
  log.write("INFO", RULE);
  onTermination((name, number) => {
    log.write("INFO", `Received signal ${name} (${number})`, "distributed._signals");
    void scheduler.close(`signal-${number}`);
  });
  await scheduler.finished;
  log.write("INFO", "End scheduler");
  return 0;
}

function list(text: string | undefined): string[] | undefined {
  return text === undefined || text === "" ? undefined : text.split(",");
}

function single<T>(values: readonly T[] | undefined): T | readonly T[] | undefined {
  return values?.length === 1 ? values[0] : values;
}

function portNumber(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new UsageError(`--port takes numbers, not "${text}"`);
  return port;
}
