/** RPC ops for plugins, and functions that run on the scheduler (wire-protocol.md §14.4). */
import { Pickled, type RpcHandlers, Serialized, type Value } from "@dask-ts/protocol";
import type { PickledPlugin } from "../../plugin-host/plugin-host.ts";
import { broadcast } from "../broadcast.ts";
import type { SchedulerContext } from "../context.ts";
import { pythonError } from "../exceptions.ts";
import { bytesField, flagField, optionalString, stringField } from "../fields.ts";

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
      const idempotent = flagField(fields, "idempotent", false);
      await ctx.pluginHost.addPlugin(pickledField(fields["plugin"]), optionalString(fields, "name"), idempotent);
    },
    unregister_scheduler_plugin: async (fields) => {
      await ctx.pluginHost.removePlugin(stringField(fields, "name"));
    },

    run_function: async (fields, { serializers }) => {
      const { function: fn = null, args, kwargs } = fields;
      const event = new Map<Value, Value>([
        ["action", "run-function"],
        ["function", fn instanceof Pickled || fn instanceof Uint8Array ? fn : null],
      ]);
      ctx.logEvent("all", event);
      const wait = flagField(fields, "wait", true);
      return await ctx.pluginHost.call("run-function", { function: fn, args, kwargs, wait, serializers });
    },
  };
}

/** `pickle.dumps(plugin)`, as bytes or closed. */
function pickledField(value: Value | undefined): PickledPlugin {
  if (value instanceof Pickled || value instanceof Serialized || value instanceof Uint8Array) return value;
  throw pythonError("TypeError", "a plugin comes as a pickle");
}
