/** Steps that several transitions share. */
import { type Context, freeOnHolders, sendToClient, type TransitionArgs } from "../context.ts";
import { emptySet } from "../few-set.ts";
import { computeTaskMessage, taskErred, taskReport } from "../messages.ts";
import { addReplica, addToProcessing, forgetNeed, removeAllReplicas, removeFromProcessing } from "../occupancy.ts";
import { checkIdleSaturated } from "../placement.ts";
import { byPriorityDescending, setState, type TaskState } from "../task-state.ts";
import { State } from "../task-status.ts";
import type { ClientState } from "../client-state.ts";
import type { WorkerState } from "../worker-state.ts";

/** A dependency that neither a task nor a client needs any more is to be released. An erred one keeps its error. */
export function leaveWaiters(ctx: Context, ts: TaskState, dts: TaskState): void {
  dts.waiters.delete(ts);
  if (dts.waiters.size === 0 && !dts.wanted && dts.code !== State.erred) ctx.recs.set(dts, State.released);
}

/** SchedulerState._add_to_processing. */
export function assign(ctx: Context, ts: TaskState, ws: WorkerState): void {
  const { state } = ctx;
  addToProcessing(state, ws, ts);
  ts.processingOn = ws;
  setState(ts, State.processing);
  acquireResources(ts, ws);
  checkIdleSaturated(state, ws);
  state.assignments++;
  if (ts.actor) ws.actors.add(ts);

  if (ws.memoryLimit > 0 && ctx.config.memoryTerminate) {
    let bytes = 0;
    for (const dts of ts.dependencies.items) bytes += dts.nbytes;
    if (bytes > ws.memoryLimit) {
      failForMemory(ctx, ts, ws, bytes);
      return;
    }
  }
  ctx.outbox.worker(ws.address, computeTaskMessage(ctx, ts));
  ctx.stealing?.enterProcessing(ts, ws);
}

/** Only meant against order-of-magnitude mistakes: the input alone does not fit into the worker. */
function failForMemory(ctx: Context, ts: TaskState, ws: WorkerState, bytes: number): void {
  let message =
    `Task ${reprKey(ts)} has ${formatBytes(bytes)} worth of input dependencies, but worker ${ws.address} ` +
    `has memory_limit set to ${formatBytes(ws.memoryLimit)}.`;
  if (ts.dependents.size === 0) {
    message +=
      " It seems like you called client.compute() on a huge collection." +
      " Consider writing to distributed storage or slicing/reducing first.";
  }
  ctx.outbox.log("error", message);
  exitProcessing(ctx, ts);
  if (ts.actor) ws.actors.delete(ts);
  propagateErred(ctx, ts, {
    exception: ctx.config.makeException({ kind: "MemoryError", message }),
    cause: ts,
    worker: ws.address,
  });
}

/** SchedulerState._exit_processing_common; undefined where the worker is gone. */
export function exitProcessing(ctx: Context, ts: TaskState): WorkerState | undefined {
  const { state } = ctx;
  const ws = ts.processingOn as WorkerState;
  ctx.stealing?.leaveProcessing(ts, ws);
  ts.processingOn = null;
  removeFromProcessing(state, ws, ts);
  if (state.workers.get(ws.address) !== ws) return undefined;
  checkIdleSaturated(state, ws);
  releaseResources(ts, ws);
  return ws;
}

export function acquireResources(ts: TaskState, ws: WorkerState): void {
  const resources = ts.restrictions?.resources;
  if (!resources) return;
  for (const [name, amount] of resources) ws.usedResources.set(name, (ws.usedResources.get(name) ?? 0) + amount);
}

export function releaseResources(ts: TaskState, ws: WorkerState): void {
  const resources = ts.restrictions?.resources;
  if (!resources) return;
  for (const [name, amount] of resources) ws.usedResources.set(name, (ws.usedResources.get(name) ?? 0) - amount);
}

