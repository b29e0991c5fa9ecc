/** Work stealing and the active memory manager decide as distributed's own; see record_policies.py. */
import { readFileSync } from "node:fs";
import { type Key, keyId, type Value } from "@dask-ts/protocol";
import { describe, expect, it } from "vitest";
import { adaptiveTarget, workersToClose } from "../../src/core/adaptive.ts";
import {
  ActiveMemoryManager,
  checkIdleSaturated,
  ReduceReplicas,
  Restrictions,
  RetireWorker,
  WorkStealing,
  type WorkerStatus,
} from "../../src/core/index.ts";
import { findRebalanceMoves } from "../../src/core/rebalance.ts";
import { graphOf, TestCore } from "./builders.ts";

interface Case {
  readonly workers: readonly {
    readonly name: string;
    readonly nthreads: number;
    readonly status: WorkerStatus;
    readonly memory?: number;
  }[];
  readonly data: readonly { readonly key: string; readonly nbytes: number; readonly holders: readonly string[] }[];
  readonly tasks: readonly {
    readonly key: string;
    readonly dependencies: readonly string[];
    readonly worker: string;
    readonly allowed: readonly string[] | null;
    readonly loose: boolean;
  }[];
}

interface StealingCase extends Case {
  readonly rounds: readonly {
    readonly requests: readonly [key: string, victim: string, thief: string, level: number][];
    readonly answers: readonly [key: string, state: string, stimulusId: string][];
  }[];
}

interface MemoryCase extends Case {
  readonly retiring: readonly string[];
  readonly reduceFirst: boolean;
  /** Worker, op, keys. */
  readonly sent: readonly [string, string, readonly string[]][];
  readonly gaveUp: readonly string[];
  readonly done: readonly string[];
}

interface ScalingCase extends Case {
  readonly unrunnable: readonly string[];
  readonly close: readonly [options: CloseOptions, closed: readonly string[]][];
  readonly targets: readonly [seconds: number, workers: number][];
  readonly moves: readonly [sender: string, recipient: string, key: string][];
}

interface CloseOptions {
  readonly n?: number;
  readonly target?: number;
  readonly minimum?: number;
  readonly memory_ratio?: number;
}

const recorded = JSON.parse(readFileSync(new URL("fixtures/policies.json", import.meta.url), "utf8")) as {
  readonly durations: Record<string, number>;
  readonly stealing: readonly StealingCase[];
  readonly amm: readonly MemoryCase[];
  readonly scaling: readonly ScalingCase[];
};

function addressOf(name: string): string {
  return `tcp://127.0.0.1:900${name.slice(1)}`;
}

function nameOf(address: Value | undefined): string {
  return `w${String(address).slice(-1)}`;
}

function build(scenario: Case): TestCore {
  const test = new TestCore({
    workerSaturation: Number.POSITIVE_INFINITY,
    defaultTaskDurations: new Map(Object.entries(recorded.durations)),
  });
  const { core } = test;
  core.stealing = new WorkStealing(core);
  test.addClient();
  for (const { name, nthreads, status, memory = 0 } of scenario.workers) {
    const metrics = new Map([["memory", 1e12]]);
    test.addWorker(name, { address: addressOf(name), nthreads, status, memoryLimit: memory, metrics });
  }
  for (const { key, nbytes, holders } of scenario.data) {
    core.updateData(new Map([[key, holders.map(addressOf)]]), new Map<Key, number>([[key, nbytes]]), "c", test.now);
  }
  const spec = Object.fromEntries(scenario.tasks.map(({ key, dependencies }) => [key, dependencies]));
  const annotations = Object.fromEntries(
    scenario.tasks.map(({ key, worker }) => [key, new Map<Value, Value>([["workers", [addressOf(worker)]]])]),
  );
  test.submitGraph(
    graphOf(spec, { annotations }),
    scenario.tasks.map(({ key }) => key),
  );
  for (const { key, worker, allowed, loose } of scenario.tasks) {
    const ts = test.task(key);
    expect(ts.processingOn?.name).toBe(worker);
    ts.restrictions = allowed === null ? null : new Restrictions(new Set(allowed.map(addressOf)), null, null, loose);
  }
  for (const ws of core.state.workers.values()) checkIdleSaturated(core.state, ws);
  for (const { name } of scenario.workers) test.takeWorker(addressOf(name));
  return test;
}

