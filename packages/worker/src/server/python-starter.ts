/** Starts executors that are Python children. */
import { type Config, INHERIT_VARIABLE } from "@dask-ts/protocol";
import { PythonExecutor } from "../executor/python-executor.ts";
import type { StartExecutor } from "./options.ts";

export interface PythonStarterOptions {
  /** The interpreter; see `findPython`. */
  readonly python: string;
  /** This process's configuration, so that flags (TLS certificates among them) hold in the child too. */
  readonly config?: Config;
  /** Where the lines go that tasks print; by default to the same stream of this process. */
  readonly onLine?: (stream: "stdout" | "stderr", line: string) => void;
}

/** A {@link StartExecutor} for a worker's options. */
export function pythonStarter(options: PythonStarterOptions): StartExecutor {
  const { python, config, onLine } = options;
  const inherited = config === undefined ? {} : { [INHERIT_VARIABLE]: config.serialize() };
  return (spec, events) =>
    PythonExecutor.start(
      {
        python,
        ...(onLine === undefined ? {} : { onLine }),
        address: spec.address,
        scheduler: spec.schedulerAddress,
        name: spec.name,
        nthreads: spec.nthreads,
        localDirectory: spec.localDirectory,
        resources: spec.resources,
        memoryLimit: spec.memoryLimit,
        preload: spec.preload,
        preloadArgv: spec.preloadArgv,
        nanny: spec.nanny,
        security: spec.security,
        env: { ...inherited, ...spec.environment },
      },
      events,
    );
}