/** SchedulerState._add_to_memory. */
export function addToMemory(ctx: Context, ts: TaskState, ws: WorkerState, args: TransitionArgs): void {
  const { state, recs } = ctx;
  addReplica(state, ts, ws);
  dependentsReady(ctx, ts);

  const dependencies = ts.dependencies.items;
  for (let i = 0; i < dependencies.length; i++) leaveWaiters(ctx, ts, dependencies[i] as TaskState);

  if (ts.waiters.size === 0 && !ts.wanted) {
    recs.set(ts, State.released);
  } else if (ts.whoWants.size > 0) {
    const message = { op: "key-in-memory", key: ts.key, type: args.type ?? null };
    for (const cs of ts.whoWants.items) sendToClient(ctx, cs, message);
  }
  setState(ts, State.memory);
  if (args.typename !== undefined) {
    const typename = state.internTypename(args.typename);
    ts.typename = typename;
    const { types, prefix } = ts.group;
    types.set(typename, (types.get(typename) ?? 0) + 1);
    prefix.types.set(typename, (prefix.types.get(typename) ?? 0) + 1);
  }
  releaseFireAndForget(ctx, ts);
}

/** Dependents that waited for this data only may run: the most urgent is recommended last, so that it goes first. */
export function dependentsReady(ctx: Context, ts: TaskState): void {
  const dependents = ts.dependents.items;
  if (dependents.length === 0) return;
  if (dependents.length === 1) {
    const dts = dependents[0] as TaskState;
    if (dts.waitingOn.delete(ts) && dts.waitingOn.size === 0) ctx.recs.set(dts, State.processing);
    return;
  }
  const ready: TaskState[] = [];
  for (let i = 0; i < dependents.length; i++) {
    const dts = dependents[i] as TaskState;
    if (dts.waitingOn.delete(ts) && dts.waitingOn.size === 0) ready.push(dts);
  }
  if (ready.length > 1) ready.sort(byPriorityDescending);
  for (const dts of ready) ctx.recs.set(dts, State.processing);
}

function releaseFireAndForget(ctx: Context, ts: TaskState): void {
  const cs = ctx.state.fireAndForget;
  if (cs.wantsWhat.size !== 0 && cs.wantsWhat.has(ts)) clientReleases(ctx, ts, cs);
}

/** SchedulerState._client_releases_keys, for one key. */
export function clientReleases(ctx: Context, ts: TaskState, cs: ClientState): void {
  if (!cs.wantsWhat.delete(ts)) return;
  ts.whoWants.delete(cs);
  recommendUnwanted(ctx, ts);
}

/** Nobody wants the task itself any more: forget it, or release it where it was kept for the clients only. */
export function recommendUnwanted(ctx: Context, ts: TaskState): void {
  if (ts.wanted) return;
  if (ts.dependents.size === 0) ctx.recs.set(ts, State.forgotten);
  else if (ts.code !== State.erred && ts.waiters.size === 0) ctx.recs.set(ts, State.released);
}

/** SchedulerState._propagate_released. */
export function propagateReleased(ctx: Context, ts: TaskState): void {
  setState(ts, State.released);
  if (ts.hasLostDependencies) ctx.recs.set(ts, State.forgotten);
  else if (ts.waiters.size > 0 || ts.whoWants.size > 0) {
    ctx.recs.set(ts, State.waiting);
    return;
  }
  for (const dts of ts.dependencies.items) if (dts.code !== State.released) leaveWaiters(ctx, ts, dts);
  ts.waiters = emptySet();
}

