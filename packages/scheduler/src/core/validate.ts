/** Every invariant of the state (SchedulerState.validate_state and validate_task_state). Linear in everything. */
import { formatKey } from "@dask-ts/protocol";
import type { Context } from "./context.ts";
import { InvariantError } from "./errors.ts";
import { occupancyOf, totalOccupancy } from "./occupancy.ts";
import { taskSlotsAvailable } from "./placement.ts";
import type { SchedulerState } from "./state.ts";
import { isInPlay, type TaskState } from "./task-state.ts";
import { noTasks, STATE_COUNT, State } from "./task-status.ts";
import type { TaskGroup } from "./task-group.ts";
import type { WorkerState } from "./worker-state.ts";

/** @throws {InvariantError} with the story of the task concerned. */
export function validateState(ctx: Context): void {
  const { state } = ctx;
  let subject: TaskState | undefined;
  const check: Check = (condition, text) => {
    if (condition) return;
    const what = subject === undefined ? "" : `${formatKey(subject.key)} <${subject.state}>: `;
    throw new InvariantError(what + text, subject === undefined ? [] : ctx.log.story([subject.key]));
  };
  check(ctx.recs.empty, "recommendations left over");
  for (const [id, ts] of state.tasks) {
    subject = ts;
    check(ts.id === id, "tasks: wrong id");
    checkTask(state, ts, check);
  }
  subject = undefined;
  checkContainers(state, check);
  checkWorkers(state, check);
  checkGroups(state, check);
  ctx.stealing?.check(check);
  for (const [name, cs] of state.clients) {
    check(cs.client === name, `client ${name}: wrong name`);
    for (const ts of cs.wantsWhat) {
      check(ts.whoWants.has(cs), `client ${name}: wants ${ts.id}, which does not know`);
      check(state.tasks.get(ts.id) === ts, `client ${name}: wants forgotten ${ts.id}`);
    }
  }
}

type Check = (condition: boolean, text: string) => void;

function checkTask(state: SchedulerState, ts: TaskState, check: Check): void {
  const code = ts.code;
  check(code !== State.forgotten, "forgotten but among the tasks");
  check(ts.recommended < 0, "recommendation left over");
  for (const dts of ts.waitingOn) {
    check(ts.dependencies.has(dts), `waits on ${dts.id}, no dependency`);
    check(dts.whoHas.size === 0, `waits on ${dts.id}, which is in memory`);
    check(dts.code !== State.released, `waits on released ${dts.id}`);
  }
  for (const dts of ts.waiters) {
    check(ts.dependents.has(dts), `waiter ${dts.id} is no dependent`);
    check(isInPlay(dts.code), `waiter ${dts.id} is ${dts.state}`);
  }
  for (const dts of ts.dependencies) {
    check(dts.dependents.has(ts), `not among the dependents of ${dts.id}`);
    check(dts.code !== State.forgotten, `depends on forgotten ${dts.id}`);
    if (isInPlay(code)) {
      check(dts.whoHas.size > 0 !== ts.waitingOn.has(dts), `dependency ${dts.id} neither held nor waited for`);
      check(dts.waiters.has(ts), `not among the waiters of ${dts.id}`);
    } else {
      check(!dts.waiters.has(ts), `among the waiters of ${dts.id}`);
    }
  }
  for (const dts of ts.dependents) {
    check(dts.dependencies.has(ts), `dependent ${dts.id} does not depend on it`);
    check(dts.code !== State.forgotten, `dependent ${dts.id} is forgotten`);
  }
  for (const cs of ts.whoWants) check(cs.wantsWhat.has(ts), `wanted by ${cs.client}, who does not know`);
  for (const ws of ts.whoHas) {
    check(ws.hasWhat.has(ts), `held by ${ws.address}, which does not know`);
    check(state.workers.get(ws.address) === ws, `held by ${ws.address}, which is gone`);
  }
  check((ts.processingOn !== null) === (code === State.processing), "processing_on");
  check(ts.whoHas.size > 0 === (code === State.memory), "who_has");
  check(state.queued.has(ts) === (code === State.queued), "queued");
  check(state.unrunnable.has(ts) === (code === State.noWorker), "unrunnable");
  check(state.replicatedTasks.has(ts) === ts.whoHas.size > 1, "replicated_tasks");
  if (isInPlay(code)) {
    check(ts.waitingOn.size > 0 === (code === State.waiting), "waiting_on");
    check(ts.runSpec !== null, "in play without run_spec");
  } else {
    check(ts.waitingOn.size === 0, "waiting_on although not in play");
  }
  switch (code) {
    case State.released:
      check(ts.waiters.size === 0, "released with waiters");
      break;
    case State.queued:
      check(!(ts.restrictions?.limits ?? false), "queued with restrictions");
      check(!ts.actor, "queued actor");
      break;
    case State.processing:
      check(ts.processingOn?.processing.has(ts) ?? false, "not among the worker's processing");
      check(!ts.actor || (ts.processingOn?.actors.has(ts) ?? false), "actor unknown to its worker");
      break;
    case State.memory:
      check(ts.runSpec === null || ts.waiters.size > 0 || ts.wanted, "unneeded task in memory");
      for (const dts of ts.dependents) {
        check(ts.waiters.has(dts) === isInPlay(dts.code), `waiter ${dts.id} is ${dts.state}`);
        check(!dts.waitingOn.has(ts), `dependent ${dts.id} still waits`);
      }
      break;
    case State.erred:
      check(ts.exceptionBlame !== null, "erred without anyone to blame");
      check(ts.waiters.size === 0, "erred with waiters");
      break;
    default:
  }
}

