/** Scheduler.broadcast and proxy: one message to many workers or nannies. */
import { Pickled, pickled, RemoteError, type Message, type Value } from "@dask-ts/protocol";
import type { SchedulerContext } from "./context.ts";
import { pickledError, pythonError } from "./exceptions.ts";

export interface BroadcastRequest {
  /** The message: its op and that op's fields. */
  readonly msg: Message;
  /** Addresses or aliases; null for all. */
  readonly workers?: readonly string[] | null;
  /** Hosts whose workers are asked as well (or only, where `workers` is null). */
  readonly hosts?: readonly string[] | null;
  /** Ask the workers' nannies instead; answers are still by the worker's address. */
  readonly nanny?: boolean;
  readonly serializers?: Value;
  readonly onError?: OnError;
}

export type OnError = "raise" | "return" | "return_pickle" | "ignore";

const ON_ERROR: ReadonlySet<string> = new Set(["raise", "return", "return_pickle", "ignore"]);

/** @throws where a worker fails and `onError` is `raise`; {@link PythonError} for an unknown worker or `on_error`. */
export async function broadcast(ctx: SchedulerContext, request: BroadcastRequest): Promise<Map<Value, Value>> {
  const { state } = ctx.core;
  const onError = request.onError ?? "raise";
  const workers = targets(ctx, request);
  const addressed: [worker: string, address: string][] = [];
  for (const worker of workers) {
    if (request.nanny !== true) addressed.push([worker, worker]);
    else {
      const ws = state.workers.get(worker);
      if (ws === undefined) throw pythonError("KeyError", worker);
      if (ws.nanny !== null) addressed.push([worker, ws.nanny]);
    }
  }
  const { op, ...fields } = request.msg;
  if (typeof op !== "string") throw new TypeError("a broadcast message needs an 'op'");
  const sent: Message = { ...fields, close: !ctx.settings.reuseBroadcastComm };
  const options = { serializers: namesOf(request.serializers) };
  const replies = await Promise.all(
    addressed.map(async ([worker, address]): Promise<[Value, Value] | undefined> => {
      try {
        return [worker, await ctx.pool.call(address, op, sent, options)];
      } catch (error) {
        ctx.log.error(`broadcast to ${address} failed: ${errorText(error)}`);
        switch (onError) {
          case "raise":
            throw error;
          case "ignore":
            return undefined;
          case "return_pickle":
            return [worker, pickledError(error)];
          case "return":
            return [worker, pickled(pickledError(error)) satisfies Pickled];
        }
      }
    }),
  );
  return new Map(replies.filter((reply) => reply !== undefined));
}

/** @throws {PythonError} where stock raises ValueError. */
export function onErrorOf(value: string | null): OnError {
  if (value === null) return "raise";
  if (ON_ERROR.has(value)) return value as OnError;
  throw pythonError("ValueError", `on_error must be 'raise', 'return', 'return_pickle', or 'ignore'; got '${value}'`);
}

function targets(ctx: SchedulerContext, request: BroadcastRequest): string[] {
  const { state } = ctx.core;
  const { workers = null, hosts = null } = request;
  const list =
    workers !== null
      ? workers.map((worker) => ctx.coerceKnown(worker))
      : hosts === null
        ? [...state.workers.keys()]
        : [];
  for (const host of hosts ?? []) list.push(...(state.hostInfo.get(host)?.addresses ?? []));
  return list;
}

function namesOf(serializers: Value | undefined): readonly string[] | undefined {
  return Array.isArray(serializers) ? serializers.map(String) : undefined;
}

function errorText(error: unknown): string {
  if (error instanceof RemoteError) return error.exceptionText;
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
