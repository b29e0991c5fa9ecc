/** Ops that change what the worker is, or turn a comm into something else. */
import {
  isMessage,
  type Message,
  type RpcHandlers,
  TAKEN_OVER,
  type RpcContext,
  type RpcResult,
} from "@dask-ts/protocol";
import { secondsOf, type WorkerServices } from "./services.ts";

export function controlHandlers(worker: WorkerServices): RpcHandlers {
  return {
    terminate: (fields) => terminate(worker, fields),
    connection_stream: (_, context) => connectionStream(worker, context),
  };
}

/** Worker.close over RPC. The answer comes first: after closing there is no comm to answer on. */
function terminate(worker: WorkerServices, fields: Message): RpcResult {
  const { reason, nanny, timeout } = fields;
  setImmediate(() => {
    void worker.close({
      reason: typeof reason === "string" ? reason : "worker-close",
      nanny: nanny !== false,
      timeoutMs: secondsOf(timeout, 30) * 1000,
    });
  });
  return "OK";
}

/** From here on the comm carries stream messages of a peer, one way (Server.handle_stream). */
function connectionStream(worker: WorkerServices, { comm }: RpcContext): RpcResult {
  worker.log.info(`Starting established connection to ${comm.peerAddress}`);
  comm.listen((batch) => {
    for (const message of Array.isArray(batch) ? batch : [batch]) {
      if (message === "OK") return;
      const op = isMessage(message) ? message["op"] : undefined;
      if (!isMessage(message) || typeof op !== "string") throw new TypeError("a stream message has an op");
      if (op === "close-stream") {
        void comm.close();
        return;
      }
      worker.session().handleStreamOp(op, message);
    }
  });
  return TAKEN_OVER;
}
