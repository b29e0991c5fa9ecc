/** JavaScript errors as `error_message()` shapes them, for what goes wrong on this side of the bridge. */
import { errorReply, RemoteError } from "@dask-ts/protocol";
import type { ErrorFields } from "../core/events.ts";
import { ExecutorError } from "../executor/python-executor.ts";
import { toErrorFields } from "./gather.ts";

export function errorFieldsOf(error: unknown): ErrorFields {
  if (error instanceof ExecutorError) return toErrorFields(error.fields);
  return toErrorFields(errorReply(error, "error"));
}

/** What the executor says went wrong is passed on to a caller as it is, still closed. */
export function asRemoteError(error: unknown): unknown {
  return error instanceof ExecutorError ? new RemoteError(error.fields) : error;
}
