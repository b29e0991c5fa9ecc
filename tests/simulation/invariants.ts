/** What must hold where the cluster is at rest. To add one: a function here, called from {@link checkAtRest} or {@link checkEmpty}. */
import { State, validateState } from "../../packages/scheduler/src/core/index.ts";
import type { Future, SimClient } from "./client.ts";
import type { Monitor } from "./monitor.ts";
import type { SimScheduler } from "./scheduler.ts";
import type { SimWorker } from "./worker.ts";
import { Violation } from "./world.ts";

export interface Cluster {
  readonly monitor: Monitor;
  readonly scheduler: SimScheduler;
  readonly workers: readonly SimWorker[];
  readonly clients: readonly SimClient[];
}

/** Nothing is under way: all that was wanted has come to its end, and scheduler and workers agree. */
export function checkAtRest(cluster: Cluster): void {
  if (cluster.monitor.validates) validateState(cluster.scheduler.core);
  for (const client of cluster.clients) {
    if (client.left) continue;
    for (const future of client.futures.values()) checkFuture(cluster, client, future);
    checkWants(cluster, client);
  }
  for (const worker of cluster.workers) checkWorker(cluster, worker);
  for (const ts of cluster.scheduler.core.state.tasks.values()) {
    if (ts.code === State.memory && ts.runSpec !== null && !ts.wanted) {
      throw new Violation(`${ts.id} is kept in memory, and nobody needs it`);
    }
  }
}

/** Every wanted task is in memory or erred for a true reason, and the client knows which; or it was cancelled for one. */
function checkFuture({ scheduler, monitor }: Cluster, client: SimClient, future: Future): void {
  const { task, status, exception } = future;
  const { core } = scheduler;
  const what = `${client.name} wants ${task.id}, which is ${status}`;
  const ts = core.state.tasks.get(task.id);
  switch (status) {
    case "cancelled":
      if (!monitor.isExcused(task)) throw new Violation(`${what} for no reason`);
      return;
    case "finished":
      if (ts?.code !== State.memory)
        throw new Violation(`${what}, but the scheduler has it ${ts?.state ?? "forgotten"}`);
      break;
    case "error": {
      const lie = monitor.lie(task, exception, core.config.allowedFailures);
      if (lie !== undefined) throw new Violation(`${what} with a false reason: ${lie}`);
      if (String(exception).startsWith("graph-host:")) return;
      if (ts?.code !== State.erred)
        throw new Violation(`${what}, but the scheduler has it ${ts?.state ?? "forgotten"}`);
      break;
    }
    default:
      throw new Violation(`${what}, at the scheduler ${ts?.state ?? "forgotten"}, and nothing goes on any more`);
  }
  if (future.adrift !== true && ![...ts.whoWants].some((cs) => cs.client === client.name)) {
    throw new Violation(`${what}, but the scheduler does not know that it is wanted`);
  }
}

/** The scheduler keeps nothing for a client that the client does not want. */
function checkWants({ scheduler }: Cluster, client: SimClient): void {
  const cs = scheduler.core.state.clients.get(client.name);
  if (cs === undefined) throw new Violation(`the scheduler does not know ${client.name}`);
  for (const ts of cs.wantsWhat) {
    if (!client.futures.has(ts.id)) throw new Violation(`${ts.id} is kept for ${client.name}, which does not want it`);
  }
}

const RESTING: ReadonlySet<string> = new Set(["memory", "error", "released"]);

/** Both sides have the same idea of what the worker holds and does, and its executor holds just that. */
function checkWorker({ scheduler, monitor }: Cluster, worker: SimWorker): void {
  const ws = scheduler.core.state.workers.get(worker.address);
  const { session, name } = worker;
  if (session === undefined) {
    if (ws !== undefined) throw new Violation(`${name} is gone, and the scheduler does not know`);
    return;
  }
  if (ws === undefined) throw new Violation(`${name} runs, and the scheduler does not know`);
  if (ws.status !== worker.status) throw new Violation(`${name} is ${worker.status}, to the scheduler ${ws.status}`);
  const { machine, executor } = session;
  if (monitor.validates) machine.validateState();
  const stored: string[] = [];
  for (const ts of machine.tasks.values()) {
    if (!RESTING.has(ts.state)) throw new Violation(`${ts.id} is ${ts.state} on ${name}, and nothing goes on any more`);
    if (ts.state === "memory") stored.push(ts.id);
  }
  for (const ts of ws.processing)
    throw new Violation(`${ts.id} is processing on ${name}, and nothing goes on any more`);
  same(
    `what the scheduler thinks ${name} holds`,
    Array.from(ws.hasWhat, (ts) => ts.id),
    stored,
  );
  same(`what the executor of ${name} holds`, [...executor.store.keys()], stored);
  if (machine.executingCount + machine.longRunningCount + executor.running.size > 0) {
    throw new Violation(`${name} runs something that nobody wants`);
  }
  if (machine.transferIncomingBytes !== 0 || machine.transferIncomingCount !== 0) {
    throw new Violation(`${name} counts transfers, and there are none`);
  }
  same(
    `what ${name} has of its resources`,
    Array.from(machine.availableResources, String),
    Array.from(machine.totalResources, String),
  );
}

