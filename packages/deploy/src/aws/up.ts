/** `dask-ts deploy aws KIND up`: makes the stack, or changes it to what the options say. */
import { readFileSync } from "node:fs";
import {
  type CloudFormationClient,
  CreateStackCommand,
  type Parameter,
  type Stack,
  UpdateStackCommand,
} from "@aws-sdk/client-cloudformation";
import { DeployError, progress, result } from "../command.ts";
import { pushedImage } from "../image/registry.ts";
import { packageVersion } from "../version.ts";
import { type Clients, openClients } from "./clients.ts";
import { type Kind, PARAMETER_OPTIONS, templatePath } from "./kinds.ts";
import { findPlace } from "./network.ts";
import { addressLines, WORKER_SERVICE } from "./report.ts";
import { servicesOf, waitForServices } from "./services.ts";
import { findStack, outputsOf, parametersOf, waitForStack } from "./stack.ts";

/** Time for images to be pulled and tasks to become healthy, after the stack is there. */
const SERVICES_TIMEOUT_MS = 15 * 60_000;

export interface UpFlags {
  readonly name: string;
  readonly region?: string;
  readonly image?: string;
  readonly subnets?: string;
  readonly spot?: boolean;
  readonly autoscale?: boolean;
  readonly bucket: readonly string[];
  readonly parameter: readonly string[];
  /** What {@link PARAMETER_OPTIONS} names, by the option's name in camel case. */
  readonly [option: string]: unknown;
}

export async function up(kind: Kind, flags: UpFlags): Promise<void> {
  const clients = openClients(flags.region);
  const { stacks, ecs } = clients;
  const existing = await findStack(stacks, flags.name);
  if (existing === undefined) checkName(kind, flags.name);
  else refuseBroken(existing);
  const given = givenParameters(kind, flags);
  const parameters =
    existing === undefined
      ? await parametersForNew(kind, flags, given, clients)
      : await parametersForChange(existing, given, clients);
  const template = readFileSync(templatePath(kind), "utf8");
  const since = new Date(Date.now() - 1000);
  const request = {
    StackName: flags.name,
    TemplateBody: template,
    Parameters: parameters,
    Capabilities: ["CAPABILITY_IAM" as const],
    Tags: [{ Key: "dask-ts", Value: kind }],
  };
  let id = existing?.StackId;
  if (existing === undefined) {
    progress(`Making the stack ${flags.name} …`);
    id = (await stacks.send(new CreateStackCommand(request))).StackId;
  } else {
    progress(`Changing the stack ${flags.name} …`);
    await change(stacks, request);
  }
  const stack = await waitForStack(stacks, id ?? flags.name, since);
  const outputs = outputsOf(stack);
  progress("Starting the tasks …");
  await waitForServices(ecs, outputs.get("ClusterName") ?? "", SERVICES_TIMEOUT_MS);
  for (const line of await addressLines(clients, outputs)) result(line);
}

/**
 * The capacity provider's name begins with the stack's, and ECS keeps these beginnings for itself: the stack would fail
 * after minutes, and roll back.
 */
function checkName(kind: Kind, name: string): void {
  const reserved = /^(aws|ecs|fargate)/i.exec(name);
  if (kind === "ec2" && reserved !== null) {
    throw new DeployError(
      `the name of an ec2 cluster cannot begin with '${reserved[0]}' (ECS keeps that): not '${name}'`,
    );
  }
}

/** A stack whose creation failed can only be deleted. */
function refuseBroken({ StackName, StackStatus }: Stack): void {
  if (StackStatus === "ROLLBACK_COMPLETE" || StackStatus?.endsWith("_FAILED") === true) {
    throw new DeployError(`the stack ${StackName} is ${StackStatus}: run \`down\` first`);
  }
  if (StackStatus?.endsWith("_IN_PROGRESS") === true) {
    throw new DeployError(`the stack ${StackName} is ${StackStatus}: wait until that has ended`);
  }
}

async function change(
  stacks: CloudFormationClient,
  request: ConstructorParameters<typeof UpdateStackCommand>[0],
): Promise<void> {
  try {
    await stacks.send(new UpdateStackCommand(request));
  } catch (error) {
    if (!(error instanceof Error) || !/No updates are to be performed/.test(error.message)) throw error;
    progress("  nothing to change");
  }
}

