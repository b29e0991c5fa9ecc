/** Starting a run of a P2P shuffle (ShuffleSchedulerPlugin._create). The graph host opens the barrier's spec. */
import { formatKey, type Key, keyId, type Message, Pickled, pythonRepr, type Value } from "@dask-ts/protocol";
import type { SchedulerCore } from "../core/scheduler-core.ts";
import type { SchedulerState } from "../core/state.ts";
import { State } from "../core/task-status.ts";
import type { TaskState } from "../core/task-state.ts";
import { pythonError } from "../server/exceptions.ts";
import { barrierKey, consistencyError, illegalStateError, type Partition, type ShuffleRun } from "./shuffle-run.ts";
import type { ShuffleRuns } from "./shuffle-runs.ts";

/** The graph host's op `shuffle-run-spec`. */
export type OpenSpec = (fields: Message) => Promise<Message>;

/**
 * Makes runs, one at a time: shuffles that share output tasks have to agree on the workers, so the second must see what
 * the first has chosen.
 */
export class ShuffleCreator {
  readonly #core: SchedulerCore;
  readonly #runs: ShuffleRuns;
  readonly #openSpec: OpenSpec;
  #last: Promise<unknown> = Promise.resolve();
  #runCounter = 0;
  /** Small shuffles that go on side by side (partial rechunks) start at different workers. */
  #shift = 0;

  constructor(core: SchedulerCore, runs: ShuffleRuns, openSpec: OpenSpec) {
    this.#core = core;
    this.#runs = runs;
    this.#openSpec = openSpec;
  }

  /**
   * The active run of the shuffle, which is created where there is none.
   *
   * @param key the task that asks.
   * @throws {PythonError} P2PConsistencyError where the barrier is not there, or the task is not being processed.
   */
  getOrCreate(id: string, key: Key, worker: string): Promise<ShuffleRun> {
    const result = this.#last.then(() => this.#runs.join(id, worker, key) ?? this.#create(id, key, worker));
    this.#last = result.catch(() => undefined);
    return result;
  }

  async #create(id: string, key: Key, worker: string): Promise<ShuffleRun> {
    const { state } = this.#core;
    for (;;) {
      const barrier = barrierOf(state, id);
      requireProcessing(state, key);
      const runId = ++this.#runCounter;
      const alive = new Set(state.workers.keys());
      const reply = await this.#openSpec({
        run_spec: barrier.runSpec,
        run_id: runId,
        span_id: state.taskOf(key)?.group.spanId ?? null,
        workers: this.#candidates(state, barrier),
        existing: this.#existing(id, barrier),
      });
      const { run_spec: runSpec } = reply;
      if (!(runSpec instanceof Pickled)) throw new TypeError("the graph host sent no run spec");
      const workerFor = pairsOf(reply["worker_for"] ?? null);
      const participants = new Set(workerFor.map(([, address]) => address));
      // What has happened while the graph host was at work: stock does all of this within one event.
      this.#runs.requireWorker(worker);
      if (barrierOf(state, id) !== barrier) continue;
      if ([...participants].some((address) => alive.has(address) && !state.workers.has(address))) continue;
      const ts = requireProcessing(state, key);
      participants.add(worker);
      // Outputs run once to learn their worker, all at once: they must not wait in the queue for that.
      for (const dts of barrier.dependents.items) dts.queueable = false;
      const run: ShuffleRun = {
        id,
        runId,
        barrier,
        runSpec: runSpec.compact(),
        workerFor,
        participants,
        transferGroups: new Set([ts.group]),
        heartbeats: new Map(),
        archivedBy: null,
        ended: new AbortController(),
        failed: false,
      };
      this.#runs.add(run);
      this.#runs.log.warning(`Shuffle ${id} initialized by task ${pythonRepr(key)} executed on worker ${worker}`);
      return run;
    }
  }

  /** The workers to pick from, in order. Barrier and outputs are taken to have the same restrictions. */
  #candidates(state: SchedulerState, barrier: TaskState): string[] {
    const restricted = barrier.restrictions?.workers;
    const workers = restricted ? [...restricted] : state.workerOrder.list.map((ws) => ws.address);
    if (workers.length === 0) throw pythonError("RuntimeError", "there is no worker to shuffle to");
    const by = this.#shift++ % workers.length;
    return [...workers.slice(by), ...workers.slice(0, by)];
  }

  /** Where active shuffles with the same output tasks have their partitions (the other side of a join). */
  #existing(id: string, barrier: TaskState): Value {
    const others = new Set<ShuffleRun>();
    if (this.#runs.active.size > 0) {
      for (const dependent of barrier.dependents.items) {
        for (const dts of dependent.dependencies.items) {
          const run = dts === barrier ? undefined : this.#runs.activeOf(dts);
          if (run !== undefined) others.add(run);
        }
      }
    }
    const [first, ...more] = others;
    if (first === undefined) return [];
    if (more.length === 0) return first.workerFor;
    const known = new Map<string, readonly [Partition, string]>();
    for (const run of others) {
      for (const pair of run.workerFor) {
        const partition = keyId(pair[0]);
        const other = known.get(partition);
        if (other !== undefined && other[1] !== pair[1]) {
          throw illegalStateError(
            `Failed to initialize shuffle ${id} because it cannot align output partition mappings between ` +
              `existing shuffles. Mismatch encountered for output partition ${pythonRepr(pair[0])}: ` +
              `${other[1]} != ${pair[1]}.`,
          );
        }
        known.set(partition, pair);
      }
    }
    return [...known.values()] as Value;
  }
}

function barrierOf(state: SchedulerState, id: string): TaskState {
  const key = barrierKey(id);
  const barrier = state.taskOf(key);
  if (barrier !== undefined) return barrier;
  throw consistencyError(
    `Barrier task with key '${formatKey(key)}' does not exist. This may be caused by task fusion during graph ` +
      "generation. Please let us know that you ran into this by leaving a comment at distributed#7816.",
  );
}

function requireProcessing(state: SchedulerState, key: Key): TaskState {
  const ts = state.taskOf(key);
  if (ts === undefined) throw pythonError("KeyError", formatKey(key));
  if (ts.code === State.processing) return ts;
  throw consistencyError(`Expected <TaskState ${pythonRepr(key)} ${ts.state}> to be processing, is ${ts.state}.`);
}

function pairsOf(value: Value): [Partition, string][] {
  if (!Array.isArray(value)) throw new TypeError("the graph host sent no partition map");
  return value.map((pair) => {
    const [partition, worker] = Array.isArray(pair) ? pair : [];
    if (partition === undefined || typeof worker !== "string")
      throw new TypeError("the partition map is no list of pairs");
    return [partition, worker];
  });
}
