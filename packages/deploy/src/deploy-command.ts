/** `dask-ts deploy`: clusters on AWS and images; the AWS SDK is loaded when a command runs. */
import type { Command } from "commander";
import { defaultStackName, KINDS, type Kind, PARAMETER_OPTIONS, SUMMARIES } from "./aws/kinds.ts";
import type { LogsFlags, ScaleFlags, StackFlags } from "./aws/operate.ts";
import type { CleanUpFlags } from "./aws/clean-up.ts";
import type { DownFlags } from "./aws/down.ts";
import type { UpFlags } from "./aws/up.ts";
import { attempt, collect, command, wholeNumber } from "./command.ts";
import type { ImageFlags } from "./image/image.ts";
import type { RedirectFlags } from "./redirect.ts";

export function deployCommand(): Command {
  return command("deploy")
    .description("Launch a cluster on AWS, build and push its image.")
    .addCommand(awsCommand())
    .addCommand(imageCommand())
    .addCommand(redirectCommand());
}

function redirectCommand(): Command {
  return command("redirect")
    .description("Let `python -m distributed.cli.dask_worker` and the like of a Python start dask-ts, as in the image.")
    .argument("<python>", "the interpreter, like .venv/bin/python")
    .option("--remove", "Undo it")
    .action(async (python: string, flags: RedirectFlags) => {
      await attempt(async () => (await import("./redirect.ts")).redirect(python, flags));
    });
}

function awsCommand(): Command {
  const aws = command("aws").description("Clusters on AWS, from the templates in deploy/cloudformation.");
  for (const kind of KINDS) aws.addCommand(kindCommand(kind));
  aws.addCommand(
    region(command("clean-up"))
      .description("Delete what dask_cloudprovider's FargateCluster and ECSCluster leave behind.")
      .option("--dry-run", "Only say what would be deleted")
      .option("--running", "Also clusters in which tasks still run")
      .action(async (flags: CleanUpFlags) => {
        await attempt(async () => await (await import("./aws/clean-up.ts")).cleanUp(flags));
      }),
  );
  return aws;
}

function region(target: Command): Command {
  return target.option("--region <region>", "AWS region [default: that of the environment]");
}

function kindCommand(kind: Kind): Command {
  const stack = (name: string): Command =>
    region(command(name)).option("--name <name>", "Name of the stack", defaultStackName(kind));
  return command(kind)
    .description(`${SUMMARIES[kind]}.`)
    .addCommand(upCommand(kind, stack("up")))
    .addCommand(
      stack("status")
        .description("What runs, what stopped and why, and the addresses.")
        .action(async (flags: StackFlags) => {
          await attempt(async () => await (await import("./aws/operate.ts")).status(flags));
        }),
    )
    .addCommand(
      stack("scale")
        .description("Set the number of workers and wait for them.")
        .argument("[workers]", "how many", wholeNumber)
        .option("--scheduler <n>", "0 stops the scheduler, 1 starts it", wholeNumber)
        .option("--no-wait", "Do not wait")
        .action(async (workers: number | undefined, flags: ScaleFlags) => {
          await attempt(async () => await (await import("./aws/operate.ts")).scale(workers, flags));
        }),
    )
    .addCommand(
      stack("logs")
        .description("Print the logs of the scheduler, the workers, the controller or the notebook.")
        .argument("[of]", "scheduler, workers, controller or notebook", "scheduler")
        .option("--since <time>", "How far back", "1h")
        .option("--follow", "Go on until interrupted")
        .action(async (of: string, flags: LogsFlags) => {
          await attempt(async () => await (await import("./aws/operate.ts")).showLogs(of, flags));
        }),
    )
    .addCommand(
      stack("url")
        .description("Print the addresses, and the ways in.")
        .action(async (flags: StackFlags) => {
          await attempt(async () => await (await import("./aws/operate.ts")).url(flags));
        }),
    )
    .addCommand(
      stack("down")
        .description("Delete the cluster, and tell what is left and why.")
        .option("--yes", "Do not ask")
        .action(async (flags: DownFlags) => {
          await attempt(async () => await (await import("./aws/down.ts")).down(flags));
        }),
    );
}

function upCommand(kind: Kind, up: Command): Command {
  up.description("Make the cluster, or change it to what the options say.")
    .option("--image <image>", "Image for every role [default: the one that `deploy image push` pushed]")
    .option("--spot", "Workers on spare capacity, which AWS may take back")
    .option("--no-spot", "Workers on ordinary capacity")
    .option("--autoscale", "Scale the workers on the scheduler's wish")
    .option("--no-autoscale", "Leave the number of workers alone")
    .option("--bucket <name>", "S3 bucket that tasks may read, may be repeated", collect, [])
    .option("--parameter <name=value>", "Any parameter of the template, may be repeated", collect, []);
  if (kind !== "workshop") up.option("--subnets <ids>", "Private subnets, with commas [default: found]");
  for (const { flag, description, kinds } of PARAMETER_OPTIONS) {
    if (kinds.includes(kind)) up.option(flag, description);
  }
  return up.action(async (flags: UpFlags) => {
    await attempt(async () => await (await import("./aws/up.ts")).up(kind, flags));
  });
}

function imageCommand(): Command {
  const repository = (name: string): Command =>
    command(name).option("--repository <name>", "Repository, and name here", "dask-ts");
  const build = (name: string): Command =>
    repository(name)
      .option("--tag <tag>", "Tag [default: the version, and latest]")
      .option("--target <stage>", "Variant: notebook")
      .option("--platform <platform>", "Like linux/amd64; AWS runs what the task definition says")
      .option("--build-arg <name=value>", "PYTHON_VERSION, DISTRIBUTED_VERSION, …, may be repeated", collect, [])
      .option("--engine <command>", "docker, or a command that takes its arguments", "docker");
  return command("image")
    .description("The container image of this checkout.")
    .addCommand(
      build("build")
        .description("Build it.")
        .action(async (flags: ImageFlags) => {
          await attempt(async () => void (await (await import("./image/image.ts")).buildImage(flags)));
        }),
    )
    .addCommand(
      region(build("push"))
        .description(
          "Build it and push it to the account's registry, ECR, whose repository is made where there is none.",
        )
        .action(async (flags: ImageFlags) => {
          await attempt(async () => await (await import("./image/image.ts")).pushImage(flags));
        }),
    )
    .addCommand(
      region(repository("remove"))
        .description("Delete the repository in ECR with all its images.")
        .action(async (flags: ImageFlags) => {
          await attempt(async () => await (await import("./image/image.ts")).removeImages(flags));
        }),
    );
}
