/** Exceptions that the scheduler itself raises, as the Python objects that stock peers expect. */
import {
  killedWorker,
  noValidWorkerError,
  noWorkerError,
  pythonException,
  PythonError,
  type PythonExceptionName,
  RemoteError,
  type Value,
} from "@dask-ts/protocol";
import type { ExceptionInfo } from "../core/config.ts";

/** An error that reaches the caller as this Python exception; thrown by handlers. */
export function pythonError(kind: PythonExceptionName, text: string): PythonError {
  return new PythonError(kind, text);
}

/** A part of stock's scheduler that is not here: a clear error, never a silent None. */
export function notAvailable(op: string, why: string): PythonError {
  return new PythonError("NotImplementedError", `dask-ts scheduler: op '${op}' is not available yet (${why})`);
}

/** `pickle.dumps(kind(text))` */
export function pickledException(kind: PythonExceptionName, text: string): Uint8Array {
  return pythonException(kind, text).pickle;
}

/** Any error as the pickled exception that `broadcast(on_error="return_pickle")` puts in its reply. */
export function pickledError(error: unknown): Uint8Array {
  const text = error instanceof RemoteError ? error.exceptionText : error instanceof Error ? error.message : "";
  if (error instanceof RemoteError) return pickledException("Exception", text);
  return pickledException(error instanceof Error && error.name === "TimeoutError" ? "TimeoutError" : "OSError", text);
}

/** `CoreConfig.makeException`: plain bytes, as `pickle.dumps` in stock's scheduler. */
export function makeException(info: ExceptionInfo): Value {
  switch (info.kind) {
    case "KilledWorker": {
      const ws = info.lastWorker;
      return killedWorker(
        info.task,
        { ...pick(ws), services: ws.services as ReadonlyMap<string, number> },
        info.allowedFailures,
      ).pickle;
    }
    case "NoValidWorkerError":
      return noValidWorkerError(
        info.task,
        setOrNull(info.hostRestrictions),
        setOrNull(info.workerRestrictions),
        info.resourceRestrictions.size > 0 ? info.resourceRestrictions : null,
        info.timeout,
      ).pickle;
    case "NoWorkerError":
      return noWorkerError(info.task, info.timeout).pickle;
    case "MemoryError":
    case "RuntimeError":
      return pickledException(info.kind, info.message);
  }
}

type LastWorkerState = (ExceptionInfo & { kind: "KilledWorker" })["lastWorker"];

function pick(ws: LastWorkerState): Omit<Parameters<typeof killedWorker>[1], "services"> {
  return {
    address: ws.address,
    name: ws.name,
    status: ws.status,
    pid: ws.pid,
    nthreads: ws.nthreads,
    memoryLimit: ws.memoryLimit,
    localDirectory: ws.localDirectory,
    nanny: ws.nanny,
    serverId: ws.serverId,
  };
}

function setOrNull(texts: readonly string[]): ReadonlySet<string> | null {
  return texts.length === 0 ? null : new Set(texts);
}
