/**
 * Looks on, knows what is true, and says so where the product does something else. Checks that can be made at once are
 * here; those that need the cluster at rest are in invariants.ts.
 */
import { type Key, keyId, type Message, type Value } from "../../packages/protocol/src/index.ts";
import {
  type ExceptionInfo,
  type Graph,
  isInPlay,
  occupancyOf,
  type SchedulerCore,
  State,
  type UpdateGraphResult,
} from "../../packages/scheduler/src/core/index.ts";
import type { WorkerMachine } from "../../packages/worker/src/core/index.ts";
import type { Submission, Task } from "./tasks.ts";
import { Violation } from "./world.ts";

/** A task that the scheduler has given to a worker, until it hears the end of it or takes it back. */
interface Assignment {
  readonly worker: string;
  readonly runId: number;
}

/** States in which a worker gives a task away that is stolen. */
const STOLEN: ReadonlySet<Value | undefined> = new Set<Value>(["ready", "constrained", "waiting"]);

export class Monitor {
  readonly tasks: Map<string, Task> = new Map();
  readonly submissions: Map<string, Submission> = new Map();
  /** Keys that may be cancelled under a client's hands: somebody asked for it, or the data is lost for good. */
  readonly excused: Set<string> = new Set();
  /** Submissions whose graph could not be opened. */
  readonly lostGraphs: Set<string> = new Set();
  /** How often a worker was lost that had the task. */
  readonly deaths: Map<string, number> = new Map();
  /** Actors that were lost with their worker. */
  readonly lostActors: Set<string> = new Set();
  workersLost = 0;
  /** Tasks that were erred once and tried again: as with Dask that is tried of them which nobody needs any more, too. */
  readonly #retried: Set<string> = new Set();
  /** Tasks sent since the last look at the scheduler. */
  readonly #sent: string[] = [];
  readonly #assignments: Map<string, Assignment> = new Map();
  /** Runs that were given to each worker: `address key` → run ids. */
  readonly #given: Map<string, Set<number>> = new Map();
  /** Runs that executors have begun. */
  readonly #started: Set<number> = new Set();

  /** Whether the cores may look for what is wrong by themselves (their validate mode). */
  validates = true;

  task(id: string): Task {
    const task = this.tasks.get(id);
    if (task === undefined) throw new Violation(`there is no task ${id}`);
    return task;
  }

  submission(name: string): Submission {
    const submission = this.submissions.get(name);
    if (submission === undefined) throw new Violation(`there is no submission ${name}`);
    return submission;
  }

  /** Follows what the core decides, in the order in which it does. */
  watch(core: SchedulerCore): void {
    const { outbox } = core;
    core.listeners.transition.push((ts, start) => {
      if (start === State.erred) this.#retried.add(ts.id);
    });
    const send = outbox.worker.bind(outbox);
    outbox.worker = (address, message) => {
      if (message["op"] === "compute-task") this.#assigned(core, address, message);
      else if (message["op"] === "free-keys") for (const key of message["keys"] as Key[]) this.#revoked(address, key);
      send(address, message);
    };
    const free = outbox.freeKey.bind(outbox);
    outbox.freeKey = (address, key, stimulusId) => {
      this.#revoked(address, key);
      free(address, key, stimulusId);
    };
    const close = outbox.closeWorker.bind(outbox);
    outbox.closeWorker = (address) => {
      for (const [id, { worker }] of this.#assignments) if (worker === address) this.#assignments.delete(id);
      close(address);
    };
    const remove = core.removeWorker.bind(core);
    core.removeWorker = (address, options, now) => {
      const ws = core.state.workers.get(address);
      if (ws !== undefined) {
        this.workersLost++;
        if (options.expected !== true) {
          for (const ts of ws.processing) this.deaths.set(ts.id, (this.deaths.get(ts.id) ?? 0) + 1);
        }
        for (const ts of ws.hasWhat) {
          // Scattered data cannot be made again.
          if (ts.runSpec === null && ts.whoHas.size === 1) this.excused.add(ts.id);
        }
        for (const ts of ws.actors) this.lostActors.add(ts.id);
      }
      return remove(address, options, now);
    };
  }

  #assigned(core: SchedulerCore, address: string, message: Message): void {
    const id = keyId(message["key"]);
    const runId = message["run_id"] as number;
    const known = this.#assignments.get(id);
    if (known !== undefined) {
      throw new Violation(`${id} is given to ${address}, but ${known.worker} has it already (run ${known.runId})`);
    }
    this.#assignments.set(id, { worker: address, runId });
    const slot = `${address} ${id}`;
    let given = this.#given.get(slot);
    if (given === undefined) {
      given = new Set();
      this.#given.set(slot, given);
    }
    given.add(runId);
    this.#checkPlace(core, id, address, message);
  }

