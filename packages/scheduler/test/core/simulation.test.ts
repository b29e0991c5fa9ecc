/** Seeded random graphs, workers and faults in virtual time, with every invariant checked after each event. */
import type { Message, Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import {
  ActiveMemoryManager,
  type Graph,
  ReduceReplicas,
  RetireWorker,
  State,
  type WorkerRegistration,
  WorkStealing,
} from "../../src/core/index.ts";
import { addressOf, graphOf, type GraphSpec, registration, TestCore } from "./builders.ts";

/** mulberry32 */
function random(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** What a real worker would know: data, and tasks it was asked to compute. */
class FakeWorker {
  readonly name: string;
  readonly data: Set<string> = new Set();
  readonly tasks: Map<string, { runId: number; whoHas: ReadonlyMap<Value, Value> }> = new Map();
  /** What it has still to say about stealing and replicas. */
  readonly answers: Message[] = [];
  constructor(name: string) {
    this.name = name;
  }
}

class Simulation {
  readonly test: TestCore;
  readonly chance: () => number;
  readonly workers: Map<string, FakeWorker> = new Map();
  readonly wanted: Map<string, Set<string>> = new Map();
  /** Keys that always fail. */
  readonly bad: Set<string> = new Set();
  readonly dependencies: Map<string, readonly string[]> = new Map();
  /** Last state that a client was told, by key. */
  readonly told: Map<string, string> = new Map();
  readonly stealing: WorkStealing | null;
  readonly memoryManager: ActiveMemoryManager;
  /** What the log of stealing says. */
  readonly steals: string[] = [];
  private nextWorker = 0;
  private nextGraph = 0;

  constructor(seed: number) {
    this.chance = random(seed);
    this.test = new TestCore({
      workerSaturation: this.pick([1.1, 1.1, 1, 2, Number.POSITIVE_INFINITY]),
      tasksPerYield: this.pick([1, 3, 1000]),
      allowedFailures: this.pick([1, 3]),
    });
    const { core } = this.test;
    this.stealing = this.chance() < 0.8 ? new WorkStealing(core) : null;
    core.stealing = this.stealing;
    this.memoryManager = new ActiveMemoryManager(core, "managed");
    this.memoryManager.policies.add(new ReduceReplicas());
  }

  pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.chance() * items.length)] as T;
  }

  addWorker(options: Partial<WorkerRegistration> = {}): void {
    const name = `w${this.nextWorker++}`;
    this.workers.set(addressOf(name), new FakeWorker(name));
    const full = registration(name, {
      nthreads: 1 + Math.floor(this.chance() * 3),
      status: this.chance() < 0.8 ? "running" : "init",
      resources: this.chance() < 0.3 ? new Map([["GPU", 2]]) : new Map(),
      ...options,
    });
    expect(this.test.core.addWorker(full, this.test.now)).toEqual({ status: "OK" });
    this.deliver();
  }

  removeWorker(): void {
    const address = this.pick([...this.workers.keys()]);
    this.workers.delete(address);
    this.test.core.removeWorker(address, { stimulusId: "sim-remove", expected: this.chance() < 0.5 }, this.test.now);
  }

  submit(client: string): void {
    const spec: GraphSpec = {};
    const n = 1 + Math.floor(this.chance() * 25);
    const prefix = this.pick(["inc", "add", "read"]);
    const graph = this.nextGraph++;
    const names: string[] = [];
    // Now and then a key of an older graph is used again.
    const old = [...this.dependencies.keys()].filter((key) => this.test.has(key));
    for (let i = 0; i < n; i++) {
      const name = `${this.pick([prefix, prefix, "x"])}-${graph}a${i}`;
      const pool = this.chance() < 0.1 && old.length > 0 ? old : names;
      const dependencies = new Set<string>();
      const count = Math.floor(this.chance() * 4);
      for (let k = 0; k < count && pool.length > 0; k++) dependencies.add(this.pick(pool));
      spec[name] = [...dependencies];
      this.dependencies.set(name, spec[name]);
      if (this.chance() < 0.03) this.bad.add(name);
      names.push(name);
    }
    const keys = names.filter((name, i) => i === n - 1 || this.chance() < 0.2 || !isUsed(spec, name));
    const annotations: Record<string, ReadonlyMap<Value, Value>> = {};
    for (const name of names) {
      const dice = this.chance();
      if (dice < 0.03) annotations[name] = new Map([["resources", new Map([["GPU", 1]])]]);
      else if (dice < 0.06) annotations[name] = new Map([["retries", 2]]);
      else if (dice < 0.09 && this.workers.size > 0) {
        annotations[name] = new Map<Value, Value>([
          ["workers", [this.pick([...this.workers.keys()])]],
          ["allow_other_workers", true],
        ]);
      }
    }
    let wants = this.wanted.get(client);
    if (wants === undefined) {
      wants = new Set();
      this.wanted.set(client, wants);
    }
    for (const key of keys) wants.add(key);
    const taskGraph: Graph = graphOf(spec, { annotations });
    const steps = this.test.core.updateGraph(
      {
        client,
        graph: taskGraph,
        keys,
        internalPriority: this.chance() < 0.5 ? null : new Map(taskGraph.keys.map((key, i) => [key as Value, i])),
        submittingTask: null,
        fifoTimeout: 1,
        actors: null,
        userPriority: 0,
      },
      this.test.now,
    );
    for (let step = steps.next(this.test.now); ; step = steps.next(this.test.now)) {
      this.deliver();
      if (step.done) {
        if (step.value.status === "cancelled") for (const key of keys) wants.delete(key);
        return;
      }
      if (this.chance() < 0.2) this.workerStep();
      if (this.chance() < 0.01 && this.workers.size > 1) this.removeWorker();
    }
  }

  releaseSome(client: string): void {
    const wants = this.wanted.get(client);
    if (wants === undefined || wants.size === 0) return;
    const keys = [...wants].filter(() => this.chance() < 0.3);
    for (const key of keys) wants.delete(key);
    this.test.core.clientMessage(client, { op: "client-releases-keys", keys }, this.test.now);
  }

  /** Messages of the core reach workers and clients. */
  deliver(): void {
    const { outbox } = this.test.core;
    for (const [address, messages] of outbox.toWorkers) {
      const worker = this.workers.get(address);
      if (worker === undefined) continue;
      for (const message of messages) this.receive(worker, message);
    }
    for (const [, messages] of outbox.toClients) {
      for (const message of messages) {
        if (message.key !== undefined) this.told.set(message.key as string, String(message.op));
      }
    }
    for (const [topic, event] of outbox.events)
      if (topic === "stealing") this.steals.push(String((event as Value[])[0]));
    outbox.clear();
  }

  private receive(worker: FakeWorker, message: Message): void {
    switch (message.op) {
      case "compute-task":
        for (const [key, holders] of message.who_has as Map<string, string[]>) {
          expect(holders.length, `who_has of ${key}`).toBeGreaterThan(0);
        }
        worker.tasks.set(message.key as string, {
          runId: message.run_id as number,
          whoHas: message.who_has as ReadonlyMap<Value, Value>,
        });
        break;
      case "free-keys":
      case "remove-replicas":
        for (const key of message.keys as string[]) {
          worker.data.delete(key);
          worker.tasks.delete(key);
        }
        break;
      case "steal-request": {
        const { key, stimulus_id } = message;
        const known = worker.tasks.has(key as string);
        const state = known ? this.pick(["ready", "ready", "waiting", "executing"]) : this.pick([null, "memory"]);
        if (state === "ready" || state === "waiting") worker.tasks.delete(key as string);
        worker.answers.push({ op: "steal-response", key, state, stimulus_id });
        break;
      }
      case "acquire-replicas": {
        const keys = [...(message.who_has as Map<string, string[]>).keys()].filter(() => this.chance() < 0.8);
        for (const key of keys) worker.data.add(key);
        worker.answers.push({ op: "add-keys", keys, stimulus_id: "sim-acquired" });
        break;
      }
      default:
    }
  }

  /** Some worker finishes, fails, loses or gets something. */
  workerStep(): boolean {
    const busy = [...this.workers.values()].filter((worker) => worker.tasks.size > 0 || worker.answers.length > 0);
    if (busy.length === 0) return false;
    const worker = this.pick(busy);
    if (worker.tasks.size === 0 || (worker.answers.length > 0 && this.chance() < 0.7)) {
      this.test.core.workerMessage(addressOf(worker.name), worker.answers.shift() as Message, this.test.now);
      return true;
    }
    const [key, task] = this.pick([...worker.tasks]);
    const dice = this.chance();
    const { test } = this;
    const address = addressOf(worker.name);
    const send = (message: Message): void =>
      test.core.workerMessage(
        address,
        { stimulus_id: `sim-${test.now}`, key, run_id: task.runId, ...message },
        test.now,
      );
    if (dice < 0.03) {
      send({ op: "long-running", compute_duration: this.chance() });
      return true;
    }
    if (dice < 0.05) {
      worker.tasks.delete(key);
      send({ op: "reschedule" });
      return true;
    }
    worker.tasks.delete(key);
    if (this.bad.has(key) || dice < 0.07) {
      send({ op: "task-erred", exception: key, traceback: "", exception_text: "", traceback_text: "" });
      return true;
    }
    const fetched = [...task.whoHas.keys()].filter(() => this.chance() < 0.5) as string[];
    if (fetched.length > 0) {
      for (const dependency of fetched) worker.data.add(dependency);
      send({ op: "add-keys", keys: fetched });
    }
    worker.data.add(key);
    send({
      op: "task-finished",
      nbytes: Math.floor(this.chance() * 1000),
      type: new Uint8Array([1]),
      typename: this.pick(["int", "str"]),
      metadata: this.chance() < 0.1 ? new Map([["a", 1]]) : new Map(),
      startstops: [
        new Map<Value, Value>([
          ["action", "compute"],
          ["start", test.now],
          ["stop", test.now + this.chance()],
        ]),
      ],
    });
    return true;
  }

  randomEvent(): void {
    const { test } = this;
    test.now += this.chance() * 0.5;
    const dice = this.chance();
    if (dice < 0.04) this.submit(this.pick(["a", "b"]));
    else if (dice < 0.06) this.addWorker();
    else if (dice < 0.075 && this.workers.size > 1) this.removeWorker();
    else if (dice < 0.12) this.releaseSome(this.pick(["a", "b"]));
    else if (dice < 0.15 && this.workers.size > 0) {
      const address = this.pick([...this.workers.keys()]);
      const status = this.pick(["running", "running", "paused"]);
      test.core.workerMessage(address, { op: "worker-status-change", status, stimulus_id: "sim-status" }, test.now);
    } else if (dice < 0.17 && this.workers.size > 0) {
      const worker = this.pick([...this.workers.values()]);
      if (worker.data.size > 0) {
        const key = this.pick([...worker.data]);
        worker.data.delete(key);
        const message = { op: "release-worker-data", key, stimulus_id: "sim-release" };
        test.core.workerMessage(addressOf(worker.name), message, test.now);
      }
    } else if (dice < 0.18) {
      const wants = [...(this.wanted.get("a") ?? [])];
      const erred = wants.filter((key) => test.core.state.tasks.get(key)?.code === State.erred);
      if (erred.length > 0) test.core.retry([this.pick(erred)], "a", test.now);
    } else if (dice < 0.19) {
      const wants = this.wanted.get("b");
      if (wants !== undefined && wants.size > 0) {
        const key = this.pick([...wants]);
        const options = { force: false, reason: null, msg: null };
        test.core.cancelKeys([key], "b", options, test.now);
        for (const other of Array.from(wants)) {
          const ts = test.core.state.tasks.get(other);
          if (ts === undefined || ![...ts.whoWants].some((cs) => cs.client === "b")) wants.delete(other);
        }
      }
    } else if (dice < 0.22 && this.workers.size > 0) {
      this.heartbeat();
    } else if (dice < 0.26) {
      this.stealing?.balance(test.now);
    } else if (dice < 0.28) {
      if (this.workers.size > 1 && this.chance() < 0.3) {
        this.memoryManager.policies.add(new RetireWorker(this.pick([...this.workers.keys()])));
      }
      this.memoryManager.runOnce(test.now);
    } else this.workerStep();
    this.deliver();
  }

  private heartbeat(): void {
    const [address, worker] = this.pick([...this.workers]);
    this.test.core.heartbeat(
      {
        address,
        workerNow: this.test.now,
        metrics: new Map<Value, Value>([
          ["memory", 1000],
          ["bandwidth", new Map([["total", 1e8 * (0.5 + this.chance())]])],
        ]),
        executing: new Map([...worker.tasks.keys()].map((key) => [key, this.chance() * 3])),
        resources: null,
        hostInfo: null,
      },
      this.test.now,
    );
  }

  /** Everything that can be done is done. */
  settle(): void {
    if (this.workers.size === 0) this.addWorker();
    for (const address of this.workers.keys()) {
      const message = { op: "worker-status-change", status: "running", stimulus_id: "sim-settle" };
      this.test.core.workerMessage(address, message, this.test.now);
      this.deliver();
    }
    this.addWorker({ resources: new Map([["GPU", 2]]), nthreads: 2, status: "running" });
    for (let i = 0; i < 20000; i++) {
      this.test.now += 0.01;
      const more = this.workerStep();
      this.deliver();
      if (!more) return;
    }
    throw new Error("does not settle");
  }

  checkOutcome(): void {
    const { state } = this.test.core;
    for (const [client, wants] of this.wanted) {
      for (const key of wants) {
        const ts = state.tasks.get(key);
        if (ts === undefined) {
          // Forgotten under the client's hands: it was told so.
          expect(["cancelled-keys"], `${client} wants ${key}`).toContain(this.told.get(key) ?? "cancelled-keys");
          continue;
        }
        expect(["memory", "erred"], `${client} wants ${key}`).toContain(ts.state);
        expect(this.told.get(key), key).toBe(ts.state === "memory" ? "key-in-memory" : "task-erred");
        if (ts.state === "erred") {
          const cause = ts.exceptionBlame?.id as string;
          expect(this.isAncestor(cause, key), `${key} blames ${cause}`).toBe(true);
        }
      }
    }
  }

  private isAncestor(cause: string, key: string): boolean {
    const stack = [key];
    const seen = new Set<string>();
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      if (at === cause) return true;
      if (seen.has(at)) continue;
      seen.add(at);
      stack.push(...(this.dependencies.get(at) ?? []));
    }
    return false;
  }
}

