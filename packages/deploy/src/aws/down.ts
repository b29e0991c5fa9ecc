/** `dask-ts deploy aws KIND down`: deletes the stack and what AWS keeps of it, and tells what is left and why. */
import { createInterface } from "node:readline/promises";
import { DeleteLogGroupCommand, DescribeLogGroupsCommand } from "@aws-sdk/client-cloudwatch-logs";
import { DeleteStackCommand, type Stack, type StackResource } from "@aws-sdk/client-cloudformation";
import { DeleteTaskDefinitionsCommand, ListTaskDefinitionsCommand } from "@aws-sdk/client-ecs";
import { DeployError, progress, result } from "../command.ts";
import { DEFAULT_REPOSITORY, emptyRepository, findRepository } from "../image/registry.ts";
import { type Clients, openClients } from "./clients.ts";
import { findStack, outputsOf, resourcesOf, waitForStack } from "./stack.ts";

/** DeleteTaskDefinitions takes this many. */
const DEFINITIONS_PER_CALL = 10;

export interface DownFlags {
  readonly name: string;
  readonly region?: string;
  readonly yes?: boolean;
}

export async function down(flags: DownFlags): Promise<void> {
  const clients = openClients(flags.region);
  const stack = await findStack(clients.stacks, flags.name);
  if (stack === undefined) {
    result(`There is no stack ${flags.name}: nothing to do.`);
    return;
  }
  const resources = await resourcesOf(clients.stacks, flags.name);
  await confirm(flags, resources);
  for (const repository of ofType(resources, "AWS::ECR::Repository")) {
    progress(`Emptying the repository ${repository} …`);
    await emptyRepository(clients.ecr, repository);
  }
  progress(`Deleting the stack ${flags.name} …`);
  const since = new Date(Date.now() - 1000);
  await clients.stacks.send(new DeleteStackCommand({ StackName: flags.name }));
  await waitForStack(clients.stacks, stack.StackId ?? flags.name, since);
  await deleteDefinitions(clients, flags.name);
  await deleteInsights(clients, stack);
  result(`Deleted the stack ${flags.name} with its ${resources.length} resources.`);
  for (const line of await leftovers(clients, resources)) result(line);
}

/** Files are lost, and a cluster in use ends: someone has to want it. */
async function confirm({ name, yes }: DownFlags, resources: readonly StackResource[]): Promise<void> {
  const files = ofType(resources, "AWS::EFS::FileSystem");
  const lost = files.length === 0 ? "" : ` and ALL FILES in ${files.join(", ")}`;
  if (yes === true) return;
  if (!process.stdin.isTTY) throw new DeployError(`this deletes the stack ${name}${lost}: say so with --yes`);
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`Delete the stack ${name}${lost}? [y/N] `);
  terminal.close();
  if (!/^y(es)?$/i.test(answer.trim())) throw new DeployError("nothing was deleted");
}

function ofType(resources: readonly StackResource[], type: string): string[] {
  return resources
    .filter((one) => one.ResourceType === type && one.ResourceStatus !== "DELETE_COMPLETE")
    .map(({ PhysicalResourceId }) => PhysicalResourceId ?? "");
}

/** CloudFormation only makes task definitions inactive; they would stay for ever. */
async function deleteDefinitions({ ecs }: Clients, stack: string): Promise<void> {
  for (const role of ["scheduler", "worker", "controller", "notebook"]) {
    const familyPrefix = `${stack}-${role}`;
    const found = await ecs.send(new ListTaskDefinitionsCommand({ familyPrefix, status: "INACTIVE" }));
    // A prefix also finds the families of a stack with a longer name.
    const own = (found.taskDefinitionArns ?? []).filter((arn) => familyOf(arn) === familyPrefix);
    for (let at = 0; at < own.length; at += DEFINITIONS_PER_CALL) {
      const taskDefinitions = own.slice(at, at + DEFINITIONS_PER_CALL);
      await ecs.send(new DeleteTaskDefinitionsCommand({ taskDefinitions }));
    }
  }
}

function familyOf(arn: string): string {
  return (arn.split("/").at(-1) ?? "").replace(/:\d+$/, "");
}

/** Container Insights makes a log group of its own, outside the stack. */
async function deleteInsights({ logs }: Clients, stack: Stack): Promise<void> {
  const cluster = outputsOf(stack).get("ClusterName");
  if (cluster === undefined) return;
  const logGroupNamePrefix = `/aws/ecs/containerinsights/${cluster}/`;
  const groups = (await logs.send(new DescribeLogGroupsCommand({ logGroupNamePrefix }))).logGroups ?? [];
  for (const { logGroupName } of groups) await logs.send(new DeleteLogGroupCommand({ logGroupName }));
}

async function leftovers({ ecr }: Clients, resources: readonly StackResource[]): Promise<string[]> {
  const lines: string[] = [];
  const repository = await findRepository(ecr, DEFAULT_REPOSITORY);
  if (repository !== undefined) {
    lines.push(
      `Left: the images in ${repository}, which other clusters may use; \`dask-ts deploy image remove\` deletes them.`,
    );
  }
  for (const notebook of ofType(resources, "AWS::SageMaker::NotebookInstance")) {
    const name = notebook.split("/").at(-1);
    lines.push(`Left: SageMaker's own log of ${name} in /aws/sagemaker/NotebookInstances, which all notebooks share.`);
  }
  return lines;
}
