/** `distributed.Variable` (distributed.variable.VariableExtension). */
import { randomUUID } from "node:crypto";
import {
  type Comm,
  isKey,
  type Key,
  keyId,
  type Message,
  parseTimedelta,
  type RpcContext,
  type Value,
} from "@dask-ts/protocol";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";
import { optionalNumber, stringField } from "../server/fields.ts";
import { describeRecord, type FutureRecord, waitForKey } from "./future-record.ts";
import { deadlineOf, Waiters } from "./waiters.ts";

export class Variables implements SchedulerExtension {
  readonly name = "variables";
  readonly #variables: Map<string, FutureRecord> = new Map();
  /** Tokens of readers that have not confirmed yet that they hold the future; by variable and key id. */
  readonly #tokens: Map<string, Set<string>> = new Map();
  /** Futures that were replaced while somebody was reading them: to be released after the last confirmation. */
  readonly #replaced: Map<string, { readonly key: Key; readonly name: string }> = new Map();
  #context!: SchedulerContext;
  #changed!: Waiters;

  start(context: SchedulerContext): void {
    this.#context = context;
    this.#changed = new Waiters(context);
  }

  readonly rpcHandlers = {
    variable_set: (fields: Message): Promise<Value> => this.#set(fields),
    variable_get: (fields: Message, { comm }: RpcContext): Promise<Value> => this.#get(fields, comm),
  };

  readonly clientStreamHandlers = {
    "variable-future-received-confirm": (client: string, message: Message): void => this.#confirm(client, message),
    variable_delete: (_client: string, message: Message): void => this.#delete(stringField(message, "name")),
  };

  async #set(fields: Message): Promise<Value> {
    const name = stringField(fields, "name");
    const deadline = deadlineOf(this.#context, timeoutOf(fields));
    const key = fields["key"];
    let record: FutureRecord;
    if (key === undefined || key === null) {
      record = { type: "msgpack", value: fields["data"] ?? null };
    } else {
      if (!isKey(key)) throw new TypeError("'key' is no task key");
      record = { type: "Future", value: key };
      await waitForKey(this.#context, key, deadline);
      this.#context.apply((core, now) => core.clientDesiresKeys([key], holder(name), now));
    }
    const old = this.#variables.get(name);
    this.#variables.set(name, record);
    if (old?.type === "Future" && (record.type !== "Future" || keyId(old.value) !== keyId(record.value))) {
      this.#release(name, old.value);
    }
    if (old === undefined) this.#changed.wake();
    return null;
  }

  async #get(fields: Message, comm: Comm): Promise<Value> {
    const name = stringField(fields, "name");
    const deadline = deadlineOf(this.#context, optionalNumber(fields, "timeout"));
    for (;;) {
      const record = this.#variables.get(name);
      if (record !== undefined) return this.#describe(name, record);
      if ((await this.#changed.wait(comm, deadline)) === "timeout") throw pythonError("TimeoutError", "");
    }
  }

  #describe(name: string, record: FutureRecord): Message {
    const reply = describeRecord(this.#context, record);
    if (record.type !== "Future") return reply;
    const token = randomUUID().replaceAll("-", "");
    const reading = readingOf(name, record.value);
    const tokens = this.#tokens.get(reading);
    if (tokens === undefined) this.#tokens.set(reading, new Set([token]));
    else tokens.add(token);
    return { ...reply, token };
  }

  #confirm(client: string, message: Message): void {
    const name = stringField(message, "name");
    const key = message["key"];
    if (!isKey(key)) throw new TypeError("'key' is no task key");
    this.#context.apply((core, now) => core.clientDesiresKeys([key], client, now));
    const reading = readingOf(name, key);
    const tokens = this.#tokens.get(reading);
    tokens?.delete(stringField(message, "token"));
    if (tokens === undefined || tokens.size > 0) return;
    this.#tokens.delete(reading);
    const replaced = this.#replaced.get(reading);
    if (replaced !== undefined) this.#release(replaced.name, replaced.key);
  }

  /** Lets go of a future, once all who were reading it hold it themselves. */
  #release(name: string, key: Key): void {
    const reading = readingOf(name, key);
    if (this.#tokens.has(reading)) {
      this.#replaced.set(reading, { key, name });
      return;
    }
    this.#replaced.delete(reading);
    const current = this.#variables.get(name);
    if (current?.type === "Future" && keyId(current.value) === keyId(key)) return;
    this.#context.apply((core, now) => core.clientReleasesKeys([key], holder(name), now));
    if (current === undefined) this.#forgetHolder(name);
  }

  #delete(name: string): void {
    const old = this.#variables.get(name);
    this.#variables.delete(name);
    if (old?.type === "Future") this.#release(name, old.value);
    else this.#forgetHolder(name);
  }

  /** Not while somebody who is reading a future of the variable counts on it to be held. */
  #forgetHolder(name: string): void {
    for (const replaced of this.#replaced.values()) if (replaced.name === name) return;
    this.#context.apply((core, now) => core.removeClient(holder(name), now));
  }
}

function holder(name: string): string {
  return `variable-${name}`;
}

function readingOf(name: string, key: Key): string {
  return `${name.length}:${name}${keyId(key)}`;
}

/** `timeout` of variable_set may be a text like "30 s". */
function timeoutOf(fields: Message): number | null {
  const timeout = fields["timeout"];
  return typeof timeout === "string" ? parseTimedelta(timeout) : optionalNumber(fields, "timeout");
}
