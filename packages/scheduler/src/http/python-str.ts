/** Python's `str()` of a worker's name. */
import { pythonRepr, type Value } from "@dask-ts/protocol";

export function pythonStr(value: Value): string {
  return typeof value === "string" ? value : pythonRepr(value);
}
