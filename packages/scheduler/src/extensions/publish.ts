/** Published datasets (distributed.publish.PublishExtension). */
import {
  type Comm,
  formatKey,
  isKey,
  type Key,
  keyId,
  type Message,
  type RpcContext,
  Serialized,
  type Value,
} from "@dask-ts/protocol";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";
import { flagField, keysField, listField, stringField } from "../server/fields.ts";
import { Waiters } from "./waiters.ts";

interface Dataset {
  readonly name: Key;
  readonly data: Value;
  readonly keys: readonly Key[];
}

/** How long an RPC call waits for its mark on the stream before it looks whether the client is still there. */
const MARK_TIMEOUT_S = 30;

export class Publish implements SchedulerExtension {
  readonly name = "publish";
  /** By keyId of the name. */
  readonly #datasets: Map<string, Dataset> = new Map();
  /** Marks that came on streams, and calls that wait for theirs. */
  readonly #marks: Map<string, { arrived: boolean; readonly waiters: Waiters }> = new Map();
  #context!: SchedulerContext;

  start(context: SchedulerContext): void {
    this.#context = context;
  }

  readonly rpcHandlers = {
    publish_put: (fields: Message, { comm }: RpcContext): Promise<Value> => this.#put(fields, comm),
    publish_get: (fields: Message): Value => this.#get(fields),
    publish_list: (): Value => this.#list(),
    publish_delete: (fields: Message, { comm }: RpcContext): Promise<Value> => this.#delete(fields, comm),
    publish_wait_flush: (fields: Message, { comm }: RpcContext): Promise<Value> => this.#waitFlush(fields, comm),
  };

  readonly clientStreamHandlers = {
    publish_flush_batched_send: (_client: string, message: Message): void => {
      const mark = this.#mark(keyId(message["uid"]));
      mark.arrived = true;
      mark.waiters.wake();
    },
  };

  #mark(uid: string): { arrived: boolean; readonly waiters: Waiters } {
    let mark = this.#marks.get(uid);
    if (mark === undefined) {
      mark = { arrived: false, waiters: new Waiters(this.#context) };
      this.#marks.set(uid, mark);
    }
    return mark;
  }

  /** A call may overtake the stream: waits until what the client sent there before has arrived. */
  async #stream(fields: Message, comm: Comm): Promise<void> {
    const client = stringField(fields, "client");
    const uid = keyId(fields["uid"]);
    const mark = this.#mark(uid);
    try {
      while (!mark.arrived) {
        const result = await mark.waiters.wait(comm, this.#context.now() + MARK_TIMEOUT_S);
        if (result === "timeout" && !this.#context.core.state.clients.has(client)) {
          throw pythonError("TimeoutError", "");
        }
      }
    } finally {
      this.#marks.delete(uid);
    }
  }

  /**
   * Clients before 2026.6.0 wait for one mark several times, once for each dataset, and do not say who they are: a mark
   * is kept for a while, and one that does not come is given up.
   */
  async #waitFlush(fields: Message, comm: Comm): Promise<Value> {
    const uid = keyId(fields["uid"]);
    const mark = this.#mark(uid);
    const deadline = this.#context.now() + MARK_TIMEOUT_S;
    this.#context.after(MARK_TIMEOUT_S * 1000, () => this.#marks.delete(uid));
    while (!mark.arrived) {
      if ((await mark.waiters.wait(comm, deadline)) === "timeout") throw pythonError("TimeoutError", "");
    }
    return null;
  }

  async #put(fields: Message, comm: Comm): Promise<Value> {
    const { name } = fields;
    if (name !== undefined) {
      const one = { names: [name], keys: [fields["keys"] ?? []], data: [fields["data"] ?? null] };
      this.#store({ ...one, override: fields["override"] });
      return { status: "OK", name };
    }
    await this.#stream(fields, comm);
    this.#store(fields);
    return null;
  }

  #store(fields: Message): void {
    const names = keysField(fields, "names");
    const keys = listField(fields, "keys");
    const data = listField(fields, "data");
    const override = flagField(fields, "override", false);
    for (const [i, name] of names.entries()) {
      const id = keyId(name);
      const held = keys[i];
      if (!Array.isArray(held) || !held.every(isKey)) throw new TypeError("'keys' holds something that is no task key");
      const old = this.#datasets.get(id);
      if (old !== undefined && !override) throw pythonError("KeyError", `Dataset ${formatKey(name)} already exists`);
      const value = data[i] ?? null;
      this.#context.apply((core, now) => {
        if (old !== undefined) core.clientReleasesKeys(old.keys, holder(name), now);
        core.clientDesiresKeys(held, holder(name), now);
      });
      this.#datasets.set(id, { name, keys: held, data: value instanceof Serialized ? value.compact() : value });
    }
  }

  #get(fields: Message): Value {
    const one = (name: Value): Value => {
      const dataset = this.#datasets.get(keyId(name));
      return dataset === undefined ? null : { data: dataset.data, keys: dataset.keys };
    };
    return fields["name"] === undefined ? keysField(fields, "names").map(one) : one(fields["name"]);
  }

  #list(): Value {
    const names = [...this.#datasets.values()].map((dataset) => dataset.name);
    const labels = new Map(names.map((name) => [name, formatKey(name)]));
    const label = (name: Key): string => labels.get(name) ?? "";
    return names.sort((a, b) => (label(a) < label(b) ? -1 : label(a) > label(b) ? 1 : 0));
  }

  async #delete(fields: Message, comm: Comm): Promise<Value> {
    const { name: single } = fields;
    if (single === undefined) await this.#stream(fields, comm);
    for (const name of single === undefined ? keysField(fields, "names") : keysField({ names: [single] }, "names")) {
      const dataset = this.#datasets.get(keyId(name));
      if (dataset === undefined) continue;
      this.#datasets.delete(keyId(name));
      this.#context.apply((core, now) => core.clientReleasesKeys(dataset.keys, holder(name), now));
    }
    return null;
  }
}

function holder(name: Key): string {
  return `published-${formatKey(name)}`;
}
