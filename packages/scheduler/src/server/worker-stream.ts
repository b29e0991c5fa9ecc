/** Workers: `register-worker` and the stream that it opens (Scheduler.add_worker, wire-protocol.md §13.2, §18). */
import {
  asNumber,
  type Comm,
  float,
  getAddressHost,
  isMessage,
  type Message,
  type MessageListener,
  normalizeAddress,
  ProtocolError,
  type RpcHandler,
  type RpcHandlers,
  TAKEN_OVER,
  type Value,
} from "@dask-ts/protocol";
import { heartbeatInterval } from "../core/heartbeat-interval.ts";
import type { WorkerRegistration, WorkerStatus } from "../core/worker-state.ts";
import type { SchedulerContext, StreamHandler } from "./context.ts";
import { pythonError } from "./exceptions.ts";
import { flagField, mapField, optionalMap, optionalNumber, stringField } from "./fields.ts";
import { batchOf, logged, streamHandlers } from "./stream-batches.ts";
import type { WorkerStream } from "./streams.ts";
import { versionWarning } from "./versions.ts";

export function workerRegistration(ctx: SchedulerContext): RpcHandlers {
  return { "register-worker": registerWorker(ctx) };
}

function registerWorker(ctx: SchedulerContext): RpcHandler {
  const extensionOps = streamHandlers(ctx, "workerStreamHandlers");
  return async (fields, { comm }) => {
    const given = stringField(fields, "address");
    const resolve = flagField(fields, "resolve_address", true);
    const address = resolve ? await ctx.coerceAddress(given) : normalizeAddress(given);
    const registration = readRegistration(fields, address);
    const warning = versionWarning(ctx.versionsNow(), ctx.workerVersions, registration.versions, registration.serverId);
    const stream = ctx.apply((core, now) => {
      const result = core.addWorker(registration, now);
      // In here, so that what the core sends at once is held until the reply is on its way (§13.2.4).
      return result.status === "OK" ? ctx.streams.addWorker(address, comm) : result;
    });
    if ("status" in stream) {
      if (ctx.core.state.workers.has(address)) throw pythonError("ValueError", stream.message);
      return { status: "error", message: stream.message, time: float(ctx.now()) };
    }
    const ws = ctx.core.state.workers.get(address);
    if (ws !== undefined) ctx.workerVersions.add(ws);
    comm.onClose(() => onWorkerGone(ctx, stream));
    comm.send({
      status: "OK",
      time: float(ctx.now()),
      "heartbeat-interval": float(heartbeatInterval(ctx.core.state.workers.size)),
      "worker-plugins": new Map<Value, Value>(ctx.plugins.worker),
      warning,
      error: "",
    });
    stream.release();
    ctx.log.info(`Starting worker compute stream, ${address}`);
    comm.listen(workerListener(ctx, stream, comm, extensionOps));
    return TAKEN_OVER;
  };
}

function workerListener(
  ctx: SchedulerContext,
  stream: WorkerStream,
  comm: Comm,
  extensionOps: ReadonlyMap<string, StreamHandler>,
): MessageListener {
  const { address } = stream;
  return (batch) => {
    const start = performance.now();
    void logged(ctx, address, () => {
      ctx.apply((core, now) => {
        for (const message of batchOf(batch, address)) {
          if (message === "OK") break;
          if (!isMessage(message)) throw new ProtocolError(`a stream message of ${address} that is no map`);
          const op = message["op"];
          if (typeof op !== "string") throw new ProtocolError(`a stream message of ${address} without 'op'`);
          if (op === "close-stream") {
            void comm.close();
            break;
          }
          const extension = extensionOps.get(op);
          if (extension !== undefined) extension(address, message);
          else if (ctx.pluginHost.hasStreamHandler(op)) ctx.pluginHost.streamMessage(op, { worker: address }, message);
          // What a removed worker still says is about tasks that are elsewhere by now.
          else if (!stream.removed) core.workerMessage(address, message, now);
        }
      });
      return undefined;
    });
    ctx.measures.workerBatch.observe((performance.now() - start) / 1000);
  };
}

/** The comm ended: the worker is gone, unless the core had let it go before. */
function onWorkerGone(ctx: SchedulerContext, stream: WorkerStream): void {
  if (ctx.streams.workers.get(stream.address) !== stream || ctx.status === "closed") return;
  stream.send.abort();
  removeWorker(ctx, stream.address, { stimulusId: `handle-worker-cleanup-${ctx.now()}` });
}

/** Scheduler.remove_worker: the core forgets it, then its comms and what the shell knows of it. */
export function removeWorker(
  ctx: SchedulerContext,
  address: string,
  options: { readonly stimulusId: string; readonly expected?: boolean; readonly close?: boolean },
): "OK" | "already-removed" {
  return ctx.apply((core, now) => core.removeWorker(address, options, now));
}

function readRegistration(fields: Message, address: string): WorkerRegistration {
  return {
    address,
    host: getAddressHost(address),
    status: stringField(fields, "status") as WorkerStatus,
    serverId: stringField(fields, "server_id"),
    name: fields["name"] ?? null,
    nthreads: asNumber(fields["nthreads"], 0),
    memoryLimit: optionalNumber(fields, "memory_limit") ?? 0,
    localDirectory: stringField(fields, "local_directory"),
    nanny: typeof fields["nanny"] === "string" ? fields["nanny"] : null,
    pid: optionalNumber(fields, "pid") ?? 0,
    services: optionalMap(fields, "services") ?? new Map(),
    versions: optionalMap(fields, "versions") ?? new Map(),
    metrics: mapField(fields, "metrics"),
    extra: optionalMap(fields, "extra") ?? new Map(),
    resources: readResources(fields["resources"] ?? null),
    workerNow: asNumber(fields["now"], 0),
    stimulusId: stringField(fields, "stimulus_id"),
  };
}

/** `{name: amount}` */
export function readResources(value: Value): ReadonlyMap<string, number> {
  const resources = new Map<string, number>();
  if (!(value instanceof Map)) return resources;
  for (const [name, amount] of value as ReadonlyMap<Value, Value>) {
    if (typeof name !== "string") throw new TypeError("a resource's name is a str");
    resources.set(name, asNumber(amount, 0));
  }
  return resources;
}
