/** A JavaScript error as the reply that a stock peer raises (distributed.core.error_message). */
import { errorMessage } from "../error-message.ts";
import { CommClosedError, ProtocolError, TimeoutError } from "../errors.ts";
import type { Message, Value } from "../msgpack/value.ts";
import { pythonException, type PythonExceptionName } from "../pickle/exceptions.ts";
import { RemoteError } from "./rpc-error.ts";

/**
 * An error that a stock peer shall see as a certain Python class: `except KeyError` around a call must work against
 * this server too.
 */
export class PythonError extends Error {
  readonly code = "DASK_PYTHON_ERROR";
  override readonly name = "PythonError";
  readonly kind: PythonExceptionName;
  /** Its `args` in Python, where they are not just the message: a KeyError's key. */
  readonly args: readonly Value[] | undefined;
  constructor(kind: PythonExceptionName, message: string, options?: ErrorOptions & { args?: readonly Value[] }) {
    super(message, options);
    this.kind = kind;
    this.args = options?.args;
  }
}

/**
 * The error map of wire-protocol.md §9. A {@link RemoteError} is passed on as it came, a {@link PythonError} keeps its
 * class, others become the class that is nearest.
 */
export function errorReply(error: unknown, status: "error" | "uncaught-error"): Message {
  if (error instanceof RemoteError) return error.toMessage(status);
  if (!(error instanceof Error)) return errorMessage({ kind: "RuntimeError", text: String(error) }, status);
  if (error instanceof PythonError && error.args !== undefined) {
    return errorMessage(pythonException(error.kind, ...error.args), status);
  }
  return errorMessage({ kind: pythonKind(error), text: error.message }, status);
}

function pythonKind(error: Error): PythonExceptionName {
  if (error instanceof PythonError) return error.kind;
  if (error instanceof TypeError) return "TypeError";
  if (error instanceof RangeError || error instanceof SyntaxError || error instanceof ProtocolError)
    return "ValueError";
  if (error instanceof TimeoutError) return "TimeoutError";
  if (error instanceof CommClosedError) return "CommClosedError";
  const code = (error as NodeJS.ErrnoException).code;
  if (code === "ENOENT") return "FileNotFoundError";
  if (code === "EACCES" || code === "EPERM") return "PermissionError";
  return typeof (error as NodeJS.ErrnoException).errno === "number" ? "OSError" : "RuntimeError";
}