/** Everything is released: nothing may be left, anywhere. */
export function checkEmpty(cluster: Cluster): void {
  const { state } = cluster.scheduler.core;
  const sizes: Record<string, number> = {
    tasks: state.tasks.size,
    taskGroups: state.taskGroups.size,
    queued: state.queued.size,
    unrunnable: state.unrunnable.size,
    replicatedTasks: state.replicatedTasks.size,
    fireAndForget: state.fireAndForget.wantsWhat.size,
    processingTasks: state.processingTasks,
    networkOcc: state.networkOcc,
    computeOccupancy: state.computeOccupancy,
    activeGraphUpdates: state.activeGraphUpdates,
  };
  for (const ws of state.workers.values()) {
    const at = (field: string): string => `${field} of ${ws.address}`;
    sizes[at("processing")] = ws.processing.size;
    sizes[at("longRunning")] = ws.longRunning.size;
    sizes[at("hasWhat")] = ws.hasWhat.size;
    sizes[at("needsWhat")] = ws.needsWhat.size;
    sizes[at("prefixCounts")] = ws.prefixCounts.size;
    sizes[at("actors")] = ws.actors.size;
    sizes[at("nbytes")] = ws.nbytes;
    for (const [resource, used] of ws.usedResources) sizes[at(`used ${resource}`)] = used;
  }
  for (const cs of state.clients.values()) sizes[`wantsWhat of ${cs.client}`] = cs.wantsWhat.size;
  for (const prefix of state.taskPrefixes.values()) {
    sizes[`groups of ${prefix.name}`] = prefix.groups.size;
    sizes[`processing of ${prefix.name}`] = prefix.processing;
  }
  for (const { name, session } of cluster.workers) {
    if (session === undefined) continue;
    sizes[`tasks of ${name}`] = session.machine.tasks.size;
    sizes[`bytes of ${name}`] = session.machine.nbytes;
    sizes[`values in the executor of ${name}`] = session.executor.store.size;
    sizes[`task counts of ${name}`] = session.machine.taskCounts().size;
  }
  for (const [what, size] of Object.entries(sizes))
    if (size !== 0) throw new Violation(`left over: ${what} is ${size}`);
}

/** All workers and clients are gone as well. */
export function checkDeserted({ scheduler, monitor }: Cluster): void {
  const { state } = scheduler.core;
  const sizes: Record<string, number> = {
    workers: state.workers.size,
    "worker order": state.workerOrder.list.length,
    running: state.running.size,
    idle: state.idle.size,
    saturated: state.saturated.size,
    slots: state.slots.size,
    openSlots: state.openSlots,
    aliases: state.aliases.size,
    hosts: state.hostInfo.size,
    resources: state.resources.size,
    threads: state.totalNthreads,
    // Fire-and-forget stays.
    clients: state.clients.size - 1,
    bandwidthWorkers: state.bandwidthWorkers.size,
  };
  for (const [what, size] of Object.entries(sizes))
    if (size !== 0) throw new Violation(`left over: ${what} is ${size}`);
  if (monitor.validates) validateState(scheduler.core);
}

function same(what: string, ours: readonly string[], theirs: readonly string[]): void {
  const missing = theirs.filter((item) => !ours.includes(item));
  const extra = ours.filter((item) => !theirs.includes(item));
  if (missing.length > 0 || extra.length > 0) {
    throw new Violation(`${what} is wrong: missing ${missing.join(" ") || "-"}, too many ${extra.join(" ") || "-"}`);
  }
}
