/**
 * The server's side of RPC (wire-protocol.md §8; distributed.core.Server.handle_comm): one request after the other,
 * each answered before the next is read.
 */
import type { Comm } from "../comm/comm.ts";
import { CommClosedError, ProtocolError } from "../errors.ts";
import { isMessage, type Message, type Value } from "../msgpack/value.ts";
import { errorReply } from "./error-reply.ts";

/** The handler has made the comm its own (a stream, a feed); the server neither replies nor reads any more. */
export const TAKEN_OVER: unique symbol = Symbol("taken over");
/** The handler has written its own reply (`get_data`); the server goes on with the next request. */
export const DONT_REPLY: unique symbol = Symbol("don't reply");

/** What a handler returns: the reply. `undefined` is Python's `None`. */
export type RpcResult = Value | undefined | void | typeof TAKEN_OVER | typeof DONT_REPLY;

export interface RpcContext {
  readonly comm: Comm;
  readonly op: string;
  /** Names of the serializers that the caller reads, where it said so. */
  readonly serializers: Value;
}

/** `fields`: the request without op, reply, close and serializers. A throw becomes an `uncaught-error` reply. */
export type RpcHandler = (fields: Message, context: RpcContext) => RpcResult | Promise<RpcResult>;

/** Handlers by their Dask name. */
export type RpcHandlers = Readonly<Record<string, RpcHandler>>;

export interface RpcServerOptions {
  /** Whose handlers these are, for texts: `Scheduler`, `Worker`, `Nanny`. */
  readonly name: string;
  /** `distributed.<role>.blocked-handlers` */
  readonly blockedHandlers?: readonly string[];
  /** Throws a TypeError where the fields are not the op's (see ops/check.ts). */
  readonly checkFields?: (op: string, fields: Message) => void;
  /** A handler threw, an op is unknown, a field is wrong: for the log. The caller has had its reply. */
  readonly onError?: (error: Error, op: string, peerAddress: string) => void;
  /** Each request that has come, before its handler runs: for counters. */
  readonly onRequest?: (op: string, comm: Comm) => void;
}

/**
 * Serves one comm until it is closed, taken over, or broken by its peer. Never rejects.
 *
 * A request that is no map or has no op drops the connection. An unknown op is answered with an `uncaught-error` that
 * names it, where stock servers answer nil, which callers read as success.
 */
export async function serveComm(comm: Comm, handlers: RpcHandlers, options: RpcServerOptions): Promise<void> {
  try {
    for (;;) {
      const request = await comm.receive();
      if (!(await answer(comm, request, handlers, options))) return;
    }
  } catch (error) {
    if (!comm.closed) comm.abort(error as Error);
    if (!(error instanceof CommClosedError)) options.onError?.(error as Error, "", comm.peerAddress);
  }
}

/** One request. True where the next one may be read. */
async function answer(comm: Comm, request: Value, handlers: RpcHandlers, options: RpcServerOptions): Promise<boolean> {
  if (!isMessage(request)) throw new ProtocolError(`bad message from ${comm.peerAddress}: a request is a map`);
  const { op, reply = true, close = false, serializers = null, ...fields } = request;
  if (typeof op !== "string") throw new ProtocolError(`bad message from ${comm.peerAddress}: a request without 'op'`);
  options.onRequest?.(op, comm);
  if (op === "close") {
    if (isTrue(reply)) comm.send("OK");
    await comm.close();
    return false;
  }
  let result: RpcResult;
  try {
    const handler = findHandler(op, handlers, options);
    options.checkFields?.(op, fields);
    const returned = handler(fields, { comm, op, serializers });
    result = returned instanceof Promise ? await returned : returned;
  } catch (error) {
    // The comm broke while the handler used it: there is nobody to tell.
    if (comm.closed) return false;
    options.onError?.(error as Error, op, comm.peerAddress);
    result = errorReply(error, "uncaught-error");
  }
  if (result === TAKEN_OVER) return false;
  if (comm.closed) return false;
  if (isTrue(reply) && result !== DONT_REPLY) sendReply(comm, op, (result as Value | undefined) ?? null, options);
  if (isTrue(close)) {
    await comm.close();
    return false;
  }
  return true;
}

/** A result that cannot be encoded is the handler's fault: the caller hears of it and keeps its connection. */
function sendReply(comm: Comm, op: string, result: Value, options: RpcServerOptions): void {
  try {
    comm.send(result);
  } catch (error) {
    if (comm.closed) throw error;
    options.onError?.(error as Error, op, comm.peerAddress);
    comm.send(errorReply(error, "uncaught-error"));
  }
}

function findHandler(op: string, handlers: RpcHandlers, options: RpcServerOptions): RpcHandler {
  if (options.blockedHandlers?.includes(op) === true) {
    throw new RangeError(
      `The '${op}' handler has been explicitly disallowed in ${options.name}, possibly due to security concerns.`,
    );
  }
  const handler = Object.hasOwn(handlers, op) ? handlers[op] : undefined;
  if (handler === undefined) throw new RangeError(`No handler '${op}' found in ${options.name}`);
  return handler;
}

/** Python truth, for the flags of a request. */
function isTrue(flag: Value | undefined): boolean {
  return flag !== false && flag !== null && flag !== 0 && flag !== undefined;
}
