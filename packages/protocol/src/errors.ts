/** Errors of the wire: one class per cause, each with a stable `code`. */

/** The peer sent bytes that are no message, or that break a limit. Its connection is closed. */
export class ProtocolError extends Error {
  readonly code = "DASK_PROTOCOL";
  override readonly name = "ProtocolError";
}

/** The comm is closed, by either side, while something was still to be sent or received. */
export class CommClosedError extends Error {
  readonly code = "DASK_COMM_CLOSED";
  override readonly name = "CommClosedError";
}

/** Something did not happen within its time. */
export class TimeoutError extends Error {
  readonly code = "DASK_TIMEOUT";
  override readonly name = "TimeoutError";
}

/** An address makes no sense, or is not to be had here: what it says is meant for whoever gave it. */
export class AddressError extends TypeError {
  readonly code = "DASK_ADDRESS";
  override readonly name = "AddressError";
}
