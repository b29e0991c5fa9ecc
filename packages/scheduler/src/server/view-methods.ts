/** Methods of stock's SchedulerState and Scheduler that are no RPC ops, for code beside the scheduler (view-calls.ts). */
import { type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import { InvariantError, UnknownKeyError } from "../core/errors.ts";
import { beginEvent } from "../core/event.ts";
import { removeResources } from "../core/handlers/resources.ts";
import { computeTaskMessage } from "../core/messages.ts";
import {
  decideWorkerNonRootish,
  decideWorkerRootishQueuingDisabled,
  decideWorkerRootishQueuingEnabled,
  isRootish,
} from "../core/placement.ts";
import type { TaskState } from "../core/task-state.ts";
import { validateState } from "../core/validate.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { SchedulerContext } from "./context.ts";
import { pythonError } from "./exceptions.ts";
import { mapField, keysField, optionalString, stringField } from "./fields.ts";
import { deleteWorkerData, gatherOnWorker } from "./peer-calls.ts";
import { checkWorkerTtl } from "./restart-workers.ts";
import { onUpdateGraph } from "./update-graph.ts";

export type ViewMethod = (ctx: SchedulerContext, fields: Message) => Value | void | Promise<Value | void>;

/** Checking every invariant holds the loop: 5 to 10 µs a task, measured on a busy machine. */
const MAX_VALIDATED = 20_000;

export const STATE_METHODS: Readonly<Record<string, ViewMethod>> = {
  "is-rootish": (ctx, fields) => isRootish(ctx.core.state, taskField(ctx, fields, "ts")),
  "decide-worker-non-rootish": (ctx, fields) =>
    decideWorkerNonRootish(ctx.core.state, taskField(ctx, fields, "ts"))?.address ?? null,
  "decide-worker-rootish-queuing-disabled": (ctx, fields) =>
    decideWorkerRootishQueuingDisabled(ctx.core.state, taskField(ctx, fields, "ts"))?.address ?? null,
  "decide-worker-rootish-queuing-enabled": (ctx) => decideWorkerRootishQueuingEnabled(ctx.core.state)?.address ?? null,
  "remove-resources": (ctx, fields) => {
    const ws = workerField(ctx, fields, "worker");
    ctx.apply((core) => {
      removeResources(core, ws);
      core.state.validEpoch++;
    });
  },
  "gather-on-worker": async (ctx, fields) => {
    const whoHas = new Map<Key, string[]>();
    for (const [key, holders] of mapField(fields, "who_has")) {
      whoHas.set(key as Key, Array.isArray(holders) ? holders.map(String) : []);
    }
    const failed = await gatherOnWorker(ctx, stringField(fields, "worker_address"), whoHas);
    return [...whoHas.keys()].filter((key) => failed.has(keyId(key as Value)));
  },
  "delete-worker-data": async (ctx, fields) => {
    const worker = stringField(fields, "worker_address");
    await deleteWorkerData(ctx, worker, keysField(fields, "keys"), stringField(fields, "stimulus_id"));
  },
  "client-heartbeat": (ctx, fields) => {
    const client = stringField(fields, "client");
    if (!ctx.core.state.clients.has(client)) throw pythonError("KeyError", client);
    ctx.apply((core, now) => core.clientMessage(client, { op: "heartbeat-client" }, now));
  },
  reschedule: (ctx, fields) => {
    const [key] = keysField({ keys: [fields["key"] ?? null] }, "keys") as readonly [Key];
    const stimulusId = stringField(fields, "stimulus_id");
    ctx.apply((core, now) => core.reschedule(key, optionalString(fields, "worker"), stimulusId, now));
  },
  "report-key": (ctx, fields) => {
    const [key] = keysField({ keys: [fields["ts"] ?? fields["key"] ?? null] }, "keys") as readonly [Key];
    ctx.apply((core) => core.reportKey(key, optionalString(fields, "client")));
  },
  // Scheduler.send_task_to_worker: the message alone; the books say nothing of it, as in stock.
  "send-task-to-worker": (ctx, fields) => {
    const ts = taskField(ctx, fields, "ts");
    const ws = workerField(ctx, fields, "worker");
    ctx.apply((core, now) => {
      beginEvent(core, `send-task-to-worker-${now}`, now);
      core.outbox.worker(ws.address, computeTaskMessage(core, ts));
    });
  },
  "validate-state": (ctx) => {
    const { size } = ctx.core.state.tasks;
    if (size > MAX_VALIDATED) {
      throw pythonError("RuntimeError", `${size} tasks are too many to check at once (at most ${MAX_VALIDATED})`);
    }
    try {
      validateState(ctx.core);
    } catch (error) {
      if (error instanceof InvariantError) throw pythonError("AssertionError", error.message);
      throw error;
    }
  },
  "check-worker-ttl": async (ctx) => {
    await checkWorkerTtl(ctx);
  },
  "update-graph": async (ctx, fields) => {
    const client = stringField(fields, "client");
    await ctx.apply(() => onUpdateGraph(ctx, client, fields));
  },
  "task-finished": fromWorker("task-finished"),
  "task-erred": fromWorker("task-erred"),
  "long-running": fromWorker("long-running"),
  "release-worker-data": fromWorker("release-worker-data"),
  "request-refresh-who-has": fromWorker("request-refresh-who-has"),
};

/** Scheduler.handle_…: as if the worker had said it on its stream. */
function fromWorker(op: string): ViewMethod {
  return (ctx, fields) => {
    const worker = stringField(fields, "worker");
    ctx.apply((core, now) => core.workerMessage(worker, { ...fields, op }, now));
  };
}

function taskField(ctx: SchedulerContext, fields: Message, name: string): TaskState {
  const [key] = keysField({ [name]: [fields[name] ?? null] }, name) as readonly [Key];
  const ts = ctx.core.state.taskOf(key);
  if (ts === undefined) throw new UnknownKeyError(key);
  return ts;
}

function workerField(ctx: SchedulerContext, fields: Message, name: string): WorkerState {
  const address = stringField(fields, name);
  const ws = ctx.core.state.workers.get(address);
  if (ws === undefined) throw pythonError("KeyError", address);
  return ws;
}
