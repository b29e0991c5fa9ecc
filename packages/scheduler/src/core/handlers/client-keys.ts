/** What clients want: client-desires-keys, client-releases-keys, cancel-keys, report-key, retry. */
import { float, formatKey, type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { CancelOptions } from "../api.ts";
import { ClientState } from "../client-state.ts";
import { type Context, sendToClient } from "../context.ts";
import { UnknownKeyError } from "../errors.ts";
import { beginEvent } from "../event.ts";
import { keyField, keysField, textField } from "../fields.ts";
import { heartbeatInterval } from "../heartbeat-interval.ts";
import { queueSlotsMaybeOpened } from "../queue-slots.ts";
import { reportKey, reportTask, reportToAll } from "../report.ts";
import { State } from "../task-status.ts";
import type { TaskState } from "../task-state.ts";
import { clientReleases } from "../transitions/common.ts";
import { drain } from "../transitions/engine.ts";

/** `client` of the message, else the stream's own: pseudo clients are kept through a client's stream. */
export function clientOf(client: string, message: Message): string {
  return textField(message, "client", client);
}

export function onClientDesiresKeys(ctx: Context, client: string, message: Message, now: number): void {
  const keys = keysField(message, "keys");
  beginEvent(ctx, `client-desires-keys-${now}`, now);
  clientDesiresKeys(ctx, keys, clientOf(client, message));
}

/** Scheduler.client_desires_keys. Unknown keys only warn; an unknown client becomes a pseudo client. */
export function clientDesiresKeys(ctx: Context, keys: readonly Key[], client: string): void {
  const { state } = ctx;
  let cs = state.clients.get(client);
  if (cs === undefined) {
    cs = new ClientState(client, false, ctx.now);
    state.clients.set(client, cs);
  }
  for (const key of keys) {
    const ts = state.tasks.get(keyId(key));
    if (ts === undefined) {
      ctx.outbox.log("warn", `Client '${client}' desires key ${formatKey(key)} but key is unknown.`);
      continue;
    }
    desire(ctx, ts, cs);
    // It was kept for its dependents only, and without its value. Dask lets the client wait for ever.
    if (ts.whoWants.has(cs) && ts.pins === 0) startIfReleased(ctx, ts);
  }
  drain(ctx);
}

/** A wanted task that could be computed is. */
export function startIfReleased(ctx: Context, ts: TaskState): void {
  if (ts.code === State.released && ts.runSpec !== null) ctx.recs.set(ts, State.waiting);
}

export function desire(ctx: Context, ts: TaskState, cs: ClientState): void {
  // What has ended needs nobody who fires it; Dask keeps its result for ever.
  if (cs === ctx.state.fireAndForget && (ts.code === State.memory || ts.code === State.erred)) return;
  ts.whoWants = ts.whoWants.plus(cs);
  cs.wantsWhat.add(ts);
  if (ts.code === State.memory || ts.code === State.erred) reportTask(ctx, ts, cs.client);
}

export function onClientReleasesKeys(ctx: Context, client: string, message: Message, now: number): void {
  const keys = keysField(message, "keys");
  beginEvent(ctx, `client-releases-keys-${now}`, now);
  clientReleasesKeys(ctx, keys, clientOf(client, message));
}

/** Scheduler.client_releases_keys. Unknown clients and keys are passed over. */
export function clientReleasesKeys(ctx: Context, keys: readonly Key[], client: string): void {
  const cs = ctx.state.clients.get(client);
  if (cs === undefined) return;
  for (const key of keys) {
    const ts = ctx.state.tasks.get(keyId(key));
    if (ts !== undefined) clientReleases(ctx, ts, cs);
  }
  drain(ctx);
  queueSlotsMaybeOpened(ctx);
}

export function onReportKey(ctx: Context, client: string, message: Message, now: number): void {
  const key = keyField(message, "key");
  beginEvent(ctx, `report-key-${now}`, now);
  reportKey(ctx, key, client);
}

export function onCancelKeys(ctx: Context, client: string, message: Message, now: number): void {
  const keys = keysField(message, "keys");
  const options = {
    force: message.force === true,
    reason: typeof message.reason === "string" ? message.reason : null,
    msg: typeof message.msg === "string" ? message.msg : null,
  };
  cancelKeys(ctx, keys, client, options, now);
}

/**
 * Scheduler.stimulus_cancel: keys wanted by this client only (or any, with force) are released, their dependents
 * before them; all clients are told.
 */
export function cancelKeys(
  ctx: Context,
  keys: readonly Key[],
  client: string,
  options: CancelOptions,
  now: number,
): void {
  const { state } = ctx;
  beginEvent(ctx, `cancel-key-${now}`, now);
  ctx.outbox.event(
    client,
    new Map<Value, Value>([
      ["action", "cancel"],
      ["count", keys.length],
      ["force", options.force],
    ]),
  );
  const cs = state.clients.get(client);
  if (cs === undefined) return;

  const cancelled: TaskState[] = [];
  const clients = new Set<ClientState>();
  const seen = new Set<TaskState>();
  // Depth first, dependents before the task they depend on; by hand, as chains may be long.
  const stack: [ts: TaskState, entered: boolean][] = [];
  for (let i = keys.length - 1; i >= 0; i--) {
    const ts = state.tasks.get(keyId(keys[i]));
    if (ts !== undefined) stack.push([ts, false]);
  }
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const [ts, entered] = top;
    if (entered) {
      cancelled.push(ts);
      continue;
    }
    if (seen.has(ts)) continue;
    seen.add(ts);
    if (options.force) for (const other of ts.whoWants.items) clients.add(other);
    else clients.add(cs);
    if (options.force || (ts.whoWants.size === 1 && ts.whoWants.has(cs))) {
      stack.push([ts, true]);
      for (const dts of ts.dependents.items) stack.push([dts, false]);
    }
  }
  for (const other of clients) {
    for (const ts of cancelled) clientReleases(ctx, ts, other);
    drain(ctx);
    queueSlotsMaybeOpened(ctx);
  }
  reportToAll(ctx, {
    op: "cancelled-keys",
    keys: cancelled.map((ts) => ts.key as Value),
    reason: options.reason,
    msg: options.msg,
  });
}

