/** Flags that several commands have, and how stock's click reports a wrong one. */
import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";

/** click exits with 2 for unknown options, missing files and unexpected arguments. */
const USAGE_EXIT_CODE = 2;

/** A command that reports wrong usage as click does. */
export function command(name: string): Command {
  return new Command(name)
    .allowExcessArguments(false)
    .showHelpAfterError(`Try '${name} --help' for help.`)
    .exitOverride((error) => {
      process.exit(error.exitCode === 0 ? 0 : USAGE_EXIT_CODE);
    });
}

/** A path that must exist (click.Path(exists=True)). */
function existingFile(path: string): string {
  if (!existsSync(path)) throw new InvalidArgumentError(`Path '${path}' does not exist.`);
  return resolve(path);
}

export function integer(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value)) throw new InvalidArgumentError(`'${text}' is not a valid integer.`);
  return value;
}

/** For flags that may be given several times. */
export function collect(value: string, previous: string[]): string[] {
  return [...previous, value];
}

/** Arguments after the flags belong to preload modules (distributed.preloading.validate_preload_argv). */
export function refuseStrayArguments(target: Command, argv: readonly string[], preload: readonly string[]): void {
  if (argv.length === 0 || preload.length > 0) return;
  const option = argv.find((argument) => argument.startsWith("-"));
  if (option !== undefined) target.error(`error: unknown option '${option}'`, { exitCode: USAGE_EXIT_CODE });
  target.error(
    `error: Got unexpected extra argument${argv.length > 1 ? "s" : ""}: (${argv.join(" ")}). ` +
      "If you intended these as values for a --preload module, list --preload before them.",
    { exitCode: USAGE_EXIT_CODE },
  );
}

/** The three files of a TLS set-up. */
export interface TlsFlags {
  readonly tlsCaFile?: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
}

export function tlsOptions(target: Command): Command {
  return target
    .option("--tls-ca-file <file>", "CA cert(s) file for TLS (in PEM format)", existingFile)
    .option("--tls-cert <file>", "certificate file for TLS (in PEM format)", existingFile)
    .option("--tls-key <file>", "private key file for TLS (in PEM format)", existingFile);
}

export function ownOptions(target: Command): Command {
  return target
    .option("--python <path>", "Python for graphs and tasks [default: DASK_TS_PYTHON, the active environment, python3]")
    .addOption(new Option("--log-format <format>", "text, json or auto (readable on a terminal, JSON otherwise)"));
}
