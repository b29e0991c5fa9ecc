/** All RPC ops of a worker by their Dask name (wire-protocol.md §20). */
import { PythonChildError, type RpcHandler, type RpcHandlers } from "@dask-ts/protocol";
import { asRemoteError } from "../error-fields.ts";
import { benchmarkHandlers } from "./benchmark.ts";
import { controlHandlers } from "./control.ts";
import { dataHandlers } from "./data.ts";
import { introspectionHandlers } from "./introspection.ts";
import { pythonHandlers } from "./python.ts";
import { type WorkerServices, WorkerUnavailableError } from "./services.ts";

export function workerHandlers(worker: WorkerServices): RpcHandlers {
  const handlers: RpcHandlers = {
    ...dataHandlers(worker),
    ...pythonHandlers(worker),
    ...introspectionHandlers(worker),
    ...controlHandlers(worker),
    ...benchmarkHandlers(worker),
  };
  return Object.fromEntries(
    Object.entries(handlers).map(([op, handler]) => [op, asLostWorker(withExecutorErrors(handler))]),
  );
}

/** Ops by which data moves: those who ask know what to do about a worker that is gone. */
const MOVES_DATA: ReadonlySet<string> = new Set([
  "get_data",
  "update_data",
  "gather",
  "free_keys",
  "shuffle_receive",
  "shuffle_inputs_done",
  "actor_execute",
  "actor_attribute",
]);

/**
 * A worker without its executor is gone, as a stock worker's process is: the connection breaks. An error in reply would
 * fail all of a scatter, a replication or a shuffle.
 */
function asLostWorker(handler: RpcHandler): RpcHandler {
  return async (fields, context) => {
    try {
      return await handler(fields, context);
    } catch (error) {
      const isGone = error instanceof WorkerUnavailableError && MOVES_DATA.has(context.op);
      if (isGone || error instanceof PythonChildError) context.comm.abort();
      throw error;
    }
  };
}

function withExecutorErrors(handler: RpcHandler): RpcHandler {
  return async (fields, context) => {
    try {
      return await handler(fields, context);
    } catch (error) {
      throw asRemoteError(error);
    }
  };
}
