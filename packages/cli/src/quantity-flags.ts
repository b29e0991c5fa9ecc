/** Flags that are durations and sizes: what cannot be read is wrong usage, said in one sentence. */
import { parseMemoryLimit, parseTimedelta } from "@dask-ts/protocol";
import { UsageError } from "./worker-layout.ts";

/** Seconds; null where the flag was not given. @throws {UsageError} */
export function secondsOf(flag: string, text: string | undefined): number | null {
  return text === undefined ? null : checked(flag, () => parseTimedelta(text));
}

/** @throws {UsageError} where no worker could make a limit of it. */
export function checkMemoryLimit(text: string): void {
  checked("--memory-limit", () => parseMemoryLimit(text, 1, { memory: Number.POSITIVE_INFINITY, cores: 1 }));
}

function checked<T>(flag: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw new UsageError(`${flag}: ${(error as Error).message}`);
  }
}
