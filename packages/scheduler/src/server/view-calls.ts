/** Methods of the scheduler that code beside it calls: those that are no RPC ops, and the ops themselves. */
import { CommClosedError, type Comm, type Message, type RpcHandlers, type Value } from "@dask-ts/protocol";
import { requestAcquireReplicas, requestRemoveReplicas } from "../core/amm/replica-requests.ts";
import { UnknownKeyError } from "../core/errors.ts";
import { beginEvent } from "../core/event.ts";
import type { TaskState } from "../core/task-state.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "./context.ts";
import { asMessage, flagField, keysField, optionalString, stringField } from "./fields.ts";
import { STATE_METHODS, type ViewMethod } from "./view-methods.ts";

/** Ops that make a connection their own; there is none here. */
const NEED_COMM: ReadonlySet<string> = new Set([
  "register-client",
  "register-worker",
  "register_nanny",
  "feed",
  "subscribe_worker_status",
]);

/** Does what `scheduler.NAME(...)` does in stock. @throws {RangeError} for an unknown name, and what the op throws. */
export async function callScheduler(
  ctx: SchedulerContext,
  handlers: RpcHandlers,
  name: string,
  fields: Message,
): Promise<Value> {
  const method = Object.hasOwn(METHODS, name) ? METHODS[name] : undefined;
  if (method !== undefined) return (await method(ctx, fields)) ?? null;
  const handler = NEED_COMM.has(name) || !Object.hasOwn(handlers, name) ? undefined : handlers[name];
  if (handler === undefined) throw new RangeError(`the scheduler has no method for '${name}' here`);
  const result = await handler(fields, { comm: NO_COMM, op: name, serializers: fields["serializers"] ?? null });
  return typeof result === "symbol" || result === undefined ? null : result;
}

const METHODS: Readonly<Record<string, ViewMethod>> = {
  ...STATE_METHODS,
  "client-desires-keys": (ctx, fields) => {
    const client = stringField(fields, "client");
    ctx.apply((core, now) => core.clientDesiresKeys(keysField(fields, "keys"), client, now));
  },
  "client-releases-keys": (ctx, fields) => {
    const client = stringField(fields, "client");
    const stimulusId = optionalString(fields, "stimulus_id") ?? undefined;
    ctx.apply((core, now) => core.clientReleasesKeys(keysField(fields, "keys"), client, now, stimulusId));
  },
  "cancel-keys": (ctx, fields) => {
    const options = {
      force: flagField(fields, "force", false),
      reason: optionalString(fields, "reason"),
      msg: optionalString(fields, "msg"),
    };
    ctx.apply((core, now) => core.cancelKeys(keysField(fields, "keys"), stringField(fields, "client"), options, now));
  },
  "remove-client": (ctx, fields) => {
    const client = stringField(fields, "client");
    ctx.apply((core, now) => core.removeClient(client, now, optionalString(fields, "stimulus_id") ?? undefined));
  },
  "close-worker": (ctx, fields) => {
    const worker = ctx.coerceKnown(fields["worker"] ?? null);
    ctx.apply((core) => core.closeWorker(worker));
  },
  "worker-status-change": (ctx, fields) => {
    const worker = ctx.coerceKnown(fields["worker"] ?? null);
    const status = stringField(fields, "status");
    ctx.apply((core, now) => core.workerStatusChange(worker, status, stringField(fields, "stimulus_id"), now));
  },
  "worker-send": (ctx, fields) => {
    const worker = stringField(fields, "worker");
    if (!ctx.streams.workers.has(worker)) throw new CommClosedError(`no stream of worker ${worker}`);
    ctx.streams.toWorker(worker, [asMessage(fields["msg"], "msg")]);
  },
  "client-send": (ctx, fields) => {
    ctx.streams.toClient(stringField(fields, "client"), [asMessage(fields["msg"], "msg")]);
  },
  "request-acquire-replicas": (ctx, fields) =>
    requestReplicas(ctx, fields, (core, ws, tasks, stimulusId) => {
      const there = tasks.filter((ts) => ts.whoHas.size > 0 && !ts.whoHas.has(ws));
      if (there.length > 0) requestAcquireReplicas(core, ws, there, stimulusId);
    }),
  // Code beside the scheduler may have decided by what was: a last replica stays.
  "request-remove-replicas": (ctx, fields) =>
    requestReplicas(ctx, fields, (core, ws, tasks, stimulusId) => {
      const there = tasks.filter((ts) => ts.whoHas.size > 1 && ts.whoHas.has(ws));
      if (there.length > 0) requestRemoveReplicas(core, ws, there, stimulusId);
    }),
  // Scheduler.report: to those that want the task, or to all.
  report: (ctx, fields) => {
    const msg = asMessage(fields["msg"], "msg");
    const key = fields["ts"] ?? msg["key"] ?? null;
    const client = optionalString(fields, "client");
    const ts = key === null ? undefined : ctx.core.state.taskOf(key);
    const clients =
      client !== null
        ? [client]
        : ts !== undefined
          ? ts.whoWants.items.map((cs) => cs.client)
          : key === null
            ? [...ctx.streams.clients.keys()]
            : [];
    for (const to of clients) ctx.streams.toClient(to, [msg]);
  },
  "subscribe-topic": (ctx, fields) => {
    ctx.broker.subscribe(stringField(fields, "topic"), stringField(fields, "client"));
  },
  "unsubscribe-topic": (ctx, fields) => {
    ctx.broker.unsubscribe(stringField(fields, "topic"), stringField(fields, "client"));
  },
  terminate: (ctx, fields) => {
    // In a turn of its own: closing waits for the plugins, one of which may be asking for it.
    const reason = optionalString(fields, "reason") ?? "unknown";
    ctx.after(0, () => ctx.requestClose(reason));
  },
};

/** Scheduler.request_acquire_replicas and request_remove_replicas. */
function requestReplicas(
  ctx: SchedulerContext,
  fields: Message,
  send: (core: SchedulerContext["core"], ws: WorkerState, tasks: readonly TaskState[], stimulusId: string) => void,
): void {
  const ws = ctx.core.state.workers.get(stringField(fields, "addr"));
  const tasks = keysField(fields, "keys").map((key) => {
    const ts = ctx.core.state.taskOf(key);
    if (ts === undefined) throw new UnknownKeyError(key);
    return ts;
  });
  const stimulusId = stringField(fields, "stimulus_id");
  if (ws === undefined) return;
  ctx.apply((core, now) => {
    beginEvent(core, stimulusId, now);
    send(core, ws, tasks, stimulusId);
  });
}

/** For handlers that look at the comm of their caller though they need not. */
const NO_COMM: Comm = new Proxy({} as Comm, {
  get(_target, name): never {
    throw new CommClosedError(`no connection: '${String(name)}' was asked of a call from beside the scheduler`);
  },
});
