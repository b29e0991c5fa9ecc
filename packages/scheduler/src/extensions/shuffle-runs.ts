/** The runs of P2P shuffles, and what ends or restarts them (ShuffleSchedulerPlugin.transition, remove_worker). */
import { type Key, pythonRepr } from "@dask-ts/protocol";
import { setStimulus } from "../core/event.ts";
import type { TransitionExtra } from "../core/hooks.ts";
import { queueSlotsMaybeOpened } from "../core/queue-slots.ts";
import { Restrictions } from "../core/restrictions.ts";
import type { SchedulerCore } from "../core/scheduler-core.ts";
import { State, type StateCode, stateName } from "../core/task-status.ts";
import type { TaskGroup } from "../core/task-group.ts";
import type { TaskState } from "../core/task-state.ts";
import { drain } from "../core/transitions/engine.ts";
import type { WorkerState } from "../core/worker-state.ts";
import type { Logger as Log } from "@dask-ts/protocol";
import { consistencyError, describeRun, illegalStateError, type ShuffleRun } from "./shuffle-run.ts";

/** What is known of a barrier task for which there was a run. */
interface BarrierRecord {
  active: ShuffleRun | null;
  /** All runs, for as long as the scheduler knows the barrier. */
  readonly runs: Set<ShuffleRun>;
}

/** Does something in an event of its own, after the one that is under way. */
export type Later = (act: () => void) => void;

const RUNS_ONCE_MORE: ReadonlySet<StateCode> = new Set([State.waiting, State.processing, State.queued, State.noWorker]);

export class ShuffleRuns {
  /** By shuffle id. */
  readonly active: Map<string, ShuffleRun> = new Map();
  readonly log: Log;
  readonly #core: SchedulerCore;
  readonly #barriers: Map<TaskState, BarrierRecord> = new Map();
  /** Ended runs by the event that ended them: one event may end a run before it is seen to be the cause to restart it. */
  readonly #archivedByStimulus: Map<string, Set<ShuffleRun>> = new Map();
  /** Output tasks pinned to a worker → what restrictions they had. */
  readonly #pinned: WeakMap<TaskState, Restrictions | null> = new WeakMap();
  readonly #later: Later;
  #listening = false;

  constructor(core: SchedulerCore, log: Log, later: Later) {
    this.#core = core;
    this.log = log;
    this.#later = later;
  }

  /** The active run whose barrier this is. */
  activeOf(barrier: TaskState): ShuffleRun | undefined {
    return this.#barriers.get(barrier)?.active ?? undefined;
  }

  /**
   * The active run, with the worker among its participants; undefined where there is none.
   *
   * @param key the task that sends data to it.
   * @throws {PythonError} P2PConsistencyError for an unknown worker.
   */
  join(id: string, worker: string, key?: Key): ShuffleRun | undefined {
    this.requireWorker(worker);
    const run = this.active.get(id);
    if (run === undefined) return undefined;
    run.participants.add(worker);
    const ts = key === undefined ? undefined : this.#core.state.taskOf(key);
    if (ts !== undefined) run.transferGroups.add(ts.group);
    return run;
  }

