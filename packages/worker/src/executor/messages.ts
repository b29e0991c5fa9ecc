/**
 * The messages between the worker and its executor, as values of the bridge. The other side of each is in
 * `packages/python/dask_ts/executor.py`.
 *
 *   → init {…ExecutorOptions}                     reply {local_directory, startup, memory_limit}
 *   → execute {tasks: [[key, run_id, run_spec, dependencies, annotations, actor, priority, span_id]]}
 *   → cancel {key}, drop {keys}
 *   → put {entries: [[key, data]]}                reply {results: [[nbytes, type, typename] | error]}
 *   → get {keys, serializers}                     reply {items: [[key, data]]}
 *   → ping {}                                     reply {}
 *   → fetch {address, keys, who}                  reply {keys, results, network, deserialize} | {peer} | {unreachable}
 *   → send {lent, keys, serializers}              reply {keys, serialize} | {broken}
 *   → forget-peer {address}
 *   → call {name, fields}                         reply {value}
 *   → close {}                                    reply {}
 *   ← outcomes {items: [[kind, key, run_id, …]]}
 *   ← seceded {key, duration}, log-event {topic, msg}, log {level, logger, text}, metrics {figures}
 *   ← request {name, fields}                      reply {value} where it has an id
 */
import { asNumber, type Key, type Message, ProtocolError, type Value } from "@dask-ts/protocol";
import type { ExecuteOutcome, ExecuteRequest, PutOutcome, TaskMeter } from "./executor.ts";

/** One element of `execute`'s `tasks`. */
export function taskRow(request: ExecuteRequest): Value {
  return [
    request.key,
    request.runId,
    request.runSpec,
    request.dependencies,
    request.annotations,
    request.actor,
    request.priority,
    request.spanId,
  ];
}

const SUCCESS = 0;
const FAILURE = 1;
const RESCHEDULE = 2;

/**
 * One element of `outcomes`' `items`.
 *
 * @throws {ProtocolError} where it has none of the three shapes.
 */
export function parseOutcome(row: Value): ExecuteOutcome {
  if (!Array.isArray(row)) throw new ProtocolError("an outcome is an array");
  const [kind, key, runId] = row as [Value, Key, number];
  switch (kind) {
    case SUCCESS: {
      const [, , , nbytes, type, typename, start, stop, thread, startstops, metadata, meter, value] =
        row as readonly Value[];
      return {
        kind: "success",
        key,
        runId,
        nbytes: asNumber(nbytes, 0),
        type: type as Uint8Array,
        typename: typename as string,
        start: asNumber(start, 0),
        stop: asNumber(stop, 0),
        thread: thread as number | null,
        startstops: (startstops as readonly Value[] | null) ?? NONE,
        metadata: metadata ?? NO_METADATA,
        meter: parseMeter(meter),
        ...(value === undefined ? {} : { value }),
      };
    }
    case FAILURE: {
      const [, , , error, start, stop, thread, startstops, meter] = row as readonly Value[];
      return {
        kind: "failure",
        key,
        runId,
        error: toMessage(error),
        start: optionalNumber(start),
        stop: optionalNumber(stop),
        thread: thread as number | null,
        startstops: (startstops as readonly Value[] | null) ?? NONE,
        meter: parseMeter(meter),
      };
    }
    case RESCHEDULE:
      return { kind: "reschedule", key, runId };
    default:
      throw new ProtocolError(`an outcome of an unknown kind: ${String(kind)}`);
  }
}

/** `[thread-cpu, thread-noncpu, label, value, unit, …]` */
function parseMeter(row: Value | undefined): TaskMeter | null {
  if (!Array.isArray(row)) return null;
  const [cpu, nonCpu, ...flat] = row as readonly Value[];
  const metrics: [Value, Value, string][] = [];
  for (let i = 0; i + 2 < flat.length; i += 3) {
    metrics.push([flat[i] as Value, flat[i + 1] as Value, String(flat[i + 2])]);
  }
  return { cpuS: optionalNumber(cpu), nonCpuS: asNumber(nonCpu, 0), metrics };
}

/** One element of `put`'s `results`. */
export function parsePutOutcome(row: Value): PutOutcome {
  if (!Array.isArray(row)) return { ok: false, error: toMessage(row) };
  const [nbytes, type, typename] = row as readonly Value[];
  return { ok: true, nbytes: asNumber(nbytes, 0), type: type as Uint8Array, typename: typename as string };
}

const NONE: readonly Value[] = [];
const NO_METADATA: ReadonlyMap<Value, Value> = new Map();

function optionalNumber(value: Value | undefined): number | null {
  return value === null || value === undefined ? null : asNumber(value, 0);
}

/** A map below the top level of a message as a message; fields of error messages and of calls are named by strings. */
export function toMessage(value: Value | undefined): Message {
  if (!(value instanceof Map)) throw new ProtocolError("a map with named fields was expected");
  const message: Message = {};
  for (const [name, field] of value) message[String(name)] = field;
  return message;
}

/** True where a reply carries the fields of distributed's `error_message` in place of an answer. */
export function isErrorReply(reply: Message): boolean {
  return reply.status === "error" || reply.status === "uncaught-error";
}