/** What the options say, by the template's names. @throws {DeployError} for a --parameter without a value. */
function givenParameters(kind: Kind, flags: UpFlags): Map<string, string> {
  const given = new Map<string, string>();
  for (const { flag, parameter, kinds } of PARAMETER_OPTIONS) {
    const value = flags[optionName(flag)];
    if (kinds.includes(kind) && typeof value === "string") given.set(parameter, value);
  }
  if (flags.image !== undefined) given.set("Image", flags.image);
  if (flags.spot !== undefined) given.set("Spot", flags.spot ? "YES" : "NO");
  if (flags.autoscale !== undefined) given.set("Autoscale", flags.autoscale ? "YES" : "NO");
  if (flags.bucket.length > 0) given.set("DataBucketArns", flags.bucket.map(bucketArn).join(","));
  const cores = Math.floor(Number(given.get("WorkerCpu")) / 1024);
  if (given.has("WorkerCpu") && !given.has("WorkerThreads")) given.set("WorkerThreads", String(Math.max(1, cores)));
  for (const text of flags.parameter) {
    const at = text.indexOf("=");
    if (at < 1) throw new DeployError(`--parameter takes Name=Value, not '${text}'`);
    given.set(text.slice(0, at), text.slice(at + 1));
  }
  return given;
}

/** `--worker-cpu <units>` is `workerCpu`. */
export function optionName(flag: string): string {
  const [name] = flag.replace(/^--/, "").split(" ");
  return (name ?? "").replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase());
}

function bucketArn(bucket: string): string {
  return bucket.startsWith("arn:") ? bucket : `arn:aws:s3:::${bucket}`;
}

async function parametersForNew(
  kind: Kind,
  flags: UpFlags,
  given: Map<string, string>,
  { ecr, ec2 }: Clients,
): Promise<Parameter[]> {
  if (!given.has("Image")) given.set("Image", await defaultImage(ecr));
  if (kind === "ec2" && !given.has("NotebookImage")) {
    const notebook = await pushedImage(ecr, packageVersion(), "-notebook");
    if (notebook !== undefined) given.set("NotebookImage", notebook);
  }
  if (kind !== "workshop") await setPlace(kind, flags, given, ec2);
  return [...given].map(([ParameterKey, ParameterValue]) => ({ ParameterKey, ParameterValue }));
}

async function defaultImage(ecr: Clients["ecr"]): Promise<string> {
  const image = await pushedImage(ecr, packageVersion());
  if (image === undefined) {
    throw new DeployError(
      "there is no image: push one with `dask-ts deploy image push`, or name one with --image user/name:tag",
    );
  }
  progress(`Image: ${image}`);
  return image;
}

async function setPlace(kind: Kind, flags: UpFlags, given: Map<string, string>, ec2: Clients["ec2"]): Promise<void> {
  let subnets: readonly string[] | undefined = flags.subnets?.split(",").map((one) => one.trim());
  if (subnets === undefined || !given.has("VpcId")) {
    if (subnets !== undefined) throw new DeployError("--subnets needs --vpc");
    const place = await findPlace(ec2, given.get("VpcId"));
    given.set("VpcId", place.vpc);
    subnets = place.subnets;
    progress(`VPC: ${place.vpc}, subnets: ${subnets.join(", ")}`);
  }
  if (kind === "fargate") {
    given.set("Subnets", subnets.join(","));
    return;
  }
  const [a, b] = subnets;
  if (a === undefined || b === undefined) throw new DeployError("the ec2 cluster needs two subnets in two zones");
  given.set("SubnetA", a).set("SubnetB", b);
}

/** What is not given stays, the number of workers included: it is what they were last scaled to. */
async function parametersForChange(stack: Stack, given: Map<string, string>, { ecs }: Clients): Promise<Parameter[]> {
  const cluster = outputsOf(stack).get("ClusterName");
  if (!given.has("Workers") && cluster !== undefined) {
    const workers = (await servicesOf(ecs, cluster)).find(({ serviceName }) => serviceName === WORKER_SERVICE);
    if (workers?.desiredCount !== undefined) given.set("Workers", String(workers.desiredCount));
  }
  const kept = [...parametersOf(stack).keys()].filter((name) => !given.has(name));
  return [
    ...[...given].map(([ParameterKey, ParameterValue]) => ({ ParameterKey, ParameterValue })),
    ...kept.map((ParameterKey) => ({ ParameterKey, UsePreviousValue: true })),
  ];
}