function isUsed(spec: GraphSpec, name: string): boolean {
  return Object.values(spec).some((dependencies) => dependencies.includes(name));
}

function simulate(seed: number): string[] {
  const simulation = new Simulation(seed);
  const { test } = simulation;
  test.addClient("a");
  test.addClient("b");
  for (let i = 0; i < 3; i++) simulation.addWorker();
  for (let i = 0; i < 250; i++) simulation.randomEvent();
  simulation.settle();
  simulation.checkOutcome();
  test.core.removeClient("a", test.now);
  test.core.removeClient("b", test.now);
  simulation.deliver();
  test.expectEmpty();
  expect(simulation.stealing?.inFlight.size ?? 0).toBe(0);
  return simulation.steals;
}

const SEEDS = Number(process.env.CORE_SEEDS ?? 100);
const ONLY = process.env.CORE_SEED;

describe("random clusters", () => {
  it("keep every invariant, finish or fail what is wanted, and forget the rest", () => {
    const steals = new Set<string>();
    for (
      let seed = ONLY === undefined ? 1 : Number(ONLY);
      seed <= (ONLY === undefined ? SEEDS : Number(ONLY));
      seed++
    ) {
      try {
        for (const what of simulate(seed)) steals.add(what);
      } catch (error) {
        throw new Error(`seed ${seed}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
      }
    }
    // The seeds reach all of work stealing.
    if (ONLY === undefined && SEEDS >= 100) {
      expect([...steals].sort()).toEqual(["already-aborted", "already-computing", "confirm", "request", "reschedule"]);
    }
  });
});
