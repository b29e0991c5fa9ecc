/**
 * A worker among a scheduler, peers and an executor that do what they may, in an order that a seed decides: tasks are sent,
 * stolen, freed and sent again, transfers and executions end late and badly, peers go away, the worker pauses. At the end
 * everything is released, and nothing may be left.
 */
import { keyId, type Message } from "@dask-ts/protocol";
import { expect, test } from "vitest";
import type { ExecuteInstruction, GatherInstruction, Instruction } from "../../src/core/index.ts";
import {
  ADDRESS,
  acquire,
  busy,
  compute,
  Driver,
  failure,
  findMissing,
  free,
  gatherFailure,
  gathered,
  networkFailure,
  pause,
  refresh,
  removeReplicas,
  removeWorker,
  reschedule,
  retryBusyWorker,
  secede,
  steal,
  success,
  unpause,
} from "./support/events.ts";

class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = Math.imul(seed + 1, 0x9e3779b9) >>> 0;
  }
  below(n: number): number {
    this.#state = (Math.imul(this.#state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * n);
  }
  pick<T>(items: readonly T[]): T | undefined {
    return items[this.below(items.length)];
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
}

/** What the scheduler believes; it sends only what a scheduler would. */
class World {
  readonly random: Random;
  readonly driver: Driver;
  readonly peers: string[] = ["tcp://10.0.0.1:2", "tcp://10.0.0.1:3", "tcp://10.0.0.2:1", "tcp://10.0.0.3:1"];
  readonly keys: string[];
  readonly dependencies: Map<string, string[]> = new Map();
  /** Holders of each key among the peers. */
  readonly held: Map<string, Set<string>> = new Map();
  /** Keys that we reported to hold. */
  readonly ours: Set<string> = new Set();
  readonly processing: Map<string, number> = new Map();
  readonly running: Map<string, ExecuteInstruction> = new Map();
  readonly transfers: Map<string, GatherInstruction> = new Map();
  readonly busy: Set<string> = new Set();
  paused = false;
  runId = 0;
  executed = 0;

  constructor(seed: number) {
    this.random = new Random(seed);
    const tight = this.random.chance(50);
    this.driver = new Driver({
      nthreads: 1 + this.random.below(3),
      resources: new Map([["R", 2]]),
      seed,
      ...(tight ? { transferIncomingBytesLimit: 100, transferMessageBytesLimit: 30, totalOutConnections: 2 } : {}),
      transferIncomingBytesThrottleThreshold: 40,
    });
    const n = 4 + this.random.below(12);
    this.keys = Array.from({ length: n }, (_, i) => `${"xyz"[i % 3]}-${i}`);
    for (const [i, key] of this.keys.entries()) {
      const below = this.keys.slice(0, i).filter(() => this.random.chance(30));
      this.dependencies.set(key, below.slice(0, 3));
      this.held.set(key, new Set());
    }
  }

  send(...events: Parameters<Driver["raw"]>): void {
    for (const event of events) this.#follow(this.driver.raw(event));
  }

