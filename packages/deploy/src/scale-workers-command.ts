/** `dask-ts scale-workers`: the flags; what it needs of AWS is loaded when it runs. */
import type { Command } from "commander";
import { attempt, command, wholeNumber } from "./command.ts";
import type { ScaleWorkersFlags } from "./scaling/run.ts";

export function scaleWorkersCommand(): Command {
  return command("scale-workers")
    .description("Keep an ECS service of workers at the number that the scheduler wishes for.")
    .argument("[scheduler]", "address of the scheduler, host:8786 [default: DASK_SCHEDULER_ADDRESS]")
    .requiredOption("--cluster <name>", "The ECS cluster")
    .requiredOption("--service <name>", "The service whose tasks are workers")
    .option("--region <region>", "AWS region [default: that of the environment]")
    .option("--minimum <n>", "Workers at least", wholeNumber, 0)
    .option("--maximum <n>", "Workers at most", wholeNumber, 10)
    .option("--interval <time>", "Time between two looks", "10s")
    .option("--target-duration <time>", "As many workers as would end the work at hand in this time", "60s")
    .option("--wait-count <n>", "Looks in a row that must wish for less before workers go", wholeNumber, 3)
    .option("--tls-ca-file <file>", "CA cert(s) file for TLS (in PEM format)")
    .option("--tls-cert <file>", "certificate file for TLS (in PEM format)")
    .option("--tls-key <file>", "private key file for TLS (in PEM format)")
    .action(async (scheduler: string | undefined, flags: ScaleWorkersFlags) => {
      const { runController } = await import("./scaling/run.ts");
      await attempt(async () => await runController(scheduler, flags));
    });
}