  /** Restrictions are kept, and every dependency can be had from somewhere. */
  #checkPlace(core: SchedulerCore, id: string, address: string, message: Message): void {
    const task = this.task(id);
    const whoHas = message["who_has"] as ReadonlyMap<Key, readonly string[]>;
    const held = new Map(Array.from(whoHas, ([key, holders]) => [keyId(key), holders.length]));
    for (const dependency of task.dependencies) {
      if (!held.has(dependency.id)) throw new Violation(`${id} is sent without its dependency ${dependency.id}`);
      if (held.get(dependency.id) === 0) throw new Violation(`${id} is sent, but nobody has ${dependency.id}`);
      held.delete(dependency.id);
    }
    if (held.size > 0) throw new Violation(`${id} is sent with dependencies that are not its own`);
    const ws = core.state.workers.get(address);
    if (ws === undefined) throw new Violation(`${id} is sent to ${address}, which is gone`);
    if (ws.status !== "running") throw new Violation(`${id} is sent to ${address}, which is ${ws.status}`);
    this.#sent.push(id);
    const restrictions = core.state.tasks.get(id)?.restrictions;
    if (restrictions === null || restrictions === undefined || restrictions.loose) return;
    if (restrictions.workers !== null && !restrictions.workers.has(address)) {
      throw new Violation(`${id} must not run on ${address}`);
    }
    for (const [resource, amount] of restrictions.resources ?? []) {
      if ((ws.resources.get(resource) ?? 0) < amount) throw new Violation(`${address} has no ${resource} for ${id}`);
    }
  }

  #revoked(address: string, key: Key): void {
    const id = keyId(key);
    if (this.#assignments.get(id)?.worker === address) this.#assignments.delete(id);
  }

  /** Before the core takes it. */
  fromWorker(address: string, message: Message): void {
    const { op, key } = message;
    switch (op) {
      case "task-finished":
      case "task-erred": {
        const runId = message["run_id"] as number;
        if (runId >= 0 && this.#given.get(`${address} ${keyId(key)}`)?.has(runId) !== true) {
          throw new Violation(`${op} of ${keyId(key)} by ${address} for run ${runId}, which it never got`);
        }
        this.#revoked(address, key as Key);
        break;
      }
      case "reschedule":
        this.#revoked(address, key as Key);
        break;
      case "steal-response":
        if (STOLEN.has(message["state"])) this.#revoked(address, key as Key);
        break;
      default:
    }
  }

  // Runs.

  runStarted(worker: string, id: string, runId: number): void {
    // Two runs at once are two assignments, of which the first was taken back: see #assigned.
    if (this.#started.has(runId)) throw new Violation(`${id} starts a second time for run ${runId}, now on ${worker}`);
    this.#started.add(runId);
  }

  /** A value that arrived somewhere. */
  checkValue(id: string, value: number, where: string): void {
    const { value: expected } = this.task(id);
    if (value !== expected) throw new Violation(`${id} has the value ${value} ${where}, in truth it is ${expected}`);
  }

  // What must hold at any moment.

  checkScheduler(core: SchedulerCore): void {
    const { state } = core;
    if (!(state.computeOccupancy >= -1e-9)) throw new Violation(`compute occupancy is ${state.computeOccupancy}`);
    if (!(state.networkOcc >= 0)) throw new Violation(`network occupancy is ${state.networkOcc}`);
    for (const ws of state.workers.values()) {
      if (!(ws.nbytes >= 0)) throw new Violation(`${ws.address} holds ${ws.nbytes} bytes`);
      if (!(occupancyOf(state, ws) >= 0)) throw new Violation(`${ws.address} has a negative occupancy`);
      for (const [resource, used] of ws.usedResources) {
        if (!(used >= -1e-9)) throw new Violation(`${ws.address} uses ${used} of ${resource}`);
      }
    }
    // Not at once: where an erred task is tried again, those that need it are still erred when it is sent.
    for (const id of this.#sent.splice(0)) {
      const ts = state.tasks.get(id);
      if (
        ts?.processingOn &&
        !ts.wanted &&
        !this.#retried.has(id) &&
        !ts.dependents.items.some((dts) => isInPlay(dts.code))
      ) {
        throw new Violation(`${id} is sent, and nobody needs it`);
      }
    }
    if (!core.recs.empty) throw new Violation("recommendations are left over");
  }

  checkWorker(name: string, machine: WorkerMachine): void {
    if (!(machine.nbytes >= 0)) throw new Violation(`${name} holds ${machine.nbytes} bytes`);
    if (!(machine.transferIncomingBytes >= 0)) {
      throw new Violation(`${name} receives ${machine.transferIncomingBytes} bytes`);
    }
    for (const [resource, left] of machine.availableResources) {
      if (!(left >= -1e-9)) throw new Violation(`${name} has ${left} of ${resource} left`);
    }
  }

  // What excuses a client's future that is cancelled.

  graphLost(submission: string): void {
    this.lostGraphs.add(submission);
    // Whoever builds upon it builds upon nothing.
    for (const { id } of this.submission(submission).wanted) this.excused.add(id);
  }

  restarted(): void {
    for (const id of this.tasks.keys()) this.excused.add(id);
  }

  tookIn(submission: string, graph: Graph, result: UpdateGraphResult): void {
    if (result.status !== "cancelled") return;
    for (const key of result.lost) {
      if (!this.isExcused(this.task(keyId(key)))) {
        throw new Violation(`${submission} is cancelled, as ${keyId(key)} is lost: there was no reason to lose it`);
      }
    }
    for (const id of graph.ids) this.excused.add(id);
  }

  isExcused(task: Task, seen: Set<Task> = new Set()): boolean {
    if (this.excused.has(task.id)) return true;
    if (seen.has(task)) return false;
    seen.add(task);
    return task.dependencies.some((dependency) => this.isExcused(dependency, seen));
  }

  /** @returns what is wrong with this reason for a task to have erred; undefined where it is a true one. */
  lie(task: Task, exception: Value, allowedFailures: number): string | undefined {
    if (typeof exception !== "string") return `the exception ${String(exception)}`;
    const [kind, name = ""] = exception.split(/:(.*)/s);
    if (kind === "graph-host") {
      if (!this.lostGraphs.has(name)) return `the graph host did not lose ${name}`;
      return this.submission(name).wanted.includes(task) ? undefined : `it does not belong to ${name}`;
    }
    if (kind === "RuntimeError") {
      // "Worker holding Actor was lost"
      for (const id of this.lostActors) if (task.isMadeOf(this.task(id))) return undefined;
      return "no actor that it is made of was lost";
    }
    const cause = this.tasks.get(name);
    if (cause === undefined) return `there is no task ${name}`;
    if (!task.isMadeOf(cause)) return `it does not depend on ${name}`;
    switch (kind) {
      case "raised":
        return cause.raised ? undefined : `${name} never raised anything`;
      case "KilledWorker": {
        const deaths = this.deaths.get(name) ?? 0;
        return deaths > allowedFailures ? undefined : `${name} lost only ${deaths} workers`;
      }
      case "NoValidWorkerError":
      case "NoWorkerError":
        return undefined;
      default:
        return `an error of the kind ${kind}`;
    }
  }
}

/** The exceptions of the scheduler itself, as texts that {@link Monitor.lie} reads. */
export function makeException(info: ExceptionInfo): Value {
  return "task" in info ? `${info.kind}:${keyId(info.task)}` : `${info.kind}:${info.message}`;
}
