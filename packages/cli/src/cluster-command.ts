/** `dask-ts cluster`: a scheduler and workers in one command, for laptops. */
import { spawn } from "node:child_process";
import { findPython, loadConfig, resolveAddress } from "@dask-ts/protocol";
import { Scheduler } from "@dask-ts/scheduler";
import { cpuCount } from "@dask-ts/worker";
import type { Command } from "commander";
import { command, integer, ownOptions } from "./flags.ts";
import { describePython, onTermination } from "./lifecycle.ts";
import { openLog } from "./log-output.ts";
import { layoutWorkers, UsageError } from "./worker-layout.ts";

interface ClusterFlags {
  readonly host: string;
  readonly port: number;
  readonly dashboardAddress: string;
  readonly nworkers: string;
  readonly nthreads: number;
  readonly memoryLimit: string;
  readonly python?: string;
  readonly logFormat?: string;
}

export function clusterCommand(): Command {
  const cluster = command("cluster")
    .description("Launch a scheduler and workers on this machine.")
    .option("--host <host>", "Host to listen on", "127.0.0.1")
    .option("--port <port>", "Port of the scheduler, 0 for any", integer, 8786)
    .option("--dashboard-address <address>", "Address of health, metrics and dashboard", ":8787")
    .option("--nworkers <n>", "Workers; negative: cores + 1 + n; or 'auto'", "auto")
    .option("--nthreads <n>", "Threads per worker [default: the cores, shared by the workers]", integer, 0)
    .option("--memory-limit <limit>", "As for dask-worker", "auto");
  return ownOptions(cluster).action(async (flags: ClusterFlags) => {
    process.exitCode = await run(flags);
  });
}

async function run(flags: ClusterFlags): Promise<number> {
  const warnings: string[] = [];
  const config = loadConfig({ env: process.env, warn: (text) => warnings.push(text) });
  const log = openLog(flags.logFormat, "distributed.scheduler", config);
  for (const text of warnings) log.write("WARNING", text);
  const { nworkers, nthreads } = layoutWorkers(flags.nworkers, flags.nthreads, cpuCount());
  const python = await findPython({ python: flags.python });
  log.write("INFO", describePython(python));
  const scheduler = await Scheduler.start({
    host: flags.host,
    port: flags.port,
    dashboardAddress: flags.dashboardAddress,
    python: python.path,
    config,
    log: log.sink,
  });
  const entry = process.argv[1];
  if (entry === undefined) throw new UsageError("the cluster command must be started from its file");
  // A process of their own, as on a real cluster: a busy scheduler does not slow the workers' heartbeats.
  const workers = spawn(
    process.execPath,
    [
      entry,
      "worker",
      await resolveAddress(scheduler.address),
      "--host",
      flags.host,
      "--nworkers",
      String(nworkers),
      "--nthreads",
      String(nthreads),
      "--memory-limit",
      flags.memoryLimit,
      "--python",
      python.path,
      // They end together with their scheduler.
      "--termination-grace",
      "0",
      ...(flags.logFormat === undefined ? [] : ["--log-format", flags.logFormat]),
    ],
    { stdio: "inherit" },
  );
  let code = 0;
  const ended = new Promise<void>((resolve) => {
    workers.once("exit", (status) => {
      if (scheduler.status === "running") {
        code = status ?? 1;
        log.write("ERROR", `The workers ended with code ${code}`);
        void scheduler.close("workers-ended");
      }
      resolve();
    });
  });
  onTermination((name, number) => {
    log.write("INFO", `Received signal ${name} (${number})`, "distributed._signals");
    workers.kill("SIGTERM");
    void ended.then(() => scheduler.close(`signal-${number}`));
  });
  await scheduler.finished;
  await ended;
  return code;
}
