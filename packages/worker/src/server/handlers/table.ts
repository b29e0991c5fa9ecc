/** All RPC ops of a worker by their Dask name (wire-protocol.md §20). */
import type { RpcHandler, RpcHandlers } from "@dask-ts/protocol";
import { asRemoteError } from "../error-fields.ts";
import { benchmarkHandlers } from "./benchmark.ts";
import { controlHandlers } from "./control.ts";
import { dataHandlers } from "./data.ts";
import { introspectionHandlers } from "./introspection.ts";
import { pythonHandlers } from "./python.ts";
import type { WorkerServices } from "./services.ts";

export function workerHandlers(worker: WorkerServices): RpcHandlers {
  const handlers: RpcHandlers = {
    ...dataHandlers(worker),
    ...pythonHandlers(worker),
    ...introspectionHandlers(worker),
    ...controlHandlers(worker),
    ...benchmarkHandlers(worker),
  };
  return Object.fromEntries(Object.entries(handlers).map(([op, handler]) => [op, withExecutorErrors(handler)]));
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
