/** P2P shuffles (distributed.shuffle._scheduler_plugin.ShuffleSchedulerPlugin). The data goes between the workers. */
import {
  errorReply,
  isKey,
  type Key,
  type Message,
  PythonError,
  pythonRepr,
  RemoteError,
  type Value,
} from "@dask-ts/protocol";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";
import { flagField, optionalNumber, stringField } from "../server/fields.ts";
import { ShuffleCreator } from "./shuffle-create.ts";
import { consistencyError, describeRun, illegalStateError, type ShuffleRun } from "./shuffle-run.ts";
import { ShuffleRuns } from "./shuffle-runs.ts";

const RETRY_DELAY_MS = 100;
/** Rounds of the barrier in which no worker answered that had not before. */
const MAX_NO_PROGRESS = 3;

export class Shuffle implements SchedulerExtension {
  readonly name = "shuffle";
  #context!: SchedulerContext;
  #runs!: ShuffleRuns;
  #creator!: ShuffleCreator;

  start(context: SchedulerContext): void {
    this.#context = context;
    const log = context.log.named("distributed.shuffle._scheduler_plugin");
    this.#runs = new ShuffleRuns(context.core, log, (act) =>
      queueMicrotask(() => {
        context.apply((core, now) => {
          core.now = now;
          act();
        });
      }),
    );
    this.#creator = new ShuffleCreator(context.core, this.#runs, async (fields) => {
      const host = await context.graphHost();
      return await host.call("shuffle-run-spec", fields);
    });
  }

  readonly rpcHandlers = {
    shuffle_get: (fields: Message): Promise<Value> => replying(() => this.#get(fields)),
    shuffle_get_or_create: (fields: Message): Promise<Value> => replying(() => this.#getOrCreate(fields)),
    shuffle_restrict_task: (fields: Message): Promise<Value> => replying(() => this.#restrictTask(fields)),
    shuffle_barrier: (fields: Message): Promise<Value> => this.#barrier(fields),
  };

  /** Active runs by shuffle id; read only. */
  get active(): ReadonlyMap<string, ShuffleRun> {
    return this.#runs.active;
  }

  #get(fields: Message): Message {
    const id = stringField(fields, "id");
    const run = this.#runs.join(id, stringField(fields, "worker"));
    if (run === undefined) throw consistencyError(`No active shuffle with id=${pythonRepr(id)} found`);
    return { status: "OK", run_spec: run.runSpec };
  }

  async #getOrCreate(fields: Message): Promise<Message> {
    const id = stringField(fields, "shuffle_id");
    const key = keyField(fields);
    const worker = stringField(fields, "worker");
    const run = this.#runs.join(id, worker, key) ?? (await this.#creator.getOrCreate(id, key, worker));
    return { status: "OK", run_spec: run.runSpec };
  }

  #restrictTask(fields: Message): Message {
    const run = this.#activeRun(stringField(fields, "id"));
    const runId = runIdOf(fields);
    if (run.runId !== runId) {
      const what = run.runId > runId ? "stale" : "invalid";
      throw consistencyError(`Request ${what}, expected run_id=${runId} for ${describeRun(run)}`);
    }
    const key = keyField(fields);
    const ts = this.#context.core.state.taskOf(key);
    if (ts === undefined) throw pythonError("KeyError", String(key));
    this.#runs.pin(ts, stringField(fields, "worker"));
    return { status: "OK" };
  }

  /** All inputs are in: tells the participants, and returns once all of them have sent what they held back. */
  async #barrier(fields: Message): Promise<Value> {
    const run = this.#activeRun(stringField(fields, "id"));
    const runId = runIdOf(fields);
    if (run.runId !== runId) throw pythonError("ValueError", `run_id=${runId} does not match ${describeRun(run)}`);
    if (!flagField(fields, "consistent", true)) {
      this.#runs.log.warning(`Shuffle ${run.id} restarted due to data inconsistency during barrier`);
      this.#context.apply((core, now) => {
        core.now = now;
        this.#runs.restart(run, `p2p-barrier-inconsistent-${now}`);
      });
      return null;
    }
    let waiting = [...run.participants];
    let noProgress = 0;
    while (waiting.length > 0) {
      const before = waiting.length;
      waiting = await this.#askInputsDone(run, waiting);
      if (waiting.length === 0) break;
      this.#runs.log.warning(`Failure during broadcast of ${run.id}, retrying.`);
      this.#requireAlive(run, waiting);
      await this.#context.sleep(RETRY_DELAY_MS);
      if (waiting.length === before && ++noProgress >= MAX_NO_PROGRESS) {
        throw pythonError(
          "RuntimeError",
          `Broadcast not making progress for ${describeRun(run)}. Aborting. This is possibly due to overloaded ` +
            "workers. Increasing config `distributed.comm.timeouts.connect` timeout may help.",
        );
      }
    }
    return null;
  }

  /**
   * @returns the workers that could not be reached.
   * @throws {PythonError} RuntimeError at once when the run ends meanwhile. Dask tries for as long as a connection may
   * take; the barrier task, called off and wanted again by then, would take that failure for the new run's.
   */
  async #askInputsDone(run: ShuffleRun, workers: readonly string[]): Promise<string[]> {
    const { signal } = run.ended;
    const error = (): Error =>
      pythonError("RuntimeError", `${describeRun(run)} ended while its barrier waited for ${pythonRepr([...workers])}`);
    if (signal.aborted) throw error();
    return await Promise.race([
      this.#broadcastInputsDone(run, workers),
      new Promise<never>((_resolve, reject) => {
        signal.addEventListener("abort", () => reject(error()), { once: true });
      }),
    ]);
  }

  async #broadcastInputsDone(run: ShuffleRun, workers: readonly string[]): Promise<string[]> {
    const { pool, settings, log } = this.#context;
    const fields = { shuffle_id: run.id, run_id: run.runId, close: !settings.reuseBroadcastComm };
    const failures = await Promise.all(
      workers.map(async (address): Promise<{ address: string; error: unknown } | undefined> => {
        try {
          await pool.call(address, "shuffle_inputs_done", fields);
          return undefined;
        } catch (error) {
          return { address, error };
        }
      }),
    );
    const unreached: string[] = [];
    for (const failure of failures) {
      if (failure === undefined) continue;
      const { address, error } = failure;
      const text = error instanceof RemoteError ? error.exceptionText : error instanceof Error ? error.message : "";
      log.error(`broadcast to ${address} failed: ${text}`);
      if (error instanceof RemoteError && !OS_ERROR.test(text)) {
        throw pythonError("RuntimeError", `Unexpected error encountered during P2P barrier: ${text}`);
      }
      unreached.push(address);
    }
    return unreached;
  }

  #requireAlive(run: ShuffleRun, workers: readonly string[]): void {
    const { workers: known } = this.#context.core.state;
    if (workers.every((address) => known.has(address))) return;
    if (run.archivedBy === null) {
      throw illegalStateError("Expected shuffle to be archived if participating worker is not known by scheduler");
    }
    throw pythonError("RuntimeError", `Worker ${pythonRepr([...workers])} left during shuffle ${describeRun(run)}`);
  }

  #activeRun(id: string): ShuffleRun {
    const run = this.#runs.active.get(id);
    if (run === undefined) throw pythonError("KeyError", id);
    return run;
  }

  heartbeat(address: string, data: Value): undefined {
    if (!(data instanceof Map) || this.#runs.active.size === 0) return;
    for (const [id, facts] of data as ReadonlyMap<Value, Value>) {
      const run = typeof id === "string" ? this.#runs.active.get(id) : undefined;
      if (run === undefined || !(facts instanceof Map)) continue;
      const known = run.heartbeats.get(address);
      run.heartbeats.set(address, new Map([...(known ?? []), ...(facts as ReadonlyMap<Value, Value>)]));
    }
  }

  keepsWorker(address: string): boolean {
    for (const run of this.#runs.active.values()) if (run.participants.has(address)) return true;
    return false;
  }

  onRestart(): void {
    this.#runs.clear();
  }
}

/** `repr` of an OSError or a class below it: the worker may do better the next time. */
const OS_ERROR =
  /^(OSError|IOError|TimeoutError|CommClosedError|P2POutOfDiskError|FileNotFoundError|PermissionError|BlockingIOError|\w*ConnectionError|Connection(Refused|Reset|Aborted)Error|BrokenPipeError)\(/;

/** A P2PConsistencyError is a reply, which the worker raises in the task; what else goes wrong fails the call. */
async function replying(work: () => Message | Promise<Message>): Promise<Message> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof PythonError && error.kind === "P2PConsistencyError") return errorReply(error, "error");
    throw error;
  }
}

function runIdOf(fields: Message): number {
  const runId = optionalNumber(fields, "run_id");
  if (runId === null) throw new TypeError("missing argument: 'run_id'");
  return runId;
}

function keyField(fields: Message): Key {
  const key = fields["key"];
  if (isKey(key)) return key;
  throw new TypeError("'key' is no task key");
}
