/** The scheduler's RPC ops by their Dask name (Scheduler.handlers): one table for all comms. */
import { type RpcHandlers, SCHEDULER_RPC } from "@dask-ts/protocol";
import { clientRegistration } from "../client-stream.ts";
import type { SchedulerContext } from "../context.ts";
import { notAvailable } from "../exceptions.ts";
import { ReplicaLock } from "../exclusive.ts";
import { nannyRegistration, type Plugins } from "../nanny-registration.ts";
import { workerRegistration } from "../worker-stream.ts";
import { clusterHandlers } from "./cluster.ts";
import { controlHandlers } from "./control.ts";
import { dataHandlers } from "./data.ts";
import { factHandlers } from "./facts.ts";
import { feedHandlers } from "./feed.ts";
import { pluginHandlers } from "./plugins.ts";
import { taskStreamHandlers } from "./task-stream.ts";
import { workerStatusHandlers } from "./worker-status.ts";

/** Every op is in the result: those that nothing serves answer with an error that names them. */
export function schedulerHandlers(ctx: SchedulerContext, plugins: Plugins): RpcHandlers {
  const lock = new ReplicaLock();
  const served: RpcHandlers = {
    ...clientRegistration(ctx),
    ...workerRegistration(ctx),
    ...nannyRegistration(plugins),
    ...factHandlers(ctx),
    ...dataHandlers(ctx, lock),
    ...clusterHandlers(ctx),
    ...controlHandlers(ctx, lock),
    ...pluginHandlers(ctx),
    ...workerStatusHandlers(ctx),
    ...taskStreamHandlers(ctx),
    ...feedHandlers(ctx),
    ...Object.assign({}, ...ctx.extensions.map((extension) => extension.rpcHandlers ?? {})),
  };
  const missing: RpcHandlers = Object.fromEntries(
    Object.keys(SCHEDULER_RPC)
      .filter((op) => !Object.hasOwn(served, op))
      .map((op) => [
        op,
        (): never => {
          throw notAvailable(op, "its extension is not installed");
        },
      ]),
  );
  return { ...missing, ...served };
}
