/** Starts executors that are Python children. */
import {
  type Config,
  ForkServer,
  INHERIT_VARIABLE,
  type Launched,
  type LaunchOptions,
  launchProcess,
} from "@dask-ts/protocol";
import { PythonExecutor } from "../executor/python-executor.ts";
import type { StartExecutor } from "./options.ts";

export interface PythonStarterOptions {
  /** The interpreter; see `findPython`. */
  readonly python: string;
  /** This process's configuration, so that flags (TLS certificates among them) hold in the child too. */
  readonly config?: Config;
  /** Whether several executors will be started: then they are forked from one process. Default false. */
  readonly shared?: boolean;
  /** Where the lines go that tasks print; by default to the same stream of this process. */
  readonly onLine?: (stream: "stdout" | "stderr", line: string) => void;
}

/** A {@link StartExecutor} for a worker's options. */
export function pythonStarter(options: PythonStarterOptions): StartExecutor {
  const { python, config, onLine, shared = false } = options;
  const launch = shared ? forkLauncher() : launchProcess;
  const inherited = config === undefined ? {} : { [INHERIT_VARIABLE]: config.serialize() };
  return (spec, events) =>
    PythonExecutor.start(
      {
        python,
        launch,
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

/**
 * Launches from one fork server, which the first launch starts. A child whose variables differ from those of the first
 * is a process of its own: imports may have read them.
 */
function forkLauncher(): (options: LaunchOptions) => Promise<Launched> {
  let server: Promise<ForkServer> | undefined;
  let variables = "";
  return async (options) => {
    const wanted = JSON.stringify(options.env ?? {});
    if (server === undefined) {
      variables = wanted;
      server = ForkServer.start(options);
      // the next launch tries again
      server.catch(() => {
        server = undefined;
      });
    }
    if (wanted !== variables) return launchProcess(options);
    const found = await server;
    if (found.alive) return found.fork({});
    server = undefined;
    return launchProcess(options);
  };
}