  #follow(instructions: readonly Instruction[]): void {
    for (const instruction of instructions) {
      if (instruction.kind === "execute") {
        const id = keyId(instruction.key);
        if (this.running.has(id)) throw new Error(`${id} runs already`);
        // The executor takes the values of the dependencies now.
        for (const key of instruction.dependencies) {
          if (!this.driver.store.has(keyId(key))) throw new Error(`${String(key)} is not stored for ${id}`);
        }
        this.running.set(id, instruction);
      } else if (instruction.kind === "gather") {
        if (this.transfers.has(instruction.worker)) throw new Error(`two transfers from ${instruction.worker}`);
        this.transfers.set(instruction.worker, instruction);
      } else if (instruction.kind === "retry-busy-worker-later") {
        this.busy.add(instruction.worker);
      } else if (instruction.kind === "send") {
        this.#receive(instruction.message);
      }
    }
  }

  #receive(message: Message): void {
    const key = message["key"] as string;
    const name = message["op"];
    if (name === "task-finished") this.ours.add(key);
    if (name === "task-finished" || name === "task-erred" || name === "reschedule") this.processing.delete(key);
    if (name === "add-keys") for (const added of message["keys"] as string[]) this.ours.add(added);
    if (name === "release-worker-data") this.ours.delete(key);
    if (name === "steal-response" && ["ready", "constrained", "waiting"].includes(String(message["state"]))) {
      this.processing.delete(key);
    }
  }

  holders(key: string): string[] {
    const out = [...(this.held.get(key) ?? [])];
    if (this.ours.has(key)) out.unshift(ADDRESS);
    return out;
  }

  step(): void {
    const { random } = this;
    const key = random.pick(this.keys) ?? "";
    const what = random.below(100);
    if (what < 22) this.compute(key);
    else if (what < 45) this.finishRun();
    else if (what < 65) this.finishTransfer();
    else if (what < 67) this.held.get(key)?.add(random.pick(this.peers) ?? "");
    else if (what < 78) this.release(key);
    else if (what < 81) this.send(steal(key));
    else if (what < 84) this.acquire(key);
    else if (what < 86) this.dropReplica(key);
    else if (what < 88) this.loseWorker();
    else if (what < 92) this.send(findMissing(), refresh({ [key]: this.holders(key) }));
    else if (what < 95) this.retryBusy();
    else if (what < 97) this.togglePause();
    else if (this.running.has(key)) this.send(secede(key));
  }

  togglePause(): void {
    this.paused = !this.paused;
    this.send(this.paused ? pause() : unpause());
  }

  compute(key: string): void {
    const dependencies = this.dependencies.get(key) ?? [];
    for (const dep of dependencies) {
      if (this.holders(dep).length === 0) this.held.get(dep)?.add(this.random.pick(this.peers) ?? "");
      // What is in memory is not being computed.
      if (this.processing.has(dep)) return;
    }
    if (this.ours.has(key) || (this.held.get(key)?.size ?? 0) > 0) return;
    // The value was lost: what would need it has been taken back before.
    const taken = this.keys.filter((other) => this.processing.has(other) && this.#dependsOn(other, key)).reverse();
    if (taken.length > 0) this.send(free(...taken));
    for (const other of taken) this.processing.delete(other);
    this.processing.set(key, ++this.runId);
    this.send(
      compute(key, {
        runId: this.runId,
        whoHas: Object.fromEntries(dependencies.map((dep) => [dep, this.holders(dep)])),
        nbytes: Object.fromEntries(dependencies.map((dep) => [dep, 1 + this.random.below(50)])),
        priority: [this.random.below(3)],
        resources: this.random.chance(20) ? { R: 1 + this.random.below(2) } : {},
      }),
    );
  }

  /** Frees a key here, and before it what depends on it. */
  release(key: string): void {
    const toFree = this.keys.filter((other) => other === key || this.#dependsOn(other, key)).reverse();
    for (const freed of toFree) {
      this.processing.delete(freed);
      if (this.random.chance(80)) this.held.get(freed)?.clear();
    }
    this.send(free(...toFree));
  }

  #dependsOn(key: string, other: string): boolean {
    return (this.dependencies.get(key) ?? []).some((dep) => dep === other || this.#dependsOn(dep, other));
  }

  acquire(key: string): void {
    const holders = [...(this.held.get(key) ?? [])];
    if (holders.length > 0 && !this.processing.has(key)) this.send(acquire({ [key]: holders }, { [key]: 10 }));
  }

  dropReplica(key: string): void {
    const needed = [...this.processing.keys()].some((other) => this.dependencies.get(other)?.includes(key));
    if (!needed && this.ours.has(key)) this.send(removeReplicas(key));
  }

  loseWorker(): void {
    const worker = this.random.pick(this.peers) ?? "";
    for (const holders of this.held.values()) holders.delete(worker);
    this.send(removeWorker(worker));
  }

  retryBusy(): void {
    const [worker] = this.busy;
    if (worker === undefined) return;
    this.busy.delete(worker);
    this.send(retryBusyWorker(worker));
  }

  finishRun(): void {
    const run = this.random.pick([...this.running.values()]);
    if (run === undefined) return;
    const id = keyId(run.key);
    this.running.delete(id);
    this.executed++;
    const end = this.random.below(10);
    if (end < 7) this.send(success(run.key, { runId: run.runId, nbytes: this.random.below(100) }));
    else if (end < 9) this.send(failure(run.key, { runId: run.runId }));
    else this.send(reschedule(run.key));
  }

  finishTransfer(): void {
    const transfer = this.random.pick([...this.transfers.values()]);
    if (transfer === undefined) return;
    const { worker, totalNbytes } = transfer;
    this.transfers.delete(worker);
    const end = this.random.below(10);
    const has = transfer.keys.filter((key) => this.held.get(String(key))?.has(worker) === true);
    if (end < 7) this.send(gathered(worker, has, totalNbytes));
    else if (end < 8) this.send(busy(worker, totalNbytes));
    else if (end < 9) this.send(networkFailure(worker, totalNbytes));
    else this.send(gatherFailure(worker, totalNbytes));
  }

  /** Releases everything and lets what is under way come to its end. */
  finish(): void {
    if (this.paused) this.send(unpause());
    for (let round = 0; round < 3; round++) {
      for (const key of [...this.keys].reverse()) this.send(free(key));
      for (let i = 0; i < 1000 && this.running.size + this.transfers.size > 0; i++) {
        this.finishRun();
        this.finishTransfer();
      }
      while (this.busy.size > 0) this.retryBusy();
    }
  }
}

test("ends clean from every seed", () => {
  let executed = 0;
  for (let seed = 0; seed < 400; seed++) {
    const world = new World(seed);
    try {
      for (let i = 0; i < 300; i++) world.step();
      world.finish();
      const { machine, store } = world.driver;
      expect(world.driver.states()).toEqual({});
      expect([...store]).toEqual([]);
      expect(machine.nbytes).toBe(0);
      expect(machine.executingCount + machine.longRunningCount + machine.inFlightTasksCount).toBe(0);
      expect([...machine.availableResources]).toEqual([...machine.totalResources]);
      expect([machine.transferIncomingBytes, machine.transferIncomingCount]).toEqual([0, 0]);
      expect([...machine.taskCounts()]).toEqual([]);
    } catch (error) {
      throw new Error(`seed ${seed}`, { cause: error });
    }
    executed += world.executed;
  }
  expect(executed).toBeGreaterThan(3000);
});
