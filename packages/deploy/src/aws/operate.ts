/** `status`, `scale`, `url` and `logs` of a cluster that is up. */
import { setTimeout as sleep } from "node:timers/promises";
import { FilterLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { UpdateServiceCommand } from "@aws-sdk/client-ecs";
import { parseTimedelta } from "@dask-ts/protocol";
import { DeployError, progress, result } from "../command.ts";
import { openClients } from "./clients.ts";
import { addressLines, SCHEDULER_SERVICE, WORKER_SERVICE } from "./report.ts";
import { privateAddress, serviceOf, servicesOf, tasksOf, waitForServices } from "./services.ts";
import { getStack, outputsOf, parametersOf } from "./stack.ts";

const SCALE_TIMEOUT_MS = 15 * 60_000;
const FOLLOW_MS = 2000;
/** Stopped tasks that `status` shows. */
const STOPPED_SHOWN = 5;

export interface StackFlags {
  readonly name: string;
  readonly region?: string;
}

/** The stack, its services with their tasks, the last tasks that ended and why, and the addresses. */
export async function status(flags: StackFlags): Promise<void> {
  const clients = openClients(flags.region);
  const stack = await getStack(clients.stacks, flags.name);
  const outputs = outputsOf(stack);
  result(`Stack       ${stack.StackName}  ${stack.StackStatus}`);
  const cluster = outputs.get("ClusterName");
  if (cluster === undefined) return;
  result(`Cluster     ${cluster}`);
  const [services, tasks, stopped] = await Promise.all([
    servicesOf(clients.ecs, cluster),
    tasksOf(clients.ecs, cluster),
    tasksOf(clients.ecs, cluster, "STOPPED"),
  ]);
  for (const service of services) {
    result(`${service.serviceName}  ${service.runningCount}/${service.desiredCount} running`);
    for (const task of tasks.filter((one) => serviceOf(one) === service.serviceName)) {
      const health = task.healthStatus === undefined || task.healthStatus === "UNKNOWN" ? "" : `  ${task.healthStatus}`;
      result(`  ${task.taskArn?.split("/").at(-1)}  ${task.lastStatus}${health}  ${privateAddress(task) ?? ""}`);
    }
  }
  const last = stopped.sort((a, b) => (b.stoppedAt?.getTime() ?? 0) - (a.stoppedAt?.getTime() ?? 0));
  for (const task of last.slice(0, STOPPED_SHOWN)) {
    const code = task.containers?.[0]?.exitCode;
    const why = `${task.stoppedReason ?? ""}${code === undefined ? "" : ` (exit code ${code})`}`;
    result(`stopped: ${serviceOf(task)}  ${task.taskArn?.split("/").at(-1)}  ${why}`);
  }
  for (const line of await addressLines(clients, outputs)) result(line);
}

export async function url(flags: StackFlags): Promise<void> {
  const clients = openClients(flags.region);
  const outputs = outputsOf(await getStack(clients.stacks, flags.name));
  for (const line of await addressLines(clients, outputs)) result(line);
}

export interface ScaleFlags extends StackFlags {
  readonly scheduler?: number;
  readonly wait: boolean;
}

/** Sets the number of workers, or switches the scheduler off and on, and waits until the tasks are there or gone. */
export async function scale(workers: number | undefined, flags: ScaleFlags): Promise<void> {
  if (workers === undefined && flags.scheduler === undefined) throw new DeployError("say how many workers: scale 4");
  if (flags.scheduler !== undefined && flags.scheduler > 1)
    throw new DeployError("a cluster has one scheduler, or none");
  const { stacks, ecs } = openClients(flags.region);
  const stack = await getStack(stacks, flags.name);
  const cluster = outputsOf(stack).get("ClusterName") ?? "";
  const parameters = parametersOf(stack);
  if (workers !== undefined && parameters.get("Autoscale") === "YES") {
    const limits = `${parameters.get("MinimumWorkers")} to ${parameters.get("MaximumWorkers")}`;
    throw new DeployError(
      `the controller of this cluster scales the workers, ${limits}: ` +
        "set its limits with `up --minimum N --maximum N`, or end it with `up --no-autoscale`",
    );
  }
  const wanted: [service: string, count: number | undefined][] = [
    [SCHEDULER_SERVICE, flags.scheduler],
    [WORKER_SERVICE, workers],
  ];
  for (const [service, desiredCount] of wanted) {
    if (desiredCount === undefined) continue;
    await ecs.send(new UpdateServiceCommand({ cluster, service, desiredCount }));
    progress(`${service}: ${desiredCount}`);
  }
  if (flags.wait) await waitForServices(ecs, cluster, SCALE_TIMEOUT_MS);
}

const LOG_OUTPUTS = new Map([
  ["scheduler", "SchedulerLogGroup"],
  ["workers", "WorkerLogGroup"],
  ["controller", "ControllerLogGroup"],
  ["notebook", "NotebookLogGroup"],
]);

export interface LogsFlags extends StackFlags {
  readonly since: string;
  readonly follow?: boolean;
}

/** Prints log lines, each with the task that wrote it; with `follow` until it is interrupted. */
export async function showLogs(of: string, flags: LogsFlags): Promise<void> {
  const output = LOG_OUTPUTS.get(of.endsWith("worker") ? `${of}s` : of);
  if (output === undefined)
    throw new DeployError(`there are logs of ${[...LOG_OUTPUTS.keys()].join(", ")}, not '${of}'`);
  const { stacks, logs } = openClients(flags.region);
  const logGroupName = outputsOf(await getStack(stacks, flags.name)).get(output);
  if (logGroupName === undefined) throw new DeployError(`this cluster has no ${of}`);
  let startTime = Date.now() - parseTimedelta(flags.since) * 1000;
  // Events of one millisecond may come in two answers: what was shown of the last one is remembered.
  let shown = new Set<string>();
  for (;;) {
    let nextToken: string | undefined;
    do {
      const page = await logs.send(
        new FilterLogEventsCommand({ logGroupName, startTime, nextToken, interleaved: true }),
      );
      for (const { eventId = "", logStreamName = "", message = "", timestamp = 0 } of page.events ?? []) {
        if (shown.has(eventId)) continue;
        if (timestamp > startTime) {
          startTime = timestamp;
          shown = new Set();
        }
        shown.add(eventId);
        result(`${logStreamName.split("/").at(-1)?.slice(0, 8)}  ${message.trimEnd()}`);
      }
      nextToken = page.nextToken;
    } while (nextToken !== undefined);
    if (flags.follow !== true) return;
    await sleep(FOLLOW_MS);
  }
}
