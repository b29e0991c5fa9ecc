/** RPC ops of a nanny by their Dask name (wire-protocol.md §21). */
import type { RpcHandlers, Value } from "@dask-ts/protocol";
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
    run: (fields, { serializers }) => nanny.plugins.run(serializers === null ? fields : { ...fields, serializers }),
    plugin_add: (fields) => nanny.addPlugin(text(fields["name"], ""), fields["plugin"] ?? null),
    plugin_remove: (fields) => nanny.plugins.remove(text(fields["name"], "")),
    identity: () => ({ type: "Nanny", id: nanny.address }),
    echo: (fields) => fields["data"] ?? null,
  };
}

function text(value: Value | undefined, fallback: string): string {
  return typeof value === "string" ? value : fallback;
}
