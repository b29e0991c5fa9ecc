/** How a Python child comes to be: a process of its own. `fork-server.ts` has the other way. */
import { type ChildProcess, spawn } from "node:child_process";
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
  /** The child takes sockets that are lent to it (`lent_sockets.py`). */
  readonly lending?: boolean;
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
  /** Resolves when the process is gone and what it wrote is read, as far as that can be known. */
  readonly ended: Promise<ChildEnd>;
  /** Gives the child, or a fork of it, a descriptor of a socket, under a number; false where it takes none. */
  lend(socket: Socket, number: number, fork?: number): boolean;
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
    stdio: ["ignore", "pipe", "pipe", "pipe", ...(options.lending === true ? (["ipc"] as const) : [])],
    env: childEnvironment(options.env),
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const output = [child.stdout, child.stderr];
  const read = outputRead(output);
  const ended = new Promise<ChildEnd>((resolve) => {
    child.once("exit", (code, signal) => void lastWords(read, output).then(() => resolve({ code, signal })));
  });
  await new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("spawn", resolve);
  });
  child.on("error", () => {}); // a signal that could not be sent: the process is gone
  child.channel?.unref();
  return {
    pid: child.pid ?? -1,
    socket: child.stdio[3] as Socket,
    stdout: child.stdout as Readable,
    stderr: child.stderr as Readable,
    ended,
    lend: (socket, number, fork) => {
      return lendTo(child, socket, fork === undefined ? { lend: number } : { lend: number, child: fork });
    },
    kill: () => {
      child.kill("SIGKILL");
    },
    unref: () => {
      child.unref();
      for (const stream of child.stdio.slice(1)) (stream as Socket | null)?.unref();
    },
  };
}

/** Sends a socket over Node's channel to a child; it stays open here. */
function lendTo(child: ChildProcess, socket: Socket, message: { lend: number; child?: number }): boolean {
  if (!child.connected) return false;
  // Node would have the listener of an accepted socket ask the child whether it has closed it.
  (socket as Socket & { server?: unknown }).server = undefined;
  child.send(message, socket, { keepOpen: true }, () => {}); // an error is the end of the child
  return true;
}

/** What is left in the pipes of a process that has ended is read in far less, ms. */
const LAST_WORDS_MS = 500;

/** Resolves when nobody can write to these streams any more, and all is read. */
export function outputRead(output: readonly (Readable | null)[]): Promise<unknown> {
  return Promise.all(
    output.map(
      (stream) => new Promise<void>((resolve) => (stream === null ? resolve() : stream.once("close", resolve))),
    ),
  );
}

/**
 * Waits for the last words of a process that is gone, so that they are in the log before its end: until its output is
 * read, but not for ever. Processes that it started may have inherited the pipes and live on, and where the output goes
 * may take nothing.
 */
export async function lastWords(read: Promise<unknown>, output: readonly (Readable | null)[]): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, LAST_WORDS_MS);
  });
  await Promise.race([read, late]);
  clearTimeout(timer);
  // those who have the pipes may go on writing, but this process need not live for them
  for (const stream of output) (stream as Socket | null)?.unref();
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
