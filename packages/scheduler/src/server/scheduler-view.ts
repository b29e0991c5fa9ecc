/** What functions that run beside the scheduler see of it (`dask_scheduler=` of Client.run_on_scheduler). */
import type { Message, Value } from "@dask-ts/protocol";
import type { SchedulerContext } from "./context.ts";
import { listField } from "./fields.ts";
import { workerIdentity } from "./identity.ts";

/** @throws {RangeError} for an op or a field that there is not. */
export function schedulerView(ctx: SchedulerContext, op: string, fields: Message): Message {
  if (op !== "scheduler-view") throw new RangeError(`the scheduler has no answer to ${op}`);
  const answer: Message = {};
  for (const name of listField(fields, "fields")) answer[String(name)] = fieldOf(ctx, String(name));
  return answer;
}

function fieldOf(ctx: SchedulerContext, name: string): Value {
  const { state } = ctx.core;
  switch (name) {
    case "workers":
      return new Map([...state.workers.values()].map((ws) => [ws.address, workerIdentity(ws)]));
    case "clients":
      return [...state.clients.keys()];
    case "tasks":
      return new Map([...state.tasks.values()].map((ts) => [ts.key as Value, ts.state]));
    case "total_nthreads":
      return state.totalNthreads;
    case "name":
      return ctx.identity(0).get("id") ?? null;
    default: {
      const value = ctx.identity(0).get(name);
      if (value === undefined) throw new RangeError(`the scheduler shows no '${name}'`);
      return value;
    }
  }
}
