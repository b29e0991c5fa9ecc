/** `dask-ts scale-workers`: the controller as a process, until a signal. */
import { setTimeout as sleep } from "node:timers/promises";
import { ECSClient } from "@aws-sdk/client-ecs";
import { formatRecord, type LevelName, loadConfig, loadSecurity, parseTimedelta } from "@dask-ts/protocol";
import { Controller } from "./controller.ts";
import { checkLimits } from "./decide.ts";
import { EcsService } from "./ecs-service.ts";
import { RemoteScheduler } from "./scheduler.ts";

export interface ScaleWorkersFlags {
  readonly cluster: string;
  readonly service: string;
  readonly region?: string;
  readonly minimum: number;
  readonly maximum: number;
  readonly interval: string;
  readonly targetDuration: string;
  readonly waitCount: number;
  readonly tlsCaFile?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}

const log = (level: LevelName, message: string): void => {
  const record = { created: Date.now() / 1000, level, logger: "dask_ts.scale_workers", message };
  process.stderr.write(`${formatRecord(record)}\n`);
};

export async function runController(address: string | undefined, flags: ScaleWorkersFlags): Promise<void> {
  const config = loadConfig({ env: process.env, warn: (text) => log("WARNING", text) });
  const scheduler = address ?? (config.has("scheduler-address") ? config.getString("scheduler-address") : null);
  if (!scheduler) throw new RangeError("name the scheduler: dask-ts scale-workers ADDRESS, or DASK_SCHEDULER_ADDRESS");
  const limits = { minimum: flags.minimum, maximum: flags.maximum, waitCount: flags.waitCount };
  checkLimits(limits);
  const { tlsCaFile: caFile, tlsCert: cert, tlsKey: key } = flags;
  const files = { ...(caFile && { caFile }), ...(cert && { cert }), ...(key && { key }) };
  const remote = new RemoteScheduler(scheduler, loadSecurity(config, "client", files).connect);
  const ecs = new ECSClient(flags.region === undefined ? {} : { region: flags.region });
  const controller = new Controller({
    scheduler: remote,
    service: new EcsService(ecs, flags.cluster, flags.service),
    limits,
    targetDurationS: parseTimedelta(flags.targetDuration),
    log,
  });
  const intervalMs = parseTimedelta(flags.interval) * 1000;
  const stop = new AbortController();
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, () => stop.abort());
  log("INFO", `Scaling ${flags.service} in ${flags.cluster} for ${scheduler}: ${flags.minimum} to ${flags.maximum}`);
  // A look under way is waited for: a retirement that was begun must not stay half done.
  while (!stop.signal.aborted) {
    await controller.look();
    await sleep(intervalMs, undefined, { signal: stop.signal }).catch(() => undefined);
  }
  await remote.close();
  ecs.destroy();
}