describe("work stealing", () => {
  it("asks for the same tasks, of the same workers, for the same workers", () => {
    let requests = 0;
    recorded.stealing.forEach((scenario, number) => {
      const { core, now } = build(scenario);
      const stealing = core.stealing as WorkStealing;
      scenario.rounds.forEach((round, i) => {
        core.outbox.clear();
        stealing.balance(now);
        const asked = core.outbox.events.flatMap(([, event]) => (event as Value[][])[1] as Value[][]);
        expect(
          asked.map(([, level, key, , victim, , thief]) => [key, nameOf(victim), nameOf(thief), level]),
          `case ${number}, round ${i}`,
        ).toEqual(round.requests);
        requests += asked.length;
        for (const [key, state, id] of round.answers) {
          const victim = String(core.state.tasks.get(keyId(key))?.processingOn?.address);
          core.workerMessage(victim, { op: "steal-response", key, state, stimulus_id: id }, now);
        }
      });
    });
    expect(requests).toBeGreaterThan(400);
  });
});

describe("the active memory manager", () => {
  it("asks for the same copies and drops", () => {
    recorded.amm.forEach((scenario, number) => {
      const test = build(scenario);
      const { core, now } = test;
      const manager = new ActiveMemoryManager(core, "managed");
      const policies = scenario.retiring.map((name) => new RetireWorker(addressOf(name)));
      if (scenario.reduceFirst) manager.policies.add(new ReduceReplicas());
      for (const policy of policies) manager.policies.add(policy);
      manager.policies.add(new ReduceReplicas());
      if (scenario.reduceFirst) manager.policies.delete([...manager.policies].at(-1) as ReduceReplicas);
      for (const { address } of policies) core.workerStatusChange(address, "closing_gracefully", "test", now);
      test.collect();
      manager.runOnce(now);
      const sent = [...core.outbox.toWorkers].flatMap(([address, messages]) =>
        messages.map((message) => [
          nameOf(address),
          message.op,
          [
            ...(message.op === "acquire-replicas"
              ? (message.who_has as Map<string, Value>).keys()
              : (message.keys as string[])),
          ].sort(),
        ]),
      );
      const sorted = (rows: readonly (readonly unknown[])[]): string[] => rows.map((row) => JSON.stringify(row)).sort();
      expect(sorted(sent), `case ${number}`).toEqual(sorted(scenario.sent));
      const names = (list: readonly RetireWorker[]): string[] => list.map(({ address }) => nameOf(address));
      expect(names(policies.filter((policy) => policy.noRecipients))).toEqual(scenario.gaveUp);
      expect(names(policies.filter((policy) => policy.done(core.state)))).toEqual(scenario.done);
    });
  });
});

describe("scaling and rebalancing", () => {
  it("choose the same workers, targets and moves", () => {
    recorded.scaling.forEach((scenario, number) => {
      const test = build(scenario);
      const { state } = test.core;
      // Nobody has this resource.
      const nowhere = new Map<Value, Value>([["resources", new Map([["GPU", 1]])]]);
      test.submitGraph(
        graphOf(Object.fromEntries(scenario.unrunnable.map((key) => [key, []])), {
          annotations: Object.fromEntries(scenario.unrunnable.map((key) => [key, nowhere])),
        }),
        scenario.unrunnable,
      );
      for (const [options, closed] of scenario.close) {
        const { memory_ratio: memoryRatio = null, ...others } = options;
        const names = workersToClose(state, { ...others, memoryRatio }).map((ws) => ws.name);
        expect(names, `case ${number}, ${JSON.stringify(options)}`).toEqual(closed);
      }
      for (const [seconds, target] of scenario.targets) {
        expect(adaptiveTarget(state, seconds), `case ${number}, ${seconds} s`).toBe(target);
      }
      const settings = { measure: "managed", senderMin: 0.01, recipientMax: 0.6, gap: 0.1 };
      const { moves } = findRebalanceMoves(state.workerOrder.list, null, settings);
      expect(
        moves.map(({ sender, recipient, task }) => [sender.name, recipient.name, task.key]),
        `case ${number}`,
      ).toEqual(scenario.moves);
    });
  });
});
