/**
 * Python exceptions made without Python: pickles that a stock client or worker opens with `pickle.loads` and that
 * behave as stock's own, with the `repr` that goes into `exception_text`.
 */
import type { Key } from "../key.ts";
import { float, type Value } from "../msgpack/value.ts";
import { pythonRepr } from "../python-repr.ts";
import { type Picklable, pickle, PyCall, PyGlobal } from "./write.ts";

/** An exception ready for the wire. */
export interface PythonException {
  /** `pickle.dumps(exception)` */
  readonly pickle: Uint8Array;
  /** `repr(exception)` */
  readonly repr: string;
}

/** Where the exceptions live; `TimeoutError` is asyncio's, which is the builtin one from Python 3.11 on. */
const MODULES = {
  ArithmeticError: "builtins",
  AssertionError: "builtins",
  AttributeError: "builtins",
  Exception: "builtins",
  FileNotFoundError: "builtins",
  ImportError: "builtins",
  IndexError: "builtins",
  KeyError: "builtins",
  LookupError: "builtins",
  MemoryError: "builtins",
  NotImplementedError: "builtins",
  OSError: "builtins",
  PermissionError: "builtins",
  RuntimeError: "builtins",
  TypeError: "builtins",
  ValueError: "builtins",
  CancelledError: "asyncio.exceptions",
  TimeoutError: "asyncio.exceptions",
  CommClosedError: "distributed.comm.core",
  P2PConsistencyError: "distributed.shuffle._exceptions",
  P2PIllegalStateError: "distributed.shuffle._exceptions",
} as const;

export type PythonExceptionName = keyof typeof MODULES;

/** `name(*args)`: usually one text. */
export function pythonException(name: PythonExceptionName, ...args: readonly Value[]): PythonException {
  const shown = args.map(pythonRepr).join(", ");
  return { pickle: pickle(new PyCall(new PyGlobal(MODULES[name], name), args)), repr: `${name}(${shown})` };
}

/** What `KilledWorker.last_worker` tells of a worker: the arguments of scheduler.WorkerState that clients may read. */
export interface LastWorker {
  readonly address: string;
  readonly name: Value;
  /** `running`, `closed`, …: a value of distributed.core.Status. */
  readonly status: string;
  readonly pid: number;
  readonly nthreads: number;
  /** Bytes. */
  readonly memoryLimit: number;
  readonly localDirectory: string;
  readonly nanny: string | null;
  readonly serverId: string;
  readonly services: ReadonlyMap<string, number>;
}

/**
 * `distributed.scheduler.KilledWorker(task, last_worker, allowed_failures)`.
 *
 * `last_worker` is a real `WorkerState`, made by its constructor: the state that stock pickles would bind the
 * message to one version's slots.
 */
export function killedWorker(task: Key, lastWorker: LastWorker, allowedFailures: number): PythonException {
  const workerState = new PyCall(
    new PyGlobal("distributed.scheduler", "WorkerState"),
    [],
    new Map<string, Picklable>([
      ["address", lastWorker.address],
      ["status", new PyCall(new PyGlobal("distributed.core", "Status"), [lastWorker.status])],
      ["pid", lastWorker.pid],
      ["name", lastWorker.name],
      ["nthreads", lastWorker.nthreads],
      ["memory_limit", lastWorker.memoryLimit],
      ["local_directory", lastWorker.localDirectory],
      ["nanny", lastWorker.nanny],
      ["server_id", lastWorker.serverId],
      ["services", lastWorker.services],
    ]),
  );
  const name = lastWorker.name === lastWorker.address ? "" : `, name: ${pythonStr(lastWorker.name)}`;
  const shown = `<WorkerState '${lastWorker.address}'${name}, status: ${lastWorker.status}, memory: 0, processing: 0>`;
  return {
    pickle: pickle(
      new PyCall(new PyGlobal("distributed.scheduler", "KilledWorker"), [task, workerState, allowedFailures]),
    ),
    repr: `KilledWorker(${pythonRepr(task)}, ${shown}, ${allowedFailures})`,
  };
}

/** `distributed.scheduler.NoWorkerError(task, timeout)`; `timeout` in seconds. */
export function noWorkerError(task: Key, timeout: number): PythonException {
  return schedulerException("NoWorkerError", [task, float(timeout)]);
}

/** `distributed.scheduler.NoValidWorkerError`; restrictions are null where the task has none. `timeout` in seconds. */
export function noValidWorkerError(
  task: Key,
  hostRestrictions: ReadonlySet<string> | null,
  workerRestrictions: ReadonlySet<string> | null,
  resourceRestrictions: ReadonlyMap<string, Value> | null,
  timeout: number,
): PythonException {
  return schedulerException("NoValidWorkerError", [
    task,
    hostRestrictions,
    workerRestrictions,
    resourceRestrictions,
    float(timeout),
  ]);
}

function schedulerException(name: string, args: readonly Value[]): PythonException {
  return {
    pickle: pickle(new PyCall(new PyGlobal("distributed.scheduler", name), args)),
    repr: `${name}(${args.map(pythonRepr).join(", ")})`,
  };
}

function pythonStr(value: Value): string {
  return typeof value === "string" ? value : pythonRepr(value);
}
