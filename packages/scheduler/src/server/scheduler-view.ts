/** What code that runs beside the scheduler asks of it (dask_ts.view_source in the plugin host). */
import { errorReply, type Message, type RpcHandlers, type Value } from "@dask-ts/protocol";
import type { SchedulerContext } from "./context.ts";
import { asMessage, flagField, listField, optionalNumber, stringField } from "./fields.ts";
import { callScheduler } from "./view-calls.ts";
import { factsOf } from "./view-facts.ts";
import { countOf, Scans } from "./view-scan.ts";
import { fieldOf, valueOf } from "./view-values.ts";

/** Answers questions; each costs no more than the page or the objects that it asks for. */
export class SchedulerView {
  readonly #ctx: SchedulerContext;
  readonly #handlers: () => RpcHandlers;
  readonly #scans: Scans = new Scans();

  constructor(ctx: SchedulerContext, handlers: () => RpcHandlers) {
    this.#ctx = ctx;
    this.#handlers = handlers;
  }

  /** Never rejects: what is wrong with a question is its answer. */
  async answer(op: string, fields: Message): Promise<Message> {
    try {
      return await this.#answer(op, fields);
    } catch (error) {
      return errorReply(error, "uncaught-error");
    }
  }

  #answer(op: string, fields: Message): Message | Promise<Message> {
    const ctx = this.#ctx;
    switch (op) {
      case "view-value":
        return { value: valueOf(ctx, stringField(fields, "name")) };
      case "view-facts": {
        const kind = stringField(fields, "kind");
        return { facts: listField(fields, "keys").map((key) => this.#facts(kind, key)) };
      }
      case "view-field":
        return { value: fieldOf(ctx, stringField(fields, "kind"), fields["key"] ?? null, stringField(fields, "name")) };
      case "view-count":
        return { count: countOf(ctx, stringField(fields, "what")) };
      case "view-scan": {
        const page = this.#scans.page(
          ctx,
          stringField(fields, "what"),
          fields["key"] ?? null,
          optionalNumber(fields, "cursor"),
        );
        return { keys: page.keys, cursor: page.cursor };
      }
      case "coerce-address":
        return this.#coerce(fields["address"] ?? null, flagField(fields, "resolve", true));
      case "scheduler-call":
        return this.#call(stringField(fields, "name"), asMessage(fields["fields"], "fields"));
      default:
        throw new RangeError(`the scheduler has no answer to ${op}`);
    }
  }

  #facts(kind: string, key: Value): Value {
    const { streams, core } = this.#ctx;
    // Of a stream it is only told whether there is one.
    if (kind === "client_comm") return streams.clients.has(String(key)) ? NOTHING : null;
    if (kind === "stream_comm") return streams.workers.has(String(key)) ? NOTHING : null;
    return factsOf(core.state, kind, key);
  }

  async #coerce(address: Value, resolve: boolean): Promise<Message> {
    return { value: resolve ? await this.#ctx.coerceAddress(address) : this.#ctx.coerceKnown(address) };
  }

  async #call(name: string, fields: Message): Promise<Message> {
    return { value: await callScheduler(this.#ctx, this.#handlers(), name, fields) };
  }
}

const NOTHING: Value = new Map<Value, Value>();
