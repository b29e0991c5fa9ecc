/** Clients: `register-client` and the stream that it opens (Scheduler.add_client, wire-protocol.md §13.1, §16). */
import { setImmediate as immediate } from "node:timers/promises";
import {
  type Comm,
  CommClosedError,
  isMessage,
  type Message,
  type MessageListener,
  ProtocolError,
  type RpcHandler,
  type RpcHandlers,
  TAKEN_OVER,
  type Value,
} from "@dask-ts/protocol";
import type { SchedulerContext, StreamHandler } from "./context.ts";
import { stringField } from "./fields.ts";
import { batchOf, logged, streamHandlers } from "./stream-batches.ts";
import { onUpdateGraph } from "./update-graph.ts";
import { versionWarning } from "./versions.ts";

export function clientRegistration(ctx: SchedulerContext): RpcHandlers {
  return { "register-client": registerClient(ctx) };
}

function registerClient(ctx: SchedulerContext): RpcHandler {
  const extensionOps = streamHandlers(ctx, "clientStreamHandlers");
  return (fields, { comm }) => {
    const client = stringField(fields, "client");
    const versions = fields["versions"] ?? new Map<Value, Value>();
    ctx.log.info(`Receive client connection: ${client}`);
    const warning = versionWarning(ctx.versionsNow(), ctx.workerVersions, versions);
    // The client asserts that its first array holds this and nothing else.
    comm.send([{ op: "stream-start", warning, error: "" }]);
    const send = ctx.streams.addClient(client, comm);
    ctx.apply((core, now) => core.addClient(client, now, versions));
    ctx.pluginHost.events.addClient(client);
    comm.onClose((error) => {
      if (ctx.streams.clients.get(client) === send) {
        ctx.streams.clients.delete(client);
        removeClient(ctx, client);
      }
      if (ctx.status !== "running") return;
      if (error !== undefined && !(error instanceof CommClosedError)) {
        ctx.log.warning(`The stream of client ${client} broke: ${error.message}`);
      }
      ctx.log.info(`Close client connection: ${client}`);
    });
    comm.listen(clientListener(ctx, client, comm, extensionOps));
    return TAKEN_OVER;
  };
}

/** A batch that takes longer lets others have their turn, milliseconds. */
const BATCH_SLICE_MS = 10;

/** Takes the batches of one client, in order. Only `update-graph` and batches of very many messages make it wait. */
function clientListener(
  ctx: SchedulerContext,
  client: string,
  comm: Comm,
  extensionOps: ReadonlyMap<string, StreamHandler>,
): MessageListener {
  const one = (message: Message): Promise<void> | undefined => {
    const { op } = message;
    if (typeof op !== "string") throw new ProtocolError(`a stream message of ${client} without 'op'`);
    switch (op) {
      case "update-graph":
        return ctx.measures.graph(() => onUpdateGraph(ctx, client, message));
      case "subscribe-topic":
        ctx.broker.subscribe(stringField(message, "topic"), clientOf(message, client));
        return undefined;
      case "unsubscribe-topic":
        ctx.broker.unsubscribe(stringField(message, "topic"), clientOf(message, client));
        return undefined;
      case "close-client":
        removeClient(ctx, client);
        return undefined;
      case "close-stream":
        void comm.close();
        return undefined;
    }
    const extension = extensionOps.get(op);
    if (extension !== undefined) extension(clientOf(message, client), message);
    else if (ctx.pluginHost.hasStreamHandler(op)) ctx.pluginHost.streamMessage(op, { client }, message);
    // A field `client` wins over the stream's own: fire-and-forget is released and desired this way.
    else ctx.core.clientMessage(clientOf(message, client), message, ctx.now());
    return undefined;
  };
  return (batch) => {
    const messages = batchOf(batch, client);
    let at = 0;
    const run = (): Promise<void> | undefined =>
      ctx.apply(() => {
        const until = performance.now() + BATCH_SLICE_MS;
        while (at < messages.length && !comm.closed) {
          if (at % 64 === 63 && performance.now() > until) return immediate();
          const message = messages[at++] as Value;
          if (message === "OK") return undefined;
          if (!isMessage(message)) throw new ProtocolError(`a stream message of ${client} that is no map`);
          const waiting = one(message);
          if (waiting !== undefined) return waiting;
        }
        return undefined;
      });
    return logged(ctx, client, () => {
      const start = performance.now();
      const waiting = run();
      // A batch that waits for a graph is as long as that; graphs have a measure of their own.
      if (waiting === undefined) ctx.measures.clientBatch.observe((performance.now() - start) / 1000);
      return waiting === undefined ? undefined : finish(waiting);
    });
    async function finish(first: Promise<void>): Promise<void> {
      for (let waiting: Promise<void> | undefined = first; waiting !== undefined; waiting = run()) await waiting;
    }
  };
}

/** Keys that a leaving client lets go of in one event: about 20 ms. */
const RELEASED_AT_ONCE = 2_000;

/** Scheduler.remove_client; once per registration. A client of very many keys leaves in steps, others in between. */
function removeClient(ctx: SchedulerContext, client: string): void {
  const leaving = ctx.core.state.clients.get(client);
  if (leaving === undefined) return;
  if (ctx.status === "running") ctx.log.info(`Remove client ${client}`);
  const step = (): void => {
    // Registered again in the meantime: its keys are the new registration's.
    if (ctx.core.state.clients.get(client) !== leaving) return;
    if (ctx.apply((core, now) => core.releaseWanted(client, RELEASED_AT_ONCE, now))) {
      setImmediate(step);
      return;
    }
    ctx.apply((core, now) => core.removeClient(client, now));
    ctx.broker.removeSubscriber(client);
    for (const extension of ctx.extensions) extension.onRemoveClient?.(client);
    ctx.after(ctx.settings.eventsCleanupDelayMs, () => {
      if (!ctx.core.state.clients.has(client)) ctx.broker.truncate(client);
    });
  };
  step();
}

function clientOf(message: Message, client: string): string {
  const named = message["client"];
  return typeof named === "string" ? named : client;
}
