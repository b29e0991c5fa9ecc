/** `dask-ts scheduler`, `dask-scheduler`: the flags of `dask scheduler` (distributed.cli.dask_scheduler). */
import { type Config, findPython, loadConfig, loadSecurity } from "@dask-ts/protocol";
import { DEFAULT_PORT, PreloadUsageError, Scheduler, type SchedulerOptions } from "@dask-ts/scheduler";
import { type Command, Option } from "commander";
import { collect, command, ownOptions, refuseStrayArguments, type TlsFlags, tlsOptions } from "./flags.ts";
import { describePython, onTermination, writePidFile } from "./lifecycle.ts";
import { type Log, openLog } from "./log-output.ts";
import { tlsFiles, tlsOverrides } from "./tls-flags.ts";
import { secondsOf } from "./quantity-flags.ts";
import { UsageError } from "./worker-layout.ts";

const RULE = "-".repeat(47);

export interface SchedulerFlags extends TlsFlags {
  readonly host?: string;
  readonly port?: string;
  readonly interface?: string;
  readonly protocol?: string;
  readonly dashboardAddress: string;
  readonly dashboard: boolean;
  readonly dashboardPrefix?: string;
  readonly allowWebsocketOrigin: string[];
  readonly jupyter: boolean;
  readonly pidFile?: string;
  readonly schedulerFile?: string;
  readonly show?: boolean;
  readonly useXheaders?: string;
  readonly preload: string[];
  readonly idleTimeout?: string;
  readonly python?: string;
  readonly logFormat?: string;
}

/** Flags as given, in old spellings too. */
interface OldSchedulerFlags extends SchedulerFlags {
  readonly bokehPort?: string;
  readonly bokeh?: boolean;
}

/** @param act what is done with the flags; the exit code. */
export function schedulerCommand(
  act: (flags: SchedulerFlags, preloadArgv: readonly string[]) => Promise<number> = run,
): Command {
  const scheduler = command("scheduler")
    // A preload module's click command knows them.
    .allowUnknownOption()
    .description("Launch a Dask scheduler.")
    .argument("[preload_argv...]", "arguments for preload modules")
    .option("--host <host>", "URI, IP or hostname of this server")
    .option("--port <port>", "Serving port, or a list separated by commas [default: 8786]")
    .option("--interface <name>", "Preferred network interface like 'eth0' or 'ib0'")
    .option("--protocol <protocol>", "Protocol like tcp, tls, ws, wss; or a list separated by commas");
  tlsOptions(scheduler)
    .option("--dashboard-address <address>", "Address on which to listen for health, metrics and dashboard", ":8787")
    .option("--dashboard", "Launch the dashboard (default)", true)
    .option("--no-dashboard", "No dashboard; /health, /metrics, /info and /json stay")
    .option("--dashboard-prefix <prefix>", "Prefix for all routes of the dashboard")
    .option(
      "--allow-websocket-origin <host>",
      "Host, or host:port, whose pages may open WebSockets here; may be given several times [default: any]",
      collect,
      [],
    )
    .option("--jupyter", "Start a Jupyter server in the same process", false)
    .option("--no-jupyter", "No Jupyter server (default)")
    // Spellings of old releases, which task definitions still have.
    .addOption(new Option("--bokeh-port <port>", "now --dashboard-address").hideHelp())
    .addOption(new Option("--bokeh", "now --dashboard").hideHelp())
    .addOption(new Option("--no-bokeh", "now --no-dashboard").hideHelp())
    .addOption(new Option("--show", "deprecated, without effect").hideHelp())
    .addOption(new Option("--no-show", "deprecated, without effect").hideHelp())
    .addOption(new Option("--use-xheaders <flag>", "deprecated, without effect").hideHelp())
    .option("--pid-file <file>", "File to write the process PID")
    .option(
      "--scheduler-file <file>",
      "File to write connection information, for workers and clients on a shared drive",
    )
    .option("--preload <module>", "Module to load in the scheduler's Python", collect, [])
    .option("--idle-timeout <time>", "Time of inactivity after which to kill the scheduler");
  return ownOptions(scheduler).action(async (argv: string[], { bokeh, bokehPort, ...given }: OldSchedulerFlags) => {
    refuseStrayArguments(scheduler, argv, given.preload);
    const flags: SchedulerFlags = {
      ...given,
      dashboard: given.dashboard && bokeh !== false,
      dashboardAddress: bokehPort === undefined ? given.dashboardAddress : `:${bokehPort}`,
    };
    try {
      process.exitCode = await act(flags, argv);
    } catch (error) {
      if (!(error instanceof PreloadUsageError)) throw error;
      scheduler.error(`Error: ${error.message}`, { exitCode: 2 });
    }
  });
}

