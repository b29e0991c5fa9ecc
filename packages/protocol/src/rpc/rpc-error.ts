/** Errors that cross an RPC comm (wire-protocol.md §9). */
import type { Message, Value } from "../msgpack/value.ts";

/**
 * The peer's handler failed, or the peer reports a failed task. What it sent stays closed, so that it can be passed on
 * to someone who can open it.
 */
export class RemoteError extends Error {
  readonly code = "DASK_REMOTE";
  override readonly name = "RemoteError";
  /** Serialized bytes, bytes, or a text: whatever came. */
  readonly exception: Value;
  readonly traceback: Value;
  /** Python's `repr()` of the exception. */
  readonly exceptionText: string;
  readonly tracebackText: string;

  constructor(reply: Message, context?: string) {
    const text = reply["exception_text"];
    const exceptionText = typeof text === "string" ? text : "an exception without a text";
    super(context === undefined ? exceptionText : `${context}: ${exceptionText}`);
    this.exception = reply["exception"] ?? null;
    this.traceback = reply["traceback"] ?? null;
    this.exceptionText = exceptionText;
    const traceback = reply["traceback_text"];
    this.tracebackText = typeof traceback === "string" ? traceback : "";
  }

  /** The error in the shape in which it came, for passing it on. */
  toMessage(status: "error" | "uncaught-error"): Message {
    return {
      status,
      exception: this.exception,
      traceback: this.traceback,
      exception_text: this.exceptionText,
      traceback_text: this.tracebackText,
    };
  }
}
