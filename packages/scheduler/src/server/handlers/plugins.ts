/** RPC ops for plugins, and functions that run on the scheduler (wire-protocol.md §14.4). */
import { Pickled, pythonRepr, type RpcHandlers, type Value } from "@dask-ts/protocol";
import { broadcast } from "../broadcast.ts";
import type { SchedulerContext } from "../context.ts";
import { notAvailable, pythonError } from "../exceptions.ts";
import { bytesField, flagField, stringField } from "../fields.ts";

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

    register_scheduler_plugin: () => {
      throw notAvailable("register_scheduler_plugin", "scheduler plugins need a Python host beside the scheduler");
    },
    unregister_scheduler_plugin: (fields) => {
      const name = stringField(fields, "name");
      throw pythonError(
        "ValueError",
        `Could not find plugin ${pythonRepr(name)} among the current scheduler plugins`,
      );
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
