/** Stream ops and their handlers: one table per kind of peer (wire protocol §16 and §18). */
import type { Message } from "@dask-ts/protocol";
import type { Context } from "../context.ts";
import { BadMessageError } from "../errors.ts";
import {
  onCancelKeys,
  onClientDesiresKeys,
  onClientReleasesKeys,
  onHeartbeatClient,
  onReportKey,
} from "./client-keys.ts";
import { removeClient } from "./clients.ts";
import { onAddKeys, onReleaseWorkerData, onRequestRefreshWhoHas } from "./replicas.ts";
import { onLongRunning, onReschedule, onTaskErred, onTaskFinished } from "./task-stream.ts";
import { onLogEvent } from "./worker-events.ts";
import { onUpdateData } from "./update-data.ts";
import { onWorkerStatusChange } from "./worker-status.ts";

export type StreamHandler = (ctx: Context, peer: string, message: Message, now: number) => void;

/** These belong to the shell: the first opens a graph, the second pair is the broker's, the last ends the loop. */
const SHELL_OPS = ["update-graph", "subscribe-topic", "unsubscribe-topic", "close-stream"];

function shellOp(_ctx: Context, peer: string, message: Message): void {
  throw new BadMessageError(`${String(message.op)} from ${peer} is not for the core`);
}

function nothing(): void {}

export const CLIENT_HANDLERS: ReadonlyMap<string, StreamHandler> = new Map<string, StreamHandler>([
  ...SHELL_OPS.map((op) => [op, shellOp] as const),
  ["client-desires-keys", onClientDesiresKeys],
  ["client-releases-keys", onClientReleasesKeys],
  ["cancel-keys", onCancelKeys],
  ["report-key", onReportKey],
  ["heartbeat-client", onHeartbeatClient],
  ["update-data", onUpdateData],
  ["close-client", (ctx, client, _message, now) => removeClient(ctx, client, now, `remove-client-${now}`)],
]);

export const WORKER_HANDLERS: ReadonlyMap<string, StreamHandler> = new Map<string, StreamHandler>([
  ["task-finished", onTaskFinished],
  ["task-erred", onTaskErred],
  ["reschedule", onReschedule],
  ["long-running", onLongRunning],
  ["add-keys", onAddKeys],
  ["release-worker-data", onReleaseWorkerData],
  ["request-refresh-who-has", onRequestRefreshWhoHas],
  ["steal-response", (ctx, worker, message, now) => ctx.stealing?.moveTaskConfirm(worker, message, now)],
  ["worker-status-change", onWorkerStatusChange],
  ["log-event", onLogEvent],
  ["keep-alive", nothing],
  ["close-stream", shellOp],
]);
