/** The entry point of `dask-ts`, and of `dask-scheduler`, `dask-worker`, `dask-spec` and `dask-ssh`, which are its sub-commands. */
import { PythonNotFoundError } from "@dask-ts/protocol";
import type { Command } from "commander";
import { command } from "./flags.ts";
import { flushStderr } from "./stderr.ts";
import { VERSION } from "./version.ts";
import { UsageError } from "./worker-layout.ts";

/** Only the command that runs is loaded: a worker needs no scheduler. */
const COMMANDS: { readonly [name: string]: () => Promise<Command> } = {
  scheduler: async () => (await import("./scheduler-command.ts")).schedulerCommand(),
  worker: async () => (await import("./worker-command.ts")).workerCommand(),
  config: async () => (await import("./config-command.ts")).configCommand(),
  ssh: async () => (await import("./ssh-command.ts")).sshCommand(),
  spec: async () => (await import("./spec-command.ts")).specCommand(),
  cluster: async () => (await import("./cluster-command.ts")).clusterCommand(),
  deploy: async () => (await import("@dask-ts/deploy")).deployCommand(),
  "scale-workers": async () => (await import("@dask-ts/deploy")).scaleWorkersCommand(),
};

try {
  const program = command("dask-ts")
    .description("Dask's scheduler and worker, native. Clients, workers and deployers of stock Dask connect unchanged.")
    .version(VERSION, "--version", "Show the version and exit.");
  const wanted = COMMANDS[process.argv[2] ?? ""];
  for (const load of wanted === undefined ? Object.values(COMMANDS) : [wanted]) {
    program.addCommand((await load()).version(VERSION, "--version", "Show the version and exit."));
  }
  await program.parseAsync();
  await flushStderr();
  // Whatever still listens or runs belongs to a command that has ended.
  process.exit();
} catch (error) {
  const expected = error instanceof UsageError || error instanceof PythonNotFoundError || isSystemError(error);
  process.stderr.write(`${expected ? `Error: ${(error as Error).message}` : ((error as Error).stack ?? error)}\n`);
  process.exit(1);
}

/** A port in use, a file that cannot be written: the message says enough. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && "code" in error && typeof error.code === "string";
}
