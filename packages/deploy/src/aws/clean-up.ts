/**
 * `dask-ts deploy aws clean-up`: deletes what dask_cloudprovider's FargateCluster and ECSCluster leave behind. Their
 * finalizers run after their event loop is closed, so that clusters, roles, security groups and task definitions stay
 * until the next cluster is started; they are found by the tags that the library sets.
 */
import { DeleteSecurityGroupCommand, DescribeSecurityGroupsCommand, type SecurityGroup } from "@aws-sdk/client-ec2";
import {
  type Cluster,
  DeleteClusterCommand,
  DeleteTaskDefinitionsCommand,
  DeregisterTaskDefinitionCommand,
  DescribeClustersCommand,
  DescribeTaskDefinitionCommand,
  paginateListClusters,
  paginateListTaskDefinitions,
  StopTaskCommand,
} from "@aws-sdk/client-ecs";
import {
  DeleteRoleCommand,
  DetachRolePolicyCommand,
  ListAttachedRolePoliciesCommand,
  ListRoleTagsCommand,
  paginateListRoles,
} from "@aws-sdk/client-iam";
import { result } from "../command.ts";
import { type Clients, openClients } from "./clients.ts";
import { tasksOf } from "./services.ts";

const CREATED_BY = "dask-cloudprovider";
const CLUSTERS_PER_CALL = 100;

export interface CleanUpFlags {
  readonly region?: string;
  /** Only say what would be deleted. */
  readonly dryRun?: boolean;
  /** Also clusters in which tasks run. */
  readonly running?: boolean;
}

/** ECS writes tags with small letters, EC2 and IAM with capitals. */
interface Tag {
  readonly key?: string | undefined;
  readonly value?: string | undefined;
  readonly Key?: string | undefined;
  readonly Value?: string | undefined;
}
type Tags = readonly Tag[];

export async function cleanUp(flags: CleanUpFlags): Promise<void> {
  const clients = openClients(flags.region);
  const active = await clearClusters(clients, flags);
  // What belongs to a cluster that goes on has its name as a tag.
  const isLeft = (tags: Tags | undefined): boolean =>
    tagOf(tags, "createdBy") === CREATED_BY && !active.has(tagOf(tags, "cluster") ?? "");
  const deleted = [
    await clearDefinitions(clients, isLeft, flags),
    await clearGroups(clients, isLeft, flags),
    await clearRoles(clients, isLeft, flags),
  ];
  if (active.size > 0) result(`Left: ${[...active].join(", ")}, where tasks run (--running stops them).`);
  if (deleted.every((count) => count === 0)) result("Nothing else was left behind.");
}

function tagOf(tags: Tags | undefined, name: string): string | undefined {
  const found = tags?.find((one) => (one.key ?? one.Key) === name);
  return found?.value ?? found?.Value;
}

/** @returns the names of clusters that go on. */
async function clearClusters(clients: Clients, flags: CleanUpFlags): Promise<Set<string>> {
  const { ecs } = clients;
  const arns: string[] = [];
  for await (const page of paginateListClusters({ client: ecs }, {})) arns.push(...(page.clusterArns ?? []));
  const active = new Set<string>();
  for (let at = 0; at < arns.length; at += CLUSTERS_PER_CALL) {
    const request = new DescribeClustersCommand({
      clusters: arns.slice(at, at + CLUSTERS_PER_CALL),
      include: ["TAGS"],
    });
    for (const cluster of (await ecs.send(request)).clusters ?? []) {
      if (cluster.status === "INACTIVE" || tagOf(cluster.tags, "createdBy") !== CREATED_BY) continue;
      if (!(await clearCluster(clients, cluster, flags))) active.add(cluster.clusterName ?? "");
    }
  }
  return active;
}

/** @returns whether the cluster is gone. */
async function clearCluster({ ecs }: Clients, cluster: Cluster, flags: CleanUpFlags): Promise<boolean> {
  const name = cluster.clusterName ?? "";
  const tasks = (await tasksOf(ecs, name)).filter(({ lastStatus }) => lastStatus !== "STOPPED");
  if (tasks.length > 0) {
    if (flags.running !== true) return false;
    for (const { taskArn } of tasks) {
      if (flags.dryRun !== true) await ecs.send(new StopTaskCommand({ cluster: name, task: taskArn }));
      tell(flags, `task ${taskArn}`);
    }
  }
  if (flags.dryRun !== true) await ecs.send(new DeleteClusterCommand({ cluster: name }));
  tell(flags, `cluster ${name}`);
  return true;
}

type IsLeft = (tags: Tags | undefined) => boolean;

async function clearDefinitions({ ecs }: Clients, isLeft: IsLeft, flags: CleanUpFlags): Promise<number> {
  const left: string[] = [];
  // The library names its families so; each other one would cost a request.
  for await (const page of paginateListTaskDefinitions({ client: ecs }, { status: "ACTIVE" })) {
    for (const arn of page.taskDefinitionArns ?? []) {
      if (!/\/dask-.*-(scheduler|worker):\d+$/.test(arn)) continue;
      const found = await ecs.send(new DescribeTaskDefinitionCommand({ taskDefinition: arn, include: ["TAGS"] }));
      if (isLeft(found.tags)) left.push(arn);
    }
  }
  for (const arn of left) {
    if (flags.dryRun !== true) {
      await ecs.send(new DeregisterTaskDefinitionCommand({ taskDefinition: arn }));
      await ecs.send(new DeleteTaskDefinitionsCommand({ taskDefinitions: [arn] }));
    }
    tell(flags, `task definition ${arn.split("/").at(-1)}`);
  }
  return left.length;
}

async function clearGroups({ ec2 }: Clients, isLeft: IsLeft, flags: CleanUpFlags): Promise<number> {
  const Filters = [{ Name: "tag:createdBy", Values: [CREATED_BY] }];
  const found = (await ec2.send(new DescribeSecurityGroupsCommand({ Filters }))).SecurityGroups ?? [];
  const left = found.filter((group: SecurityGroup) => isLeft(group.Tags));
  for (const { GroupId, GroupName } of left) {
    if (flags.dryRun !== true) await ec2.send(new DeleteSecurityGroupCommand({ GroupId }));
    tell(flags, `security group ${GroupName}`);
  }
  return left.length;
}

async function clearRoles({ iam }: Clients, isLeft: IsLeft, flags: CleanUpFlags): Promise<number> {
  const left: string[] = [];
  for await (const page of paginateListRoles({ client: iam }, {})) {
    for (const { RoleName } of page.Roles ?? []) {
      if (RoleName === undefined || !/^dask-.*-(execution|task)-role$/.test(RoleName)) continue;
      if (isLeft((await iam.send(new ListRoleTagsCommand({ RoleName }))).Tags)) left.push(RoleName);
    }
  }
  for (const RoleName of left) {
    if (flags.dryRun !== true) {
      const attached = (await iam.send(new ListAttachedRolePoliciesCommand({ RoleName }))).AttachedPolicies ?? [];
      for (const { PolicyArn } of attached) await iam.send(new DetachRolePolicyCommand({ RoleName, PolicyArn }));
      await iam.send(new DeleteRoleCommand({ RoleName }));
    }
    tell(flags, `role ${RoleName}`);
  }
  return left.length;
}

function tell({ dryRun }: CleanUpFlags, what: string): void {
  result(`${dryRun === true ? "Would delete" : "Deleted"} ${what}`);
}
