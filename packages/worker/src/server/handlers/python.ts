/** Ops that only Python can answer: they go to the executor as they are, and its answer goes back as it is. */
import type { Message, RpcContext, RpcHandler, RpcHandlers, Value } from "@dask-ts/protocol";
import type { WorkerServices } from "./services.ts";

/** By Dask's op name. */
const PYTHON_OPS = [
  "run",
  "run_coroutine",
  "actor_execute",
  "actor_attribute",
  "upload_file",
  "call_stack",
  "profile",
  "profile_metadata",
  "shuffle_receive",
  "shuffle_inputs_done",
] as const;

export function pythonHandlers(worker: WorkerServices): RpcHandlers {
  const handlers: Record<string, RpcHandler> = {
    "plugin-add": (fields) => addPlugin(worker, fields),
    "plugin-remove": (fields) => removePlugin(worker, fields),
  };
  for (const op of PYTHON_OPS) {
    handlers[op] = (fields, context) => worker.session().executor.call(op, withSerializers(fields, context));
  }
  return handlers;
}

/** `serializers` belongs to the few handlers that take it; for these it is a field like any other. */
function withSerializers(fields: Message, context: RpcContext): Message {
  return context.serializers === null ? fields : { ...fields, serializers: context.serializers };
}

/** Worker.plugin_add, after registration and as an op. */
export async function addPlugin(worker: WorkerServices, fields: Message): Promise<Value> {
  const reply = await worker.session().executor.call("plugin-add", fields);
  if (typeof fields["name"] === "string") worker.plugins.add(fields["name"]);
  return reply;
}

async function removePlugin(worker: WorkerServices, fields: Message): Promise<Value> {
  if (typeof fields["name"] === "string") worker.plugins.delete(fields["name"]);
  return worker.session().executor.call("plugin-remove", fields);
}
