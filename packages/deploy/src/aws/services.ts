/** The ECS services of a cluster: how many tasks run, and waiting until all that are wanted do. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  DescribeServicesCommand,
  DescribeTasksCommand,
  type ECSClient,
  ListServicesCommand,
  ListTasksCommand,
  type Service,
  type Task,
} from "@aws-sdk/client-ecs";
import { DeployError, progress } from "../command.ts";

const POLL_MS = 3000;
const FIRST_POLL_MS = 200;
/** DescribeServices takes ten names, DescribeTasks a hundred. */
const SERVICES_PER_CALL = 10;
const TASKS_PER_CALL = 100;

export async function servicesOf(ecs: ECSClient, cluster: string): Promise<Service[]> {
  const names: string[] = [];
  let nextToken: string | undefined;
  do {
    const page = await ecs.send(new ListServicesCommand({ cluster, nextToken }));
    names.push(...(page.serviceArns ?? []));
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
  const services: Service[] = [];
  for (let at = 0; at < names.length; at += SERVICES_PER_CALL) {
    const page = await ecs.send(
      new DescribeServicesCommand({ cluster, services: names.slice(at, at + SERVICES_PER_CALL) }),
    );
    services.push(...(page.services ?? []).filter(({ status }) => status === "ACTIVE"));
  }
  return services.sort((a, b) => (a.serviceName ?? "").localeCompare(b.serviceName ?? ""));
}

/** @param desiredStatus STOPPED tasks are kept for an hour. */
export async function tasksOf(
  ecs: ECSClient,
  cluster: string,
  desiredStatus: "RUNNING" | "STOPPED" = "RUNNING",
): Promise<Task[]> {
  const names: string[] = [];
  let nextToken: string | undefined;
  do {
    const page = await ecs.send(new ListTasksCommand({ cluster, desiredStatus, nextToken }));
    names.push(...(page.taskArns ?? []));
    nextToken = page.nextToken;
  } while (nextToken !== undefined);
  const tasks: Task[] = [];
  for (let at = 0; at < names.length; at += TASKS_PER_CALL) {
    const page = await ecs.send(new DescribeTasksCommand({ cluster, tasks: names.slice(at, at + TASKS_PER_CALL) }));
    tasks.push(...(page.tasks ?? []));
  }
  return tasks;
}

/** The service that runs a task, by its group. */
export function serviceOf(task: Task): string {
  return task.group?.startsWith("service:") === true ? task.group.slice("service:".length) : "";
}

export function privateAddress(task: Task): string | undefined {
  return detail(task, "privateIPv4Address");
}

export function networkInterface(task: Task): string | undefined {
  return detail(task, "networkInterfaceId");
}

function detail(task: Task, name: string): string | undefined {
  const attachment = task.attachments?.find(({ type }) => type === "ElasticNetworkInterface");
  return attachment?.details?.find((one) => one.name === name)?.value;
}

/** A service that runs what it shall, from one deployment. */
function isSteady(service: Service): boolean {
  return service.runningCount === service.desiredCount && (service.deployments?.length ?? 1) <= 1;
}

/**
 * Waits until all services are steady; the counts on stderr as they change.
 *
 * @throws {DeployError} after `timeoutMs`, with what the services said last.
 */
export async function waitForServices(ecs: ECSClient, cluster: string, timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let shown = "";
  for (let pause = FIRST_POLL_MS; ; pause = Math.min(POLL_MS, pause * 2)) {
    const services = await servicesOf(ecs, cluster);
    const line = services.map((one) => `${one.serviceName} ${one.runningCount}/${one.desiredCount}`).join("  ");
    if (line !== shown) progress(`  ${line}`);
    shown = line;
    if (services.every(isSteady)) return;
    if (performance.now() > deadline) {
      const last = services.filter((one) => !isSteady(one)).map((one) => `${one.serviceName}: ${saidLast(one)}`);
      throw new DeployError(`not all tasks run: ${last.join("; ")}. \`status\` and \`logs\` tell more`);
    }
    await sleep(pause);
  }
}

function saidLast(service: Service): string {
  return service.events?.[0]?.message ?? `${service.runningCount} of ${service.desiredCount} run`;
}
