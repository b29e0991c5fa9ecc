/** How a Python child comes to be: a process of its own. `fork-server.ts` has the other way. */
import { spawn } from "node:child_process";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import { extendedPythonPath } from "./package-path.ts";

/** What is launched. */
export interface LaunchOptions {
  /** The interpreter. */
  readonly python: string;
  /** The module to run: `dask_ts.graph_host`, `dask_ts.executor`. */
  readonly module: string;
  readonly args?: readonly string[];
  /** Added to this process's environment; `undefined` takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
}

/** How a child ended: a code, or the name of a signal. */
export interface ChildEnd {
  readonly code: number | null;
  readonly signal: string | null;
}

/** A child, and the ends of it that are here. */
export interface Launched {
  readonly pid: number;
  readonly socket: Socket;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Resolves when the process is gone and all that it wrote is read. */
  readonly ended: Promise<ChildEnd>;
  /** SIGKILL. Nothing happens where it is gone. */
  kill(): void;
  /** Lets this process end before the child. */
  unref(): void;
}

/**
 * Starts a process.
 *
 * @throws {Error} of `spawn`, where the interpreter cannot be started.
 */
export async function launchProcess(options: LaunchOptions): Promise<Launched> {
  const child = spawn(options.python, ["-m", options.module, ...(options.args ?? [])], {
    stdio: ["ignore", "pipe", "pipe", "pipe"],
    env: childEnvironment(options.env),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  // "close" comes after all output is read, so that the last words of the child are in the log before its end
  const ended = new Promise<ChildEnd>((resolve) => child.once("close", (code, signal) => resolve({ code, signal })));
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("spawn", resolve);
  });
  child.on("error", () => {}); // a signal that could not be sent: the process is gone
  return {
    pid: child.pid ?? -1,
    socket: child.stdio[3] as Socket,
    stdout: child.stdout as Readable,
    stderr: child.stderr as Readable,
    ended,
    kill: () => {
      child.kill("SIGKILL");
    },
    unref: () => {
      child.unref();
      for (const stream of child.stdio.slice(1)) (stream as Socket).unref();
    },
  };
}

/** The variables of a child. */
export function childEnvironment(added: LaunchOptions["env"]): NodeJS.ProcessEnv {
  const env: NodeJS.ProcessEnv = { ...process.env, ...added };
  const path = extendedPythonPath(env.PYTHONPATH);
  if (path !== undefined) env.PYTHONPATH = path;
  // lets the child see that its parent died before it could ask the kernel to tell it
  env.DASK_TS_PARENT_PID = String(process.pid);
  for (const name of Object.keys(env)) if (env[name] === undefined) delete env[name];
  return env;
}
