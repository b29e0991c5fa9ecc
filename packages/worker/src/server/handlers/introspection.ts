/** Ops that tell about the worker and change nothing. */
import { asNumber, float, type Message, type RpcHandlers, type Value } from "@dask-ts/protocol";
import type { Session } from "../session.ts";
import { readKeys, type WorkerServices } from "./services.ts";

const EXECUTOR_DUMP_MS = 2_000;

export function introspectionHandlers(worker: WorkerServices): RpcHandlers {
  return {
    identity: () => identity(worker),
    echo: (fields) => fields["data"] ?? null,
    ping: () => Buffer.from("pong"),
    versions: (fields) => {
      const { executor } = worker.session();
      const packages = fields["packages"] ?? null;
      return packages === null ? executor.versions : executor.call("versions", { packages });
    },
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
async function dumpState(worker: WorkerServices, fields: Message): Promise<Value> {
  const { exclude } = fields;
  const excluded = new Set(Array.isArray(exclude) || exclude instanceof Set ? (exclude as Iterable<Value>) : []);
  const session = worker.session();
  const { machine } = session;
  const fromPython = await ofExecutor(session, [...excluded]);
  const out = new Map<Value, Value>(Object.entries(identity(worker)) as [string, Value][]);
  out.set("address", worker.address);
  out.set("status", worker.status);
  out.set("thread_id", 0);
  out.set("logs", worker.logs.get());
  for (const [name, value] of machine.toDict(excluded)) out.set(name, value);
  out.set("task_cumulative_elapsed", elapsed(machine.cumulativeElapsed(session.now())));
  out.set("transfer_incoming_log", worker.transfers.incomingLog.entries());
  out.set("transfer_outgoing_log", worker.transfers.outgoingLog.entries());
  out.set("stimulus_log", session.stimuli.toList());
  for (const [name, value] of fromPython) out.set(name, value);
  for (const name of excluded) out.delete(name);
  return out;
}

/** Dask's configuration, and the settings of the memory manager; nothing where the executor is busy with C code. */
async function ofExecutor(session: Session, exclude: readonly Value[]): Promise<ReadonlyMap<Value, Value>> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<null>((done) => {
    timer = setTimeout(() => done(null), EXECUTOR_DUMP_MS);
  });
  const found = await Promise.race([session.executor.call("dump", { exclude }).catch(() => null), late]);
  clearTimeout(timer);
  return found instanceof Map ? found : new Map();
}

/** prefix → state → seconds */
function elapsed(rows: ReturnType<Session["machine"]["cumulativeElapsed"]>): Value {
  const prefixes = new Map<Value, Map<Value, Value>>();
  for (const { prefix, state, seconds } of rows) {
    const states = prefixes.get(prefix) ?? new Map<Value, Value>();
    prefixes.set(prefix, states.set(state, float(seconds)));
  }
  return prefixes;
}