function checkContainers(state: SchedulerState, check: Check): void {
  let since = Number.NEGATIVE_INFINITY;
  for (const [ts, time] of state.unrunnable) {
    check(ts.code === State.noWorker, `unrunnable ${ts.id} is ${ts.state}`);
    check(since <= time, "unrunnable is not in the order of time");
    since = time;
  }
  for (const ts of state.queued.values()) check(ts.code === State.queued, `queued ${ts.id} is ${ts.state}`);
  for (const ts of state.replicatedTasks) check(state.tasks.get(ts.id) === ts, `replicated ${ts.id} is forgotten`);
  check(
    state.queued.size === 0 || state.slots.size === 0 || state.config.workerSaturation === Number.POSITIVE_INFINITY,
    "queued tasks although slots are open",
  );
}

function checkWorkers(state: SchedulerState, check: Check): void {
  const list = state.workerOrder.list;
  check(list.length === state.workers.size, "worker order: size");
  let nthreads = 0;
  let slots = 0;
  let open = 0;
  let network = 0;
  let compute = 0;
  let counted = 0;
  list.forEach((ws, rank) => {
    check(ws.rank === rank, `${ws.address}: rank`);
    check(rank === 0 || (list[rank - 1] as WorkerState).address < ws.address, "worker order");
    checkWorker(state, ws, check);
    nthreads += ws.nthreads;
    network += ws.networkOcc;
    if (state.slots.has(ws)) slots++;
    open += ws.openSlots;
    for (const [prefix, count] of ws.prefixCounts) {
      compute += prefix.estimate * count;
      counted += count;
    }
  });
  check(nthreads === state.totalNthreads, "total_nthreads");
  check(slots === state.slots.size, "slots: size");
  check(open === state.openSlots, "slots: sum");
  check(network === state.networkOcc, `network occupancy ${state.networkOcc}, in fact ${network}`);
  check(counted === state.processingTasks, "number of processing tasks");
  const drift = Math.abs(compute - state.computeOccupancy);
  check(drift <= 1e-6 * (1 + compute), `compute occupancy ${state.computeOccupancy}, in fact ${compute}`);
  check(totalOccupancy(state) >= 0, "total occupancy");
}

