/** Ops that tell about the worker and change nothing. */
import { asNumber, type Message, type RpcHandlers, type Value } from "@dask-ts/protocol";
import { readKeys, type WorkerServices } from "./services.ts";

export function introspectionHandlers(worker: WorkerServices): RpcHandlers {
  return {
    identity: () => identity(worker),
    echo: (fields) => fields["data"] ?? null,
    ping: () => Buffer.from("pong"),
    versions: () => worker.session().executor.versions,
    get_logs: (fields) => getLogs(worker, fields),
    get_story: (fields) => worker.session().machine.story(readKeys(fields["keys_or_stimuli"])),
    get_monitor_info: (fields) =>
      worker.monitor.info(fields["recent"] === true, Math.trunc(asNumber(fields["start"], 0))),
    dump_state: (fields) => dumpState(worker, fields),
  };
}

/** Worker.identity. */
function identity(worker: WorkerServices): Message {
  return {
    type: "Worker",
    id: worker.id,
    scheduler: worker.schedulerAddress,
    nthreads: worker.nthreads,
    memory_limit: worker.memoryLimit,
  };
}

export function getLogs(worker: Pick<WorkerServices, "logs">, fields: Message): Value {
  const n = fields["n"];
  const limit = n === undefined || n === null ? null : Math.trunc(asNumber(n, 0));
  return worker.logs.get(asNumber(fields["start"], 0), limit, fields["timestamps"] === true);
}

/** Worker._to_dict: for debugging, without promises about its shape. */
function dumpState(worker: WorkerServices, fields: Message): Value {
  const { exclude } = fields;
  const excluded = new Set(Array.isArray(exclude) || exclude instanceof Set ? (exclude as Iterable<Value>) : []);
  const out = new Map<Value, Value>(Object.entries(identity(worker)) as [string, Value][]);
  out.set("address", worker.address);
  out.set("status", worker.status);
  out.set("logs", worker.logs.get());
  for (const [name, value] of worker.session().machine.toDict()) out.set(name, value);
  for (const name of excluded) out.delete(name);
  return out;
}
