/** How to reach a cluster: addresses of its stack's outputs, and ways in from outside its VPC. */
import { DescribeNetworkInterfacesCommand } from "@aws-sdk/client-ec2";
import type { Task } from "@aws-sdk/client-ecs";
import { FilterLogEventsCommand } from "@aws-sdk/client-cloudwatch-logs";
import type { Clients } from "./clients.ts";
import { networkInterface, serviceOf, tasksOf } from "./services.ts";

export const SCHEDULER_SERVICE = "Dask-Scheduler";
export const WORKER_SERVICE = "Dask-Worker";
const SCHEDULER_PORT = 8786;

/** Lines for people: where the scheduler, its dashboard and the notebook are. */
export async function addressLines(clients: Clients, outputs: ReadonlyMap<string, string>): Promise<string[]> {
  const address = outputs.get("SchedulerAddress") ?? "";
  const dashboard = outputs.get("DashboardUrl") ?? "";
  const cluster = outputs.get("ClusterName") ?? "";
  const lines = [`Scheduler   ${address}`, `Dashboard   ${dashboard}`];
  const notebook = outputs.get("NotebookUrl");
  if (notebook !== undefined) lines.push(`Notebook    ${notebook}${await tokenOf(clients, outputs)}`);
  const task = (await tasksOf(clients.ecs, cluster)).find((one) => serviceOf(one) === SCHEDULER_SERVICE);
  const port = new URL(dashboard).port;
  const open = task === undefined ? undefined : await publicAddress(clients, task);
  if (open !== undefined) lines.push(`From outside http://${open}:${port}/status`);
  lines.push(
    "",
    `Inside the VPC (a notebook, or a machine in the group ${outputs.get("ClientSecurityGroup") ?? ""}):`,
    `  client = distributed.Client("${address}")`,
  );
  const target = task === undefined ? undefined : sessionTarget(cluster, task);
  if (target !== undefined) {
    lines.push(
      "",
      `From anywhere, through Session Manager; then distributed.Client("tcp://127.0.0.1:${SCHEDULER_PORT}"):`,
      `  ${forward(target, String(SCHEDULER_PORT))}`,
      `  ${forward(target, port)}`,
    );
  }
  return lines;
}

function forward(target: string, port: string): string {
  const parameters = `'{"portNumber":["${port}"],"localPortNumber":["${port}"]}'`;
  const document = "AWS-StartPortForwardingSession";
  return `aws ssm start-session --target ${target} --document-name ${document} --parameters ${parameters}`;
}

/** Session Manager's name for the scheduler's container. */
function sessionTarget(cluster: string, task: Task): string | undefined {
  const runtime = task.containers?.[0]?.runtimeId;
  const id = task.taskArn?.split("/").at(-1);
  return runtime === undefined || id === undefined ? undefined : `ecs:${cluster}_${id}_${runtime}`;
}

async function publicAddress({ ec2 }: Clients, task: Task): Promise<string | undefined> {
  const id = networkInterface(task);
  if (id === undefined) return undefined;
  const request = new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [id] });
  const [found] = (await ec2.send(request)).NetworkInterfaces ?? [];
  return found?.Association?.PublicIp;
}

/** What the notebook of our own service asks for, from its log. */
async function tokenOf({ logs }: Clients, outputs: ReadonlyMap<string, string>): Promise<string> {
  const logGroupName = outputs.get("NotebookLogGroup");
  if (logGroupName === undefined) return "";
  const found = await logs.send(new FilterLogEventsCommand({ logGroupName, filterPattern: '"token="' }));
  const tokens = (found.events ?? []).map(({ message }) => /token=(\w+)/.exec(message ?? "")?.[1]);
  const token = tokens.filter((one) => one !== undefined).at(-1);
  return token === undefined ? " (its token is not in the log yet)" : `?token=${token}`;
}