function originOverrides({ allowWebsocketOrigin: origins }: SchedulerFlags): { [key: string]: string[] } {
  const key = "distributed.scheduler.dashboard.bokeh-application.allow_websocket_origin";
  return origins.length === 0 ? {} : { [key]: origins };
}

/** The options that the flags stand for. @throws {UsageError} where they contradict each other. */
export function schedulerOptions(
  flags: SchedulerFlags,
  config: Config,
  preloadArgv: readonly string[] = [],
): SchedulerOptions {
  if (flags.jupyter)
    throw new UsageError("--jupyter needs a Python scheduler process: run Jupyter beside this scheduler instead");
  const protocols = list(flags.protocol);
  const ports = list(flags.port)?.map(portNumber) ?? defaultPorts(flags.host, protocols?.length ?? 1);
  if (protocols?.length !== ports?.length && Math.max(protocols?.length ?? 1, ports?.length ?? 1) > 1) {
    throw new UsageError("--protocol and --port must both be lists of equal length");
  }
  const hasTlsFlag = flags.tlsCaFile !== undefined || flags.tlsCert !== undefined || flags.tlsKey !== undefined;
  return {
    host: flags.host || (hasTlsFlag ? "tls://" : undefined),
    port: single(ports),
    interface: single(list(flags.interface)),
    protocol: single(protocols),
    security: loadSecurity(config, "scheduler", tlsFiles(flags)),
    dashboardAddress: flags.dashboardAddress,
    dashboard: flags.dashboard,
    dashboardPrefix: flags.dashboardPrefix,
    idleTimeout: secondsOf("--idle-timeout", flags.idleTimeout) ?? undefined,
    schedulerFile: flags.schedulerFile || undefined,
    preload: flags.preload,
    preloadArgv,
    config,
  };
}

/** What is said of flags that stock only keeps for old scripts. */
export function deprecations(flags: SchedulerFlags): string[] {
  const given = [
    ...(flags.show === undefined ? [] : [flags.show ? "--show" : "--no-show"]),
    ...(flags.useXheaders === undefined ? [] : ["--use-xheaders"]),
  ];
  return given.map((flag) => `${flag} is deprecated and has no effect`);
}

async function run(flags: SchedulerFlags, preloadArgv: readonly string[]): Promise<number> {
  const warnings: string[] = [];
  const config = loadConfig({
    env: process.env,
    overrides: { ...tlsOverrides(flags, "scheduler"), ...originOverrides(flags) },
    warn: (text) => warnings.push(text),
  });
  const log = openLog(flags.logFormat, "distributed.scheduler", config);
  for (const text of [...warnings, ...deprecations(flags)]) log.write("WARNING", text);
  const options = schedulerOptions(flags, config, preloadArgv);
  writePidFile(flags.pidFile);
  return await serveScheduler({ ...options, python: flags.python }, log);
}

/** Runs a scheduler until a signal or its own end; returns the exit code. */
export async function serveScheduler(options: SchedulerOptions, log: Log): Promise<number> {
  log.write("INFO", RULE);
  // The interpreter is checked before anything is served: an error here says what to install.
  const python = await findPython({ python: options.python });
  log.write("INFO", describePython(python));
  const starting = Scheduler.start({ ...options, python: python.path, log: log.sink });
  // From now on, and not from the end of the start: a deployer may end a scheduler as soon as it says its address.
  onTermination((name, number) => {
    log.write("INFO", `Received signal ${name} (${number})`, "distributed._signals");
    starting.then(
      (scheduler) => scheduler.close(`signal-${number}`),
      () => undefined, // which ends the command by itself
    );
  });
  const scheduler = await starting;
  log.write("INFO", RULE);
  await scheduler.finished;
  log.write("INFO", "End scheduler");
  return 0;
}

/** The first protocol has the well-known port, the others any; a port in `--host` goes before both. */
function defaultPorts(host: string | undefined, protocols: number): number[] | undefined {
  if (host !== undefined && /:\d/.test(host)) return undefined;
  return [DEFAULT_PORT, ...Array.from({ length: protocols - 1 }, () => 0)];
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