  requireWorker(worker: string): void {
    if (this.#core.state.workers.has(worker)) return;
    throw consistencyError(`Scheduler is unaware of this worker ${pythonRepr(worker)}`);
  }

  add(run: ShuffleRun): void {
    this.#listen();
    this.active.set(run.id, run);
    let record = this.#barriers.get(run.barrier);
    if (record === undefined) {
      record = { active: null, runs: new Set() };
      this.#barriers.set(run.barrier, record);
    }
    record.active = run;
    record.runs.add(run);
  }

  /** From the first run on; a cluster without shuffles pays nothing for them. */
  #listen(): void {
    if (this.#listening) return;
    this.#listening = true;
    const { listeners } = this.#core;
    listeners.transition.push((ts, start, finish, extra) => this.#onTransition(ts, start, finish, extra));
    listeners.removeWorker.push((ws, stimulusId) => this.#onRemoveWorker(ws, stimulusId));
  }

  #onTransition(ts: TaskState, start: StateCode, finish: StateCode, extra: TransitionExtra): void {
    if (finish !== State.released && finish !== State.erred && finish !== State.forgotten) return;
    if (this.#barriers.size === 0) return;
    if (finish === State.erred) this.#reportFailure(ts, extra.stimulusId);
    const record = this.#barriers.get(ts);
    if (record === undefined) return;
    const run = record.active;
    if (run !== null) {
      this.#failOnWorkers(run, `${describeRun(run)} forgotten`);
      this.#deactivate(run, extra.stimulusId);
      this.log.debug(
        `Shuffle ${run.id} forgotten because task ${pythonRepr(ts.key)} transitioned to ` +
          `${stateName(finish)} due to stimulus '${extra.stimulusId}'`,
      );
      // It did not end: it is retried, or what it said came from an attempt that was called off. Dask keeps the
      // transfers, so that the barrier and each retry of it fail with "No active shuffle".
      if (start === State.processing && finish === State.released) {
        this.#later(() => {
          if (this.#isStranded(run)) this.restart(run, extra.stimulusId);
        });
      }
    }
    if (finish === State.forgotten) {
      this.#barriers.delete(ts);
      for (const past of record.runs) this.#unarchive(past);
    }
  }

  /** Its barrier is still to be run, and no run has taken its place. */
  #isStranded({ barrier, archivedBy }: ShuffleRun): boolean {
    const record = this.#barriers.get(barrier);
    if (record === undefined || record.active !== null || archivedBy === null) return false;
    return RUNS_ONCE_MORE.has(barrier.code) && barrier.dependencies.items.every((dts) => dts.code === State.memory);
  }

  /** One event per run, and only where a task of the shuffle itself is the root of the error. */
  #reportFailure(ts: TaskState, stimulusId: string): void {
    if (ts.exceptionBlame !== ts) return;
    for (const run of this.active.values()) {
      if (run.failed) continue;
      const { barrier } = run;
      if (ts !== barrier && !barrier.dependents.has(ts) && !barrier.dependencies.has(ts)) continue;
      run.failed = true;
      this.#core.outbox.event(
        "p2p",
        new Map([
          ["action", "p2p-failed"],
          ["shuffle", run.id],
          ["stimulus", stimulusId],
        ]),
      );
      return;
    }
  }

  #onRemoveWorker(ws: WorkerState, stimulusId: string): void {
    for (const run of this.active.values()) {
      if (!run.participants.has(ws.address)) continue;
      this.log.debug(`Worker ${ws.address} removed during active shuffle ${run.id} due to stimulus '${stimulusId}'`);
      this.#failOnWorkers(run, `Worker ${ws.address} left during active ${describeRun(run)}`);
      this.#deactivate(run, stimulusId);
    }
    // With those that ended when the removal released their barrier.
    for (const run of this.#archivedByStimulus.get(stimulusId) ?? []) {
      if (this.#barriers.has(run.barrier)) this.restart(run, stimulusId);
    }
  }

  /**
   * Transfers, barrier and outputs run anew. To be called within an event, with no transition under way
   * (ShuffleSchedulerPlugin._restart_shuffle).
   */
  restart(run: ShuffleRun, stimulusId: string): void {
    const core = this.#core;
    setStimulus(core, stimulusId);
    for (const ts of restartedTasks(run)) core.recs.set(ts, State.released);
    drain(core);
    queueSlotsMaybeOpened(core);
    this.log.warning(`Shuffle ${run.id} restarted due to stimulus '${stimulusId}'`);
  }

  /** The output task runs on this worker only, until its shuffle ends. */
  pin(ts: TaskState, worker: string): void {
    // Pinned before: a join's output has two barriers.
    if (this.#pinned.has(ts)) return;
    const old = ts.restrictions;
    this.#pinned.set(ts, old);
    ts.restrictions = new Restrictions(
      new Set([worker]),
      old?.hosts ?? null,
      old?.resources ?? null,
      old?.loose ?? false,
      old?.resourcesOnWire ?? null,
    );
  }

  #unpin(ts: TaskState): void {
    const original = this.#pinned.get(ts);
    if (original === undefined) return;
    this.#pinned.delete(ts);
    ts.restrictions = original;
  }

  #failOnWorkers(run: ShuffleRun, message: string): void {
    const { outbox, state } = this.#core;
    for (const address of run.participants) {
      // Ahead of the event's other messages: a transfer that starts anew must not find the old run.
      if (state.workers.has(address)) {
        outbox.workerFirst(address, { op: "shuffle-fail", shuffle_id: run.id, run_id: run.runId, message });
      }
    }
  }

  /** ShuffleSchedulerPlugin._clean_on_scheduler. */
  #deactivate(run: ShuffleRun, stimulusId: string): void {
    this.active.delete(run.id);
    const record = this.#barriers.get(run.barrier);
    if (record !== undefined) record.active = null;
    this.log.warning(`Shuffle ${run.id} deactivated due to stimulus '${stimulusId}'`);
    if (run.archivedBy === null) {
      run.archivedBy = stimulusId;
      const archived = this.#archivedByStimulus.get(stimulusId);
      if (archived === undefined) this.#archivedByStimulus.set(stimulusId, new Set([run]));
      else archived.add(run);
    }
    run.ended.abort();
    run.heartbeats.clear();
    for (const dts of run.barrier.dependents.items) this.#unpin(dts);
  }

  #unarchive(run: ShuffleRun): void {
    if (run.archivedBy === null) return;
    const archived = this.#archivedByStimulus.get(run.archivedBy);
    if (archived?.delete(run) && archived.size === 0) this.#archivedByStimulus.delete(run.archivedBy);
  }

  /** Client.restart: the tasks are gone. */
  clear(): void {
    for (const run of this.active.values()) run.ended.abort();
    this.active.clear();
    this.#barriers.clear();
    this.#archivedByStimulus.clear();
  }
}

