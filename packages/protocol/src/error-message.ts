/** Dask's error replies (wire-protocol.md §9; distributed.core.error_message and clean_exception). */
import type { Message } from "./msgpack/value.ts";
import { type PythonException, pythonException, type PythonExceptionName } from "./pickle/exceptions.ts";
import { serializedBytes } from "./serialize.ts";

/** distributed.admin.max-error-length: longer texts are cut. */
const MAX_ERROR_LENGTH = 10_000;

/** An error of this process, in Python's terms. */
export interface ErrorDescription {
  readonly kind: PythonExceptionName;
  readonly text: string;
  /** For `traceback_text`; shown to users as it is. */
  readonly traceback?: string;
}

/**
 * The reply `{status, exception, traceback, exception_text, traceback_text}`.
 *
 * `status` is `error` for a result that the caller inspects, `uncaught-error` for one that is raised at the caller.
 * `traceback` is None: receivers accept nothing there but a pickled traceback object.
 */
export function errorMessage(
  error: ErrorDescription | PythonException,
  status: "error" | "uncaught-error" = "error",
): Message {
  const exception = "pickle" in error ? error : exceptionOf(error);
  return {
    status,
    exception: serializedBytes(exception.pickle),
    traceback: null,
    exception_text: exception.repr,
    traceback_text: "pickle" in error ? "" : (error.traceback ?? ""),
  };
}

/** distributed.core.truncate_exception */
function exceptionOf(error: ErrorDescription): PythonException {
  if (error.text.length <= MAX_ERROR_LENGTH) return pythonException(error.kind, error.text.toWellFormed());
  const cut = error.text.slice(0, MAX_ERROR_LENGTH).toWellFormed();
  return pythonException(error.kind, "Long error message", cut);
}

/** An error message of a peer, as far as it can be read without opening its pickle. */
export interface RemoteException {
  /** The exception's class, without its module. */
  readonly name?: string;
  /** `repr(exception)`, or the text where a peer sent nothing but a text. */
  readonly text: string;
}

/** Reads a peer's error reply, or the fields of a `task-erred`. */
export function cleanException(message: Message): RemoteException {
  const text = message["exception_text"];
  if (typeof text === "string" && text !== "") {
    const name = /^([A-Za-z_]\w*)\(/.exec(text)?.[1];
    return name === undefined ? { text } : { name, text };
  }
  const exception = message["exception"];
  return { text: typeof exception === "string" ? exception : "an exception without a text" };
}
