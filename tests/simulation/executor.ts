/** The executor of a worker: holds values, runs tasks. Commands and reports keep their order, each way. */
import { asNumber, type Key, keyId } from "../../packages/protocol/src/index.ts";
import type { ExecuteInstruction } from "../../packages/worker/src/core/index.ts";
import type { ExecutorMemory } from "./memory.ts";
import type { Monitor } from "./monitor.ts";
import type { Random } from "./random.ts";
import { keyOfRunSpec, type Task, valueOf } from "./tasks.ts";
import { Violation, type World } from "./world.ts";

export type Outcome =
  | { readonly kind: "success"; readonly nbytes: number }
  | { readonly kind: "failure"; readonly exception: string }
  | { readonly kind: "reschedule" };

/** What the worker hears from its executor. */
export interface ExecutorListener {
  /** `thread`: null for a coroutine. */
  outcome(key: Key, runId: number, outcome: Outcome, start: number, stop: number, thread: number | null): void;
  seceded(key: Key, computeDuration: number): void;
  /** A task has killed it. */
  died(): void;
}

/** Seconds that a command or report may take. */
const LONGEST_WAY = 0.002;

export class Executor {
  /** Value of each key. */
  readonly store: Map<string, number> = new Map();
  /** Tasks that run, by key. */
  readonly running: Map<string, Task> = new Map();
  /** What cancels the coroutines among them. */
  readonly #cancellations: Map<string, () => void> = new Map();
  /** Tasks that wait for a thread. */
  #waiting: ExecuteInstruction[] = [];
  #freeThreads: number;
  readonly #world: World;
  readonly #monitor: Monitor;
  readonly #random: Random;
  readonly #worker: string;
  readonly #listener: ExecutorListener;
  readonly #slowness: () => number;
  readonly #memory: ExecutorMemory;
  #lastCommand = 0;
  #lastReport = 0;
  #ended = false;

  constructor(
    world: World,
    monitor: Monitor,
    random: Random,
    worker: string,
    nthreads: number,
    slowness: () => number,
    memory: ExecutorMemory,
    listener: ExecutorListener,
  ) {
    this.#world = world;
    this.#monitor = monitor;
    this.#random = random;
    this.#worker = worker;
    this.#freeThreads = nthreads;
    this.#slowness = slowness;
    this.#memory = memory;
    this.#listener = listener;
  }

  end(): void {
    this.#ended = true;
    this.running.clear();
    this.#cancellations.clear();
    this.#waiting = [];
    this.store.clear();
  }

