/** Where the Python package of the product (`packages/python`) lies. */
import { existsSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * The folder to put on PYTHONPATH, or undefined where `dask_ts` is not beside this code (then it must be installed in
 * the Python environment). It is looked for in the folders above this file, so that `src/`, `dist/` and bundles work.
 */
export function pythonPackageDirectory(): string | undefined {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    for (const candidate of [join(folder, "packages", "python"), join(folder, "python")]) {
      if (existsSync(join(candidate, "dask_ts", "bridge.py"))) return candidate;
    }
    const parent = dirname(folder);
    if (parent === folder) return undefined;
    folder = parent;
  }
}

/** PYTHONPATH with the product's own package in front of what was there. */
export function extendedPythonPath(current: string | undefined): string | undefined {
  const own = pythonPackageDirectory();
  if (own === undefined) return current;
  return current === undefined || current === "" ? own : `${own}${delimiter}${current}`;
}
