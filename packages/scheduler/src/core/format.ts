/** Keys in log lines: a few of them, however many there are. */
import { formatKey, type Key } from "@dask-ts/protocol";

const SHOWN = 10;

export function formatKeys(keys: readonly Key[]): string {
  const shown = keys.slice(0, SHOWN).map((key) => formatKey(key));
  if (keys.length > SHOWN) shown.push(`… (${keys.length} in all)`);
  return shown.join(", ");
}
