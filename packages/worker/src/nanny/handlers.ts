/** RPC ops of a nanny by their Dask name (wire-protocol.md §21). */
import type { Message, RpcHandlers, Value } from "@dask-ts/protocol";
import { getLogs } from "../server/handlers/introspection.ts";
import { secondsOf } from "../server/handlers/services.ts";
import type { Nanny } from "./nanny.ts";

export function nannyHandlers(nanny: Nanny): RpcHandlers {
  return {
    instantiate: async () => {
      await nanny.instantiate();
      return "running";
    },
    kill: async (fields) => {
      await nanny.kill(text(fields["reason"], "nanny-kill"), secondsOf(fields["timeout"], 5) * 1000);
      return null;
    },
    restart: (fields) =>
      nanny.restart(text(fields["reason"], "nanny-restart"), secondsOf(fields["timeout"], 30) * 1000),
    get_logs: (fields) => getLogs(nanny, fields),
    terminate: (fields) => {
      // The answer comes first: after closing there is no comm to answer on.
      setImmediate(() => {
        void nanny.close({
          reason: text(fields["reason"], "nanny-close"),
          timeoutMs: secondsOf(fields["timeout"], 5) * 1000,
        });
      });
      return "OK";
    },
    close_gracefully: (fields) => {
      nanny.closeGracefully(text(fields["reason"], "nanny-close-gracefully"));
      return null;
    },
    run: (fields) => run(nanny, fields),
    plugin_add: (fields) => nanny.addPlugin(text(fields["name"], ""), fields["plugin"] ?? null),
    plugin_remove: (fields) => nanny.plugins.remove(text(fields["name"], "")),
    identity: () => ({ type: "Nanny", id: nanny.address }),
    echo: (fields) => fields["data"] ?? null,
  };
}

/**
 * Stock runs the function in the nanny's own Python process. This nanny has none: the function runs in the executor,
 * which sees the same host, files and environment, and gets the worker as `dask_worker`.
 */
function run(nanny: Nanny, fields: Message): Promise<Value> {
  const { worker } = nanny;
  if (worker === undefined) throw new Error("the nanny has no worker at the moment in which it could run a function");
  return worker.session().executor.call("run", fields);
}

function text(value: Value | undefined, fallback: string): string {
  return typeof value === "string" ? value : fallback;
}