function checkWorker(state: SchedulerState, ws: WorkerState, check: Check): void {
  const where = ws.address;
  const running = ws.status === "running";
  check(state.workers.get(where) === ws, `${where}: unknown`);
  check(state.running.has(ws) === running, `${where}: running`);
  check(running || !state.idle.has(ws), `${where}: idle but not running`);
  check(running || !state.saturated.has(ws), `${where}: saturated but not running`);
  check(running || !state.slots.has(ws), `${where}: has slots but is not running`);
  check(!(state.idle.has(ws) && state.saturated.has(ws)), `${where}: idle and saturated`);
  if (ws.processing.size === 0) {
    check(occupancyOf(state, ws) === 0, `${where}: occupancy without tasks`);
    check(!running || ws.nthreads === 0 || state.idle.has(ws), `${where}: nothing to do but not idle`);
  }
  if (running && state.config.workerSaturation !== Number.POSITIVE_INFINITY) {
    const open = Math.max(0, taskSlotsAvailable(state, ws));
    check(ws.openSlots === open, `${where}: ${ws.openSlots} open slots, in fact ${open}`);
    check(state.slots.has(ws) === open > 0, `${where}: slots`);
  }
  const prefixes = new Map<unknown, number>();
  const needs = new Map<TaskState, number>();
  for (const ts of ws.processing) {
    check(ts.processingOn === ws, `${where}: processes ${ts.id}, which is elsewhere`);
    if (!ws.longRunning.has(ts)) prefixes.set(ts.prefix, (prefixes.get(ts.prefix) ?? 0) + 1);
    for (const dts of ts.dependencies) if (!ws.hasWhat.has(dts)) needs.set(dts, (needs.get(dts) ?? 0) + 1);
  }
  for (const ts of ws.longRunning) check(ws.processing.has(ts), `${where}: long-running ${ts.id} not processing`);
  check(prefixes.size === ws.prefixCounts.size, `${where}: prefix counts`);
  for (const [prefix, count] of ws.prefixCounts) check(prefixes.get(prefix) === count, `${where}: prefix counts`);
  for (const [ts, count] of ws.needsWhat) {
    check(!ws.hasWhat.has(ts), `${where}: needs ${ts.id}, which it has`);
    check(count <= (needs.get(ts) ?? 0), `${where}: needs ${ts.id} ${count} times, in fact ${needs.get(ts) ?? 0}`);
  }
  let nbytes = 0;
  for (const ts of ws.hasWhat) {
    check(ts.whoHas.has(ws), `${where}: holds ${ts.id}, which does not know`);
    nbytes += state.nbytesOf(ts);
  }
  check(nbytes === ws.nbytes, `${where}: ${ws.nbytes} bytes, in fact ${nbytes}`);
  for (const ts of ws.actors) {
    check(ts.code === State.memory || ts.code === State.processing, `${where}: actor ${ts.id} is ${ts.state}`);
  }
}

function checkGroups(state: SchedulerState, check: Check): void {
  const counts = new Map<TaskGroup, number[]>();
  for (const ts of state.tasks.values()) {
    let list = counts.get(ts.group);
    if (list === undefined) {
      list = noTasks();
      counts.set(ts.group, list);
    }
    list[ts.code] = (list[ts.code] as number) + 1;
  }
  for (const group of state.taskGroups.values()) {
    const list = counts.get(group);
    check(list !== undefined, `group ${group.id} has no tasks`);
    let size = 0;
    for (let code = 0; code < STATE_COUNT; code++) {
      size += group.states[code] as number;
      if (code !== State.forgotten) check(group.states[code] === list?.[code], `group ${group.id}: counts`);
    }
    check(size === group.size, `group ${group.id}: size`);
    counts.delete(group);
  }
  check(counts.size === 0, "tasks of unknown groups");
  for (const prefix of state.taskPrefixes.values()) {
    const sums = noTasks();
    for (const group of prefix.groups) {
      group.states.forEach((count, code) => {
        sums[code] = (sums[code] as number) + count;
      });
    }
    for (let code = 0; code < STATE_COUNT; code++) {
      check(prefix.states[code] === sums[code], `prefix ${prefix.name}: counts`);
    }
  }
}
