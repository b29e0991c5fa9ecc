/** The three clusters on AWS: their templates, and which option sets which parameter. */
import { fileURLToPath } from "node:url";

export const KINDS = ["fargate", "workshop", "ec2"] as const;
export type Kind = (typeof KINDS)[number];

/** The repository's `deploy/`, from `src/aws/` as from `dist/aws/`. */
export const DEPLOY_FOLDER: string = fileURLToPath(new URL("../../../../deploy/", import.meta.url));

const TEMPLATES: { readonly [kind in Kind]: string } = {
  fargate: "fargate-private.yaml",
  workshop: "workshop.yaml",
  ec2: "ec2-efs.yaml",
};

export const SUMMARIES: { readonly [kind in Kind]: string } = {
  fargate: "Fargate in a VPC that you have",
  workshop: "Fargate with a VPC, and a notebook, of its own",
  ec2: "EC2 instances with a shared file system, in a VPC that you have",
};

export function templatePath(kind: Kind): string {
  return `${DEPLOY_FOLDER}cloudformation/${TEMPLATES[kind]}`;
}

export function defaultStackName(kind: Kind): string {
  return `dask-${kind}`;
}

interface ParameterOption {
  /** As commander has it. */
  readonly flag: string;
  readonly parameter: string;
  readonly description: string;
  readonly kinds: readonly Kind[];
}

const ALL = KINDS;

/** Options that set one parameter of the template to their value. */
export const PARAMETER_OPTIONS: readonly ParameterOption[] = [
  {
    flag: "--vpc <id>",
    parameter: "VpcId",
    description: "The VPC [default: the one with private subnets]",
    kinds: ["fargate", "ec2"],
  },
  { flag: "--workers <n>", parameter: "Workers", description: "Worker tasks at the start", kinds: ALL },
  { flag: "--worker-cpu <units>", parameter: "WorkerCpu", description: "1024 is one core", kinds: ALL },
  { flag: "--worker-memory <mib>", parameter: "WorkerMemory", description: "MiB", kinds: ALL },
  { flag: "--worker-threads <n>", parameter: "WorkerThreads", description: "Threads of each worker", kinds: ALL },
  { flag: "--scheduler-cpu <units>", parameter: "SchedulerCpu", description: "1024 is one core", kinds: ALL },
  { flag: "--scheduler-memory <mib>", parameter: "SchedulerMemory", description: "MiB", kinds: ALL },
  { flag: "--minimum <n>", parameter: "MinimumWorkers", description: "Workers at least, with --autoscale", kinds: ALL },
  { flag: "--maximum <n>", parameter: "MaximumWorkers", description: "Workers at most, with --autoscale", kinds: ALL },
  {
    flag: "--target-duration <time>",
    parameter: "TargetDuration",
    description: "What autoscaling aims at",
    kinds: ALL,
  },
  { flag: "--namespace <name>", parameter: "Namespace", description: "Private DNS namespace", kinds: ALL },
  {
    flag: "--extra-pip-packages <names>",
    parameter: "ExtraPipPackages",
    description: "Installed at each start",
    kinds: ALL,
  },
  { flag: "--log-retention <days>", parameter: "LogRetention", description: "Days that logs are kept", kinds: ALL },
  {
    flag: "--allowed-ip-range <cidr>",
    parameter: "AllowedIpRange",
    description: "Who may open the dashboard (workshop) or the notebook (ec2)",
    kinds: ["workshop", "ec2"],
  },
  {
    flag: "--client-security-group <id>",
    parameter: "ClientSecurityGroupId",
    description: "A group whose members may connect",
    kinds: ["fargate", "ec2"],
  },
  {
    flag: "--notebook-type <type>",
    parameter: "NotebookInstanceType",
    description: "Instance type of the notebook",
    kinds: ["workshop"],
  },
  {
    flag: "--notebook-repository <url>",
    parameter: "NotebookRepository",
    description: "Git repository in the notebook",
    kinds: ["workshop"],
  },
  {
    flag: "--notebook-image <image>",
    parameter: "NotebookImage",
    description: "The image's notebook variant",
    kinds: ["ec2"],
  },
  { flag: "--instance-type <type>", parameter: "InstanceType", description: "Type of the instances", kinds: ["ec2"] },
  { flag: "--maximum-instances <n>", parameter: "MaximumInstances", description: "Instances at most", kinds: ["ec2"] },
];
