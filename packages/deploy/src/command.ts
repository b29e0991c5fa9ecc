/** What all commands of this package share: usage errors as click has them, failures as one line, progress on stderr. */
import { Command, InvalidArgumentError } from "commander";

// The SDK's newer releases want a newer Node; this one is pinned, and says so on every run otherwise.
process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] ??= "true";

/** click exits with 2 for unknown options and unexpected arguments. */
const USAGE_EXIT_CODE = 2;

/** Something that its reader can put right: shown without a stack. */
export class DeployError extends Error {
  override readonly name = "DeployError";
}

export function command(name: string): Command {
  return new Command(name)
    .allowExcessArguments(false)
    .showHelpAfterError(`Try '${name} --help' for help.`)
    .exitOverride((error) => {
      process.exit(error.exitCode === 0 ? 0 : USAGE_EXIT_CODE);
    });
}

/** Runs a command's work; a failure that the service or the user explains is one line and exit code 1. */
export async function attempt(work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!isExplained(error)) throw error;
    process.stderr.write(`Error: ${error.message}\n`);
    process.exitCode = 1;
  }
}

/** Ours, and those of the AWS SDK: refused requests, missing credentials, an unknown region. */
function isExplained(error: unknown): error is Error {
  if (!(error instanceof Error)) return false;
  if (error instanceof DeployError || error instanceof RangeError || "$metadata" in error || "code" in error)
    return true;
  return ["CredentialsProviderError", "ConfigError"].includes(error.name) || error.message === "Region is missing";
}

export function wholeNumber(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value)) {
    throw new InvalidArgumentError(`'${text}' is not a whole number.`);
  }
  return value;
}

/** For options that may be given several times. */
export function collect(value: string, previous: readonly string[]): string[] {
  return [...previous, value];
}

/** What is being done; results go to stdout, so that they can be piped. */
export function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}

export function result(line: string): void {
  process.stdout.write(`${line}\n`);
}
