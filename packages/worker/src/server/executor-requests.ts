/** What the facade in the executor asks of the worker (see packages/python/dask_ts/facade.py). */
import { asNumber, isKey, isMessage, type Message, type Value } from "@dask-ts/protocol";
import type { StoredValue } from "../core/events.ts";
import type { Worker } from "./worker.ts";

/** @throws {TypeError} for requests that make no sense. */
export async function answerExecutor(worker: Worker, op: string, fields: Message): Promise<Value> {
  switch (op) {
    case "batched-send": {
      const message = toMessage(fields["msg"]);
      worker.session().send(message);
      return null;
    }
    case "update-data": {
      const entries = readStored(fields["entries"]);
      worker.session().smallValues.delete(entries.map(({ key }) => key));
      worker.session().dispatch({ kind: "update-data", entries, stimulusId: `update-data-${worker.now()}` });
      return null;
    }
    case "plugin-hooks":
      // a plugin wants to hear of every transition, or the last that did is gone
      worker.session().machine.reportTransitions = fields["transition"] === true;
      return null;
    case "memory-settings": {
      const limits = worker.reporting.memory?.limits;
      if (limits === undefined) return null;
      limits.limit = numberOrNull(fields["memory_limit"]);
      limits.pause = numberOrNull(fields["memory_pause_fraction"]) ?? false;
      return null;
    }
    case "status":
      if (typeof fields["status"] === "string") worker.setStatus(fields["status"]);
      return null;
    case "close":
      void worker.close({ reason: textOr(fields["reason"], "worker-close"), nanny: fields["nanny"] !== false });
      return "OK";
    case "close_gracefully": {
      const restart = fields["restart"];
      const reason = textOr(fields["reason"], "worker-close-gracefully");
      void worker.closeGracefully(reason, typeof restart === "boolean" ? restart : undefined);
      return null;
    }
    case "heartbeat":
      await worker.reporting.heartbeat();
      return null;
    default:
      throw new TypeError(`the executor asked for '${op}', which the worker does not know`);
  }
}

/** None and False both turn a limit off. */
function numberOrNull(value: Value | undefined): number | null {
  const number = typeof value === "boolean" ? Number.NaN : asNumber(value, Number.NaN);
  return Number.isNaN(number) ? null : number;
}

function textOr(value: Value | undefined, fallback: string): string {
  return typeof value === "string" ? value : fallback;
}

/** A deeper map of a message as a message of its own. */
function toMessage(value: Value | undefined): Message {
  if (isMessage(value)) return value;
  if (!(value instanceof Map)) throw new TypeError("a message for the scheduler is a map");
  const out: Message = {};
  for (const [name, field] of value) {
    if (typeof name !== "string") throw new TypeError("the fields of a message have names");
    out[name] = field;
  }
  return out;
}

function readStored(value: Value | undefined): StoredValue[] {
  if (!Array.isArray(value)) throw new TypeError("entries is a list");
  return (value as readonly Value[]).map((entry) => {
    const [key, nbytes, type, typename] = Array.isArray(entry) ? (entry as readonly Value[]) : [];
    if (!isKey(key) || !(type instanceof Uint8Array)) throw new TypeError("an entry is [key, nbytes, type, typename]");
    return { key, nbytes: asNumber(nbytes, 0), type, typename: textOr(typename, "") };
  });
}
