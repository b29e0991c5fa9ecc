/** Scheduler.add_client and remove_client. */
import type { Value } from "@dask-ts/protocol";
import { ClientState } from "../client-state.ts";
import type { Context } from "../context.ts";
import { beginEvent } from "../event.ts";
import { queueSlotsMaybeOpened } from "../queue-slots.ts";
import { clientReleases } from "../transitions/common.ts";
import { drain } from "../transitions/engine.ts";

export function addClient(ctx: Context, client: string, now: number, versions: Value): void {
  beginEvent(ctx, `add-client-${now}`, now);
  logClientEvent(ctx, client, "add-client");
  const known = ctx.state.clients.get(client);
  const cs = new ClientState(client, true, now, versions);
  // A pseudo client of that name, or a client that comes back before its old stream was closed, keeps its keys.
  if (known !== undefined) {
    for (const ts of known.wantsWhat) {
      ts.whoWants.delete(known);
      ts.whoWants = ts.whoWants.plus(cs);
      cs.wantsWhat.add(ts);
    }
  }
  ctx.state.clients.set(client, cs);
  ctx.state.clientsAdded++;
  for (const listener of ctx.listeners.addClient) listener(client, now);
}

export function removeClient(ctx: Context, client: string, now: number, stimulusId: string): void {
  const { state } = ctx;
  beginEvent(ctx, stimulusId, now);
  logClientEvent(ctx, client, "remove-client");
  const cs = state.clients.get(client);
  if (cs === undefined) return;
  for (const ts of Array.from(cs.wantsWhat)) clientReleases(ctx, ts, cs);
  drain(ctx);
  queueSlotsMaybeOpened(ctx);
  if (cs === state.fireAndForget) return;
  state.clients.delete(client);
  state.clientsRemoved++;
  for (const listener of ctx.listeners.removeClient) listener(client, now);
}

/**
 * The first part of `removeClient` for a client that wants very many keys, so that no event takes long: lets go of
 * `limit` of them. Returns whether it wants more.
 */
export function releaseWanted(ctx: Context, client: string, limit: number, now: number, stimulusId: string): boolean {
  const cs = ctx.state.clients.get(client);
  if (cs === undefined || cs.wantsWhat.size <= limit) return false;
  beginEvent(ctx, stimulusId, now);
  let left = limit;
  for (const ts of cs.wantsWhat) {
    if (left-- === 0) break;
    clientReleases(ctx, ts, cs);
  }
  drain(ctx);
  queueSlotsMaybeOpened(ctx);
  return true;
}

function logClientEvent(ctx: Context, client: string, action: string): void {
  const event = new Map([
    ["action", action],
    ["client", client],
  ]);
  ctx.outbox.event("all", event);
  ctx.outbox.event(client, event);
}
