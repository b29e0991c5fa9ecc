/** RPC ops for plugins, and functions that run on the scheduler (wire-protocol.md §14.4). */
import { pickle, Pickled, PyGlobal, RemoteError, type RpcHandlers, type Value } from "@dask-ts/protocol";
import { broadcast } from "../broadcast.ts";
import type { SchedulerContext } from "../context.ts";
import { pythonError } from "../exceptions.ts";
import { bytesField, flagField, optionalString, stringField } from "../fields.ts";

/** Calls a function of dask_ts.scheduler_plugins in the graph host; its exception is the caller's. */
async function callBeside(ctx: SchedulerContext, name: string, args: readonly Value[]): Promise<void> {
  const host = await ctx.graphHost();
  const reply = await host.call("run-function", {
    function: pickle(new PyGlobal("dask_ts.scheduler_plugins", name)),
    args: pickle(args),
    wait: true,
  });
  if (reply["status"] === "error") throw new RemoteError(reply);
}

export function pluginHandlers(ctx: SchedulerContext): RpcHandlers {
  const { worker, nanny } = ctx.plugins;
  return {
    register_worker_plugin: async (fields) => {
      const name = stringField(fields, "name");
      const plugin = bytesField(fields, "plugin");
      ctx.log.info(`Registering Worker plugin ${name}`);
      if (worker.has(name) && flagField(fields, "idempotent", false)) return new Map<Value, Value>();
      worker.set(name, plugin);
      return await broadcast(ctx, { msg: { op: "plugin-add", plugin, name } });
    },
    unregister_worker_plugin: async (fields) => {
      const name = stringField(fields, "name");
      if (!worker.delete(name)) throw pythonError("ValueError", `The worker plugin ${name} does not exist`);
      return await broadcast(ctx, { msg: { op: "plugin-remove", name } });
    },

    register_nanny_plugin: async (fields) => {
      const name = stringField(fields, "name");
      const plugin = bytesField(fields, "plugin");
      ctx.log.info(`Registering Nanny plugin ${name}`);
      if (nanny.has(name) && flagField(fields, "idempotent", false)) return new Map<Value, Value>();
      nanny.set(name, plugin);
      // A nanny that is just starting got its plugins already, but its worker is not here yet to be found by.
      if (ctx.plugins.startingNannies.size > 0) {
        ctx.log.info(`Waiting for Nannies to start ${[...ctx.plugins.startingNannies].join(", ")}`);
        await ctx.plugins.nanniesStarted();
      }
      return await broadcast(ctx, { msg: { op: "plugin_add", plugin, name }, nanny: true });
    },
    unregister_nanny_plugin: async (fields) => {
      const name = stringField(fields, "name");
      if (!nanny.delete(name)) throw pythonError("ValueError", `The nanny plugin ${name} does not exist`);
      return await broadcast(ctx, { msg: { op: "plugin_remove", name }, nanny: true });
    },

    register_scheduler_plugin: async (fields) => {
      const name = optionalString(fields, "name");
      await callBeside(ctx, "register_plugin", [
        bytesField(fields, "plugin"),
        name,
        flagField(fields, "idempotent", false),
      ]);
    },
    unregister_scheduler_plugin: async (fields) => {
      await callBeside(ctx, "unregister_plugin", [stringField(fields, "name")]);
    },

    run_function: async (fields) => {
      const { function: fn = null, args, kwargs } = fields;
      const event = new Map<Value, Value>([
        ["action", "run-function"],
        ["function", fn instanceof Pickled || fn instanceof Uint8Array ? fn : null],
      ]);
      ctx.logEvent("all", event);
      const host = await ctx.graphHost();
      return await host.call("run-function", { function: fn, args, kwargs, wait: flagField(fields, "wait", true) });
    },
  };
}
