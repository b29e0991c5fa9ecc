/** `register_nanny` (Scheduler.add_nanny, wire-protocol.md §13.3). */
import { DONT_REPLY, type RpcHandlers, type Value } from "@dask-ts/protocol";
import type { StoredPlugins } from "./context.ts";
import { stringField } from "./fields.ts";

/** Plugins by name, and who still has to be told of them. */
export class Plugins implements StoredPlugins {
  /** Stock's own worker plugin of P2P shuffles: `pickle.dumps(ShuffleWorkerPlugin())`. */
  readonly worker: Map<string, Uint8Array> = new Map([["shuffle", SHUFFLE_PLUGIN]]);
  readonly nanny: Map<string, Uint8Array> = new Map();
  readonly startingNannies: Set<string> = new Set();
  #waiting: (() => void)[] = [];

  nannyStarted(address: string): void {
    this.startingNannies.delete(address);
    if (this.startingNannies.size > 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  nanniesStarted(): Promise<void> {
    if (this.startingNannies.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }
}

export function nannyRegistration(plugins: Plugins): RpcHandlers {
  return {
    register_nanny: async (fields, { comm }): Promise<typeof DONT_REPLY> => {
      const address = stringField(fields, "address");
      plugins.startingNannies.add(address);
      try {
        comm.send({ status: "OK", "nanny-plugins": new Map<Value, Value>(plugins.nanny) });
        // The nanny says that its worker was started, then closes; or it just ends.
        await comm.receive();
      } finally {
        plugins.nannyStarted(address);
      }
      return DONT_REPLY;
    },
  };
}

const SHUFFLE_PLUGIN: Uint8Array = Buffer.from(
  "80059541000000000000008c2264697374726962757465642e73687566666c652e5f776f726b65725f706c7567696e948c1353687566666c65576f726b6572506c7567696e9493942981942e",
  "hex",
);
