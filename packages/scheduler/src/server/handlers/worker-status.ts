/** `subscribe_worker_status`: cluster managers hear of workers that come and go (scheduler.WorkerStatusPlugin). */
import { BatchedSend, type Comm, type RpcHandlers, TAKEN_OVER, type Value } from "@dask-ts/protocol";
import type { SchedulerContext } from "../context.ts";
import { workerIdentity } from "../identity.ts";

const INTERVAL_MS = 5;

export function workerStatusHandlers(ctx: SchedulerContext): RpcHandlers {
  const subscribers = new Set<BatchedSend>();
  const publish = (message: Value): void => {
    for (const subscriber of subscribers) if (!subscriber.closed) subscriber.send(message);
  };
  ctx.core.listeners.addWorker.push((ws) => {
    if (subscribers.size === 0) return;
    const workers = new Map<Value, Value>([[ws.address, workerIdentity(ws, false)]]);
    publish(["add", { workers }]);
  });
  ctx.core.listeners.removeWorker.push((ws) => publish(["remove", ws.address]));
  return {
    subscribe_worker_status: (_fields, { comm }) => {
      // The reply goes out first, and nothing is read from this comm any more.
      comm.send(ctx.identity(-1, false));
      subscribe(subscribers, comm);
      return TAKEN_OVER;
    },
  };
}

function subscribe(subscribers: Set<BatchedSend>, comm: Comm): void {
  const subscriber = new BatchedSend(comm, INTERVAL_MS);
  subscribers.add(subscriber);
  comm.onClose(() => subscribers.delete(subscriber));
  comm.listen(() => undefined);
}