  execute(request: ExecuteInstruction): void {
    this.#command(() => {
      if (this.#monitor.task(keyId(request.key)).behaviour.coroutine) this.#start(request, false);
      else {
        this.#waiting.push(request);
        this.#startWaiting();
      }
    });
  }

  #startWaiting(): void {
    while (this.#freeThreads > 0) {
      const request = this.#waiting.shift();
      if (request === undefined) return;
      this.#freeThreads--;
      this.#start(request, true);
    }
  }

  #freeThread(): void {
    this.#freeThreads++;
    this.#startWaiting();
  }

  cancel(key: Key): void {
    this.#command(() => {
      const id = keyId(key);
      const index = this.#waiting.findIndex((request) => keyId(request.key) === id);
      const [waiting] = index === -1 ? [] : this.#waiting.splice(index, 1);
      if (waiting === undefined) this.#cancellations.get(id)?.();
      else {
        const { now } = this.#world;
        this.#report(() => this.#listener.outcome(key, waiting.runId, { kind: "reschedule" }, now, now, null));
      }
    });
  }

  /** Takes back the tasks that wait for a thread. */
  recall(done: (keys: readonly Key[]) => void): void {
    this.#command(() => {
      const keys = this.#waiting.map(({ key }) => key);
      this.#waiting = [];
      this.#report(() => done(keys));
    });
  }

  drop(keys: readonly Key[]): void {
    this.#command(() => {
      for (const key of keys) {
        this.store.delete(keyId(key));
        this.#memory.drop(keyId(key));
      }
    });
  }

  put(values: ReadonlyMap<Key, number>, done: () => void): void {
    this.#command(() => {
      for (const [key, value] of values) this.#hold(keyId(key), value);
      this.#report(done);
    });
  }

  /** The values that it has, of these keys. */
  get(keys: readonly Key[], done: (values: Map<Key, number>) => void): void {
    this.#command(() => {
      const values = new Map<Key, number>();
      for (const key of keys) {
        const value = this.store.get(keyId(key));
        if (value === undefined) continue;
        values.set(key, value);
        this.#memory.read(keyId(key));
      }
      this.#report(() => done(values));
    });
  }

  #hold(id: string, value: number): void {
    this.store.set(id, value);
    this.#memory.hold(id, this.#monitor.task(id).behaviour.nbytes);
  }

  #command(work: () => void): void {
    this.#lastCommand = this.#inOrder(this.#lastCommand, work);
  }

  #report(work: () => void): void {
    this.#lastReport = this.#inOrder(this.#lastReport, work);
  }

  #inOrder(last: number, work: () => void): number {
    const time = Math.max(last, this.#world.now + this.#random.between(0, LONGEST_WAY));
    this.#world.after(
      time - this.#world.now,
      () => {
        if (!this.#ended) work();
      },
      false,
    );
    return time;
  }

  #start(request: ExecuteInstruction, inThread: boolean): void {
    const id = keyId(request.key);
    const where = `${id} on ${this.#worker}`;
    const task = this.#monitor.task(id);
    if (keyOfRunSpec(request.runSpec) !== id) throw new Violation(`${where} got the run_spec of another task`);
    if (this.running.has(id)) throw new Violation(`${where} runs already`);
    const given = new Set(request.dependencies.map(keyId));
    const inputs = task.dependencies.map((dependency) => {
      if (!given.delete(dependency.id)) throw new Violation(`${where} lacks its dependency ${dependency.id}`);
      const value = this.store.get(dependency.id);
      if (value === undefined) throw new Violation(`${where} starts, but ${dependency.id} is not in the executor`);
      return value;
    });
    if (given.size > 0) throw new Violation(`${where} got dependencies that are not its own: ${[...given].join(", ")}`);
    this.running.set(id, task);
    for (const dependency of task.dependencies) this.#memory.read(dependency.id);
    this.#memory.begin(id, task.behaviour.nbytes);
    this.#monitor.runStarted(this.#worker, id, request.runId);
    const run = task.runs++;
    const { deaths, failures, reschedules, secedes, coroutine, seconds, nbytes } = task.behaviour;
    const start = this.#world.now;
    const duration = this.#random.exponential(seconds) * this.#slowness();
    if (secedes) {
      this.#world.after(duration * 0.3, () => {
        if (this.#ended) return;
        if (inThread) this.#freeThread();
        this.#report(() => this.#listener.seceded(request.key, duration * 0.3));
      });
    }
    let cancelled = false;
    if (coroutine) {
      this.#cancellations.set(id, () => {
        cancelled = true;
        this.#cancellations.delete(id);
        this.running.delete(id);
        this.#memory.end(id);
        const now = this.#world.now;
        this.#report(() =>
          this.#listener.outcome(request.key, request.runId, { kind: "reschedule" }, start, now, null),
        );
      });
    }
    this.#world.after(duration, () => {
      if (this.#ended || cancelled) return;
      this.running.delete(id);
      this.#memory.end(id);
      this.#cancellations.delete(id);
      if (inThread && !secedes) this.#freeThread();
      if (run < deaths) {
        this.#listener.died();
        return;
      }
      let outcome: Outcome;
      if (run < deaths + failures) {
        task.raised = true;
        outcome = { kind: "failure", exception: `raised:${id}` };
      } else if (run < deaths + failures + reschedules) {
        outcome = { kind: "reschedule" };
      } else {
        this.#hold(id, valueOf(id, inputs));
        outcome = { kind: "success", nbytes: asNumber(nbytes, 0) };
      }
      const stop = this.#world.now;
      const thread = inThread ? 1 : null;
      this.#report(() => this.#listener.outcome(request.key, request.runId, outcome, start, stop, thread));
    });
  }
}
