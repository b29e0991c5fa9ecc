/** Scheduler.rebalance: the same share of process memory on each worker. */
import { type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import { findRebalanceMoves, type RebalanceMove } from "../core/rebalance.ts";
import type { SchedulerContext } from "./context.ts";
import { pythonError } from "./exceptions.ts";
import type { ReplicaLock } from "./exclusive.ts";
import { deleteWorkerData, gatherOnWorker } from "./peer-calls.ts";

export interface RebalanceRequest {
  /** Keys that may be moved; null for all. */
  readonly keys: readonly Key[] | null;
  /** Workers that may give and take; null for all. */
  readonly workers: readonly string[] | null;
  readonly stimulusId: string;
}

export async function rebalance(ctx: SchedulerContext, lock: ReplicaLock, request: RebalanceRequest): Promise<Message> {
  const { state } = ctx.core;
  const workers = request.workers?.map((address) => {
    const ws = state.workers.get(address);
    if (ws === undefined) throw pythonError("KeyError", address);
    return ws;
  }) ?? [...state.workers.values()];
  if (workers.length === 0 || request.keys?.length === 0) return { status: "OK" };
  const missing = (request.keys ?? []).filter((key) => (state.taskOf(key as Value)?.whoHas.size ?? 0) === 0);
  if (missing.length > 0) return { status: "partial-fail", keys: missing as Value[] };
  const allowed = request.keys === null ? null : new Set(request.keys.map((key) => keyId(key as Value)));
  const plan = findRebalanceMoves(workers, allowed, ctx.settings.rebalance);
  if (plan.moves.length === 0) {
    if (!plan.possible) logRebalance(ctx, plan.senders, plan.recipients, 0);
    return { status: "OK" };
  }
  const failed = await lock.run(true, () => move(ctx, plan.moves, request.stimulusId));
  // Only the caller's own keys are worth telling of.
  return failed.length > 0 && request.keys !== null ? { status: "partial-fail", keys: failed } : { status: "OK" };
}

async function move(ctx: SchedulerContext, moves: readonly RebalanceMove[], stimulusId: string): Promise<Value[]> {
  const toRecipients = new Map<string, Map<Key, string[]>>();
  for (const { sender, recipient, task } of moves) {
    const wanted = toRecipients.get(recipient.address) ?? new Map<Key, string[]>();
    toRecipients.set(recipient.address, wanted.set(task.key, [...(wanted.get(task.key) ?? []), sender.address]));
  }
  const failures = new Map<string, Set<string>>();
  await Promise.all(
    [...toRecipients].map(async ([address, whoHas]) => {
      failures.set(address, await gatherOnWorker(ctx, address, whoHas));
    }),
  );
  const toSenders = new Map<string, Key[]>();
  const missing = new Map<string, Value>();
  for (const { sender, recipient, task } of moves) {
    if (failures.get(recipient.address)?.has(task.id) === true) missing.set(task.id, task.key);
    else toSenders.set(sender.address, [...(toSenders.get(sender.address) ?? []), task.key]);
  }
  await Promise.all([...toSenders].map(([address, keys]) => deleteWorkerData(ctx, address, keys, stimulusId)));
  for (const [address, whoHas] of toRecipients) {
    ctx.logEvent(
      address,
      new Map<Value, Value>([
        ["action", "rebalance"],
        ["who_has", whoHas],
      ]),
    );
  }
  const counts = (map: ReadonlyMap<string, { size?: number; length?: number }>): Value =>
    new Map([...map].map(([address, items]) => [address, items.size ?? items.length ?? 0] as [Value, Value]));
  logRebalance(ctx, counts(toSenders), counts(toRecipients), moves.length);
  return [...missing.values()];
}

function logRebalance(ctx: SchedulerContext, senders: Value, recipients: Value, moved: number): void {
  ctx.logEvent(
    "all",
    new Map<Value, Value>([
      ["action", "rebalance"],
      ["senders", senders],
      ["recipients", recipients],
      ["moved_keys", moved],
    ]),
  );
}
