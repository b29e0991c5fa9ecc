/** `dask-ts spec`, `dask-spec`: servers by a specification (distributed.cli.dask_spec), as deployers start them. */
import { readFileSync } from "node:fs";
import { findPython, loadConfig, parseConfigText } from "@dask-ts/protocol";
import type { Nanny, Worker } from "@dask-ts/worker";
import type { Command } from "commander";
import { command, ownOptions } from "./flags.ts";
import { describePython } from "./lifecycle.ts";
import { openLog } from "./log-output.ts";
import { secondsOf } from "./quantity-flags.ts";
import { schedulerCommand, type SchedulerFlags, schedulerOptions, serveScheduler } from "./scheduler-command.ts";
import { readSpec, type SpecServer } from "./spec-options.ts";
import {
  checkWorkerFlags,
  makeWorker,
  serveWorkers,
  unquoted,
  workerCommand,
  type WorkerFlags,
  workerOptions,
} from "./worker-command.ts";
import { UsageError } from "./worker-layout.ts";

interface SpecFlags {
  readonly spec: string;
  readonly specFile?: string;
  readonly python?: string;
  readonly logFormat?: string;
}

export function specCommand(): Command {
  const spec = command("spec")
    .description("Launch Dask servers defined by a JSON or YAML specification.")
    .argument("[args...]", "the scheduler's address, for workers")
    .option("--spec <json>", 'like {"cls": "distributed.Nanny", "opts": {"nthreads": 4}}', "")
    .option("--spec-file <file>", "a YAML or JSON file with the same");
  return ownOptions(spec).action(async (args: string[], flags: SpecFlags) => {
    process.exitCode = await run(args, flags);
  });
}

async function run(args: readonly string[], flags: SpecFlags): Promise<number> {
  if ((flags.spec !== "") === (flags.specFile !== undefined)) {
    process.stdout.write("Must specify exactly one of --spec and --spec-file\n");
    return 1;
  }
  const text = flags.specFile === undefined ? flags.spec : readFileSync(flags.specFile, "utf8");
  const servers = readSpec(parseConfigText(text));
  const schedulers = servers.filter((server) => server.role === "scheduler");
  const workers = servers.filter((server) => server.role !== "scheduler");
  if (schedulers.length > 0 && servers.length > 1) {
    throw new UsageError(
      "a specification has either one scheduler or workers; start the others by a command of their own",
    );
  }
  return schedulers[0] === undefined ? runWorkers(workers, args, flags) : runScheduler(schedulers[0], flags);
}

async function runScheduler(server: SpecServer, flags: SpecFlags): Promise<number> {
  let parsed: SchedulerFlags | undefined;
  const scheduler = schedulerCommand((given) => {
    parsed = given;
    return Promise.resolve(0);
  });
  await scheduler.parseAsync([...server.argv], { from: "user" });
  const config = loadConfig({ env: process.env, overrides: server.config });
  const log = openLog(flags.logFormat, "distributed.scheduler", config);
  return await serveScheduler({ ...schedulerOptions(parsed!, config), python: flags.python }, log);
}

async function runWorkers(servers: readonly SpecServer[], args: readonly string[], flags: SpecFlags): Promise<number> {
  const log = openLog(flags.logFormat, "distributed.dask_worker", loadConfig({ env: process.env }));
  const python = await findPython({ python: flags.python });
  log.write("INFO", describePython(python));
  const made: (Worker | Nanny)[] = [];
  let graceMs = 0;
  for (const server of servers) {
    let parsed: WorkerFlags | undefined;
    const worker = workerCommand((_scheduler, _argv, given) => {
      parsed = given;
      return Promise.resolve(0);
    });
    await worker.parseAsync([...server.argv], { from: "user" });
    const given = parsed!;
    checkWorkerFlags(given);
    const config = loadConfig({ env: process.env, overrides: server.config });
    const configured = config.has("scheduler-address") ? config.getString("scheduler-address") : null;
    const address = args.length > 0 ? args.slice(0, 2).join(":") : (server.scheduler ?? configured);
    const scheduler = unquoted(address ?? "");
    if (!scheduler)
      throw new UsageError("Need to provide scheduler address like `dask-ts spec SCHEDULER_ADDRESS:8786 …`");
    const deathTimeoutS = secondsOf("death_timeout", given.deathTimeout);
    for (const options of workerOptions(scheduler, [], given, { config, deathTimeoutS, python: python.path })) {
      const contactAddress = server.contactAddress ?? options.contactAddress ?? null;
      graceMs = Math.max(graceMs, options.terminationGraceMs ?? 0);
      made.push(makeWorker({ ...options, contactAddress, logSinks: [log.sink] }, server.role === "nanny"));
    }
  }
  return await serveWorkers(made, log, graceMs);
}