/** Scheduler.stimulus_retry: from the wanted keys down to the tasks that erred themselves, which start again. */
export function retry(ctx: Context, keys: readonly Key[], client: string | null, now: number): Key[] {
  const { state } = ctx;
  beginEvent(ctx, `stimulus-retry-${now}`, now);
  const stack: TaskState[] = [];
  for (const key of keys) {
    const ts = state.tasks.get(keyId(key));
    if (ts === undefined) throw new UnknownKeyError(key);
    stack.push(ts);
  }
  if (client !== null) {
    ctx.outbox.event(
      client,
      new Map<Value, Value>([
        ["action", "retry"],
        ["count", keys.length],
      ]),
    );
  }
  const seen = new Set<TaskState>();
  const roots: TaskState[] = [];
  for (let ts = stack.pop(); ts !== undefined; ts = stack.pop()) {
    if (seen.has(ts) || !canRetry(ts)) continue;
    seen.add(ts);
    let root = true;
    for (const dts of ts.dependencies.items) {
      if (dts.code !== State.erred) continue;
      root = false;
      stack.push(dts);
    }
    if (root) roots.push(ts);
  }
  for (const ts of roots) ctx.recs.set(ts, State.waiting);
  drain(ctx);
  queueSlotsMaybeOpened(ctx);
  return [...seen].map((ts) => ts.key);
}

/**
 * Dask tries whatever it is asked to try. But who retries an actor twice means the one that was lost, not the new one,
 * whose state would break; and a future whose graph could not be opened is not among those who want its key, so that
 * somebody else's task would be computed for nobody.
 */
function canRetry(ts: TaskState): boolean {
  if (ts.code === State.memory) return !ts.actor;
  return ts.code !== State.released || ts.wanted;
}

/** Stream op `heartbeat-client`. */
export function onHeartbeatClient(ctx: Context, client: string, _message: Message, now: number): void {
  const cs = ctx.state.clients.get(client);
  if (cs === undefined) return;
  cs.lastSeen = now;
  sendToClient(ctx, cs, {
    op: "adjust-heartbeat-interval",
    interval: heartbeatSeconds(ctx.state.clients.size),
  });
}

function heartbeatSeconds(clients: number): Value {
  return float(heartbeatInterval(clients) * 10);
}