/** ShuffleSchedulerPlugin._restart_recommendations; transfers come last, so that they go first. */
function restartedTasks(run: ShuffleRun): TaskState[] {
  const { barrier } = run;
  const { dependents, dependencies } = barrier;
  // The shuffle failed: it stays so.
  if (dependents.items.some((dts) => dts.code === State.erred)) return [];
  if (barrier.code === State.erred) {
    throw illegalStateError(
      `Expected dependents of barrier_task=${describeTask(barrier)} to be 'erred' if the barrier is.`,
    );
  }
  const failed = dependencies.items.find((dts) => dts.code === State.erred);
  if (failed !== undefined) {
    throw illegalStateError(
      `Expected barrier and its dependents to be 'erred' if the barrier's dependency ${describeTask(failed)} is.`,
    );
  }
  return [...dependents.items, barrier, ...transfersOf(run)];
}

function transfersOf({ barrier: { dependencies }, transferGroups }: ShuffleRun): TaskState[] {
  return [...dependencies.items, ...fusedTransfers(dependencies.items, transferGroups)];
}

/**
 * Where a transfer was fused with the task before it, the barrier depends on an alias of the fused task. While the alias
 * is not computed, the fused task is in memory, with the id of the run that has ended. Dask restarts the alias only, and
 * the barrier then fails with "No active shuffle".
 */
function* fusedTransfers(dependencies: readonly TaskState[], groups: ReadonlySet<TaskGroup>): Generator<TaskState> {
  for (const { group, dependencies: inputs } of dependencies) {
    const [target] = inputs.items;
    if (target === undefined || inputs.size > 1 || target.group === group || target.code === State.erred) continue;
    if (groups.has(target.group)) yield target;
  }
}

function describeTask(ts: TaskState): string {
  return `<TaskState ${pythonRepr(ts.key)} ${ts.state}>`;
}