/** SchedulerState._propagate_erred. */
export function propagateErred(ctx: Context, ts: TaskState, args: TransitionArgs): void {
  const { state, recs } = ctx;
  setState(ts, State.erred);
  ts.erredOn ??= new Set();
  if (args.worker !== undefined) ts.erredOn.add(args.worker);

  if (args.exception !== undefined || args.traceback !== undefined) {
    const known = ts.error;
    ts.error = {
      exception: args.exception ?? known?.exception ?? null,
      traceback: args.traceback ?? known?.traceback ?? null,
      exceptionText: args.exceptionText ?? known?.exceptionText ?? "",
      tracebackText: args.tracebackText ?? known?.tracebackText ?? "",
    };
  }
  if (args.cause !== undefined) ts.exceptionBlame = args.cause;
  const failing = ts.exceptionBlame ?? ts;

  state.erredTasks.unshift({
    key: ts.key,
    timestamp: ctx.now,
    erredOn: [...ts.erredOn],
    exceptionText: args.exceptionText ?? "",
    tracebackText: args.tracebackText ?? "",
  });
  if (state.erredTasks.length > ctx.config.erredTasksMaxHistory) state.erredTasks.pop();

  for (const dts of ts.waiters.items) {
    dts.exceptionBlame = failing;
    recs.set(dts, State.erred);
  }
  for (const dts of ts.dependencies.items) leaveWaiters(ctx, ts, dts);
  ts.waiters = emptySet();

  const message = taskErred(ts, failing);
  for (const cs of ts.whoWants.items) sendToClient(ctx, cs, message);
  settleErred(ctx, ts);
}

/**
 * It has come to its end: that is all that fire-and-forget asks for. And where its last dependent was forgotten in the same
 * event, it would be kept for ever, as with Dask.
 */
export function settleErred(ctx: Context, ts: TaskState): void {
  releaseFireAndForget(ctx, ts);
  if (!ts.wanted && ts.dependents.size === 0) ctx.recs.set(ts, State.forgotten);
}

/** Transition to forgotten from memory, released or erred: SchedulerState._propagate_forgotten and _remove_key. */
export function forget(ctx: Context, ts: TaskState): void {
  const { state, recs } = ctx;
  setState(ts, State.forgotten);
  for (const dts of ts.dependents.items) {
    dts.hasLostDependencies = true;
    // It will leave its worker without knowing this dependency: Dask would count the transfer for ever.
    if (dts.processingOn !== null) forgetNeed(state, dts.processingOn, ts);
    dts.dependencies.delete(ts);
    dts.waitingOn.delete(ts);
    // It cannot be computed any more.
    if (dts.code !== State.memory && dts.code !== State.erred) recs.set(dts, State.forgotten);
  }
  ts.dependents = emptySet();
  ts.waiters = emptySet();

  for (const dts of ts.dependencies.items) {
    dts.dependents.delete(ts);
    dts.waiters.delete(ts);
    if (dts.dependents.size === 0 && !dts.wanted) recs.set(dts, State.forgotten);
  }
  ts.dependencies = emptySet();
  ts.waitingOn = emptySet();

  if (ts.whoHas.size > 0) {
    freeOnHolders(ctx, ts);
    removeAllReplicas(state, ts);
  }

  if (ts.whoWants.size > 0) {
    const message = taskReport(ts);
    for (const cs of ts.whoWants.items) {
      if (message !== undefined) sendToClient(ctx, cs, message);
      cs.wantsWhat.delete(ts);
    }
    ts.whoWants = emptySet();
  }
  if (state.tasks.get(ts.id) === ts) state.tasks.delete(ts.id);
  state.unrunnable.delete(ts);
  state.taskMetadata.delete(ts.id);
  ts.processingOn = null;
  ts.exceptionBlame = null;
  ts.error = null;
  // The transition log may refer to the task for a while; it must not keep the frame the graph came in.
  ts.runSpec = null;
}

function reprKey(ts: TaskState): string {
  return typeof ts.key === "string" ? `'${ts.key}'` : String(ts.key);
}

/** dask.utils.format_bytes. */
function formatBytes(n: number): string {
  for (const [prefix, exponent] of [
    ["Pi", 50],
    ["Ti", 40],
    ["Gi", 30],
    ["Mi", 20],
    ["ki", 10],
  ] as const) {
    const unit = 2 ** exponent;
    if (n >= unit * 0.9) return `${(n / unit).toFixed(2)} ${prefix}B`;
  }
  return `${n} B`;
}
