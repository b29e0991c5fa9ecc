import { type Message, Pickled, type Value } from "@dask-ts/protocol";
import { beforeEach, describe, expect, test } from "vitest";
import { Shuffle } from "../../src/extensions/shuffle.ts";
import { ShuffleCreator } from "../../src/extensions/shuffle-create.ts";
import { ShuffleRuns } from "../../src/extensions/shuffle-runs.ts";
import { Logger as Log, type LogRecord } from "@dask-ts/protocol";
import type { SchedulerContext } from "../../src/server/context.ts";
import { addressOf, TestCore } from "../core/builders.ts";

/** A join: two shuffles with transfers, barriers, and shared outputs. */
const JOIN = {
  "in-a": [],
  "in-b": [],
  "shuffle-barrier-a": ["in-a"],
  "shuffle-barrier-b": ["in-b"],
  "out-0": ["shuffle-barrier-a", "shuffle-barrier-b"],
  "out-1": ["shuffle-barrier-a", "shuffle-barrier-b"],
};
const OUTPUTS = ["out-0", "out-1"];

describe("shuffle runs", () => {
  let t: TestCore;
  let runs: ShuffleRuns;
  let creator: ShuffleCreator;
  let records: LogRecord[];
  let requests: Message[];
  /** What happens while the graph host is at work. */
  let meanwhile: (() => void)[];
  /** What waits for the end of the event. */
  let later: (() => void)[];

  beforeEach(() => {
    t = new TestCore();
    for (const name of ["w1", "w2", "w3"]) t.addWorker(name);
    t.addClient();
    records = [];
    requests = [];
    meanwhile = [];
    later = [];
    runs = new ShuffleRuns(t.core, new Log("shuffle", (record) => records.push(record)), (act) => later.push(act));
    creator = new ShuffleCreator(t.core, runs, async (fields) => {
      requests.push(fields);
      await Promise.resolve();
      meanwhile.shift()?.();
      const known = new Map(
        (fields["existing"] as [number, string][]).map(([partition, worker]) => [partition, worker]),
      );
      const workers = fields["workers"] as string[];
      return {
        run_spec: new Pickled(new Uint8Array([fields["run_id"] as number]), []),
        worker_for: [0, 1].map((partition): Value => [partition, known.get(partition) ?? workers[partition] ?? ""]),
      };
    });
    t.submit(JOIN, OUTPUTS);
  });

  const workerOf = (key: string): string => t.task(key).processingOn?.address ?? "nobody";
  const create = (id: string): ReturnType<ShuffleCreator["getOrCreate"]> =>
    creator.getOrCreate(id, `in-${id}`, workerOf(`in-${id}`));
  const take = (name: string): Message[] => t.takeWorker(name);

  test("shuffles with shared outputs agree on the workers, also when they start at once", async () => {
    const [a, b] = await Promise.all([create("a"), create("b")]);
    expect(requests.map((request) => request["workers"])).toEqual([
      [addressOf("w1"), addressOf("w2"), addressOf("w3")],
      [addressOf("w2"), addressOf("w3"), addressOf("w1")],
    ]);
    expect(a.workerFor).toEqual([
      [0, addressOf("w1")],
      [1, addressOf("w2")],
    ]);
    expect(b.workerFor).toEqual(a.workerFor);
    expect([a.runId, b.runId]).toEqual([1, 2]);
    expect(OUTPUTS.map((key) => t.task(key).queueable)).toEqual([false, false]);
  });

  test("several tasks that ask at once get one run, and all their workers take part", async () => {
    const first = create("a");
    const second = creator.getOrCreate("a", "in-b", addressOf("w3"));
    expect(await second).toBe(await first);
    expect(requests.length).toBe(1);
    expect([...(await first).participants].sort()).toEqual(["w1", "w2", "w3"].map(addressOf));
  });

  test("a worker that leaves while the run is made is not picked", async () => {
    const asking = workerOf("in-a");
    const [gone] = ["w1", "w2", "w3"].filter((name) => ![asking, workerOf("in-b")].includes(addressOf(name)));
    const chosen = ["w1", "w2"].find((name) => name === gone) ?? "w1";
    const other = addressOf(chosen) === asking ? "w2" : chosen;
    meanwhile.push(() => t.removeWorker(other));
    const run = await create("a");
    expect(requests.length).toBe(2);
    expect(run.participants).not.toContain(addressOf(other));
  });

  test("a barrier that is gone when the run is made is an error of the task", async () => {
    meanwhile.push(() => t.release(...OUTPUTS));
    await expect(create("a")).rejects.toMatchObject({ kind: "P2PConsistencyError" });
    await expect(creator.getOrCreate("a", "in-a", addressOf("w1"))).rejects.toThrow("does not exist");
    expect(runs.active.size).toBe(0);
  });

  test("a task that is not being processed starts no run", async () => {
    await expect(creator.getOrCreate("a", "out-0", addressOf("w1"))).rejects.toThrow(
      "Expected <TaskState 'out-0' waiting> to be processing, is waiting.",
    );
  });

  test("a participant leaves: the others are told before anything starts anew", async () => {
    const run = await create("a");
    t.finish(nameOf(workerOf("in-a")), "in-a");
    const running = t.task("shuffle-barrier-a").processingOn;
    const victim = ["w1", "w2"].find((name) => addressOf(name) !== running?.address) as string;
    for (const name of ["w1", "w2", "w3"]) take(name);
    const before = t.task("in-a").runId;
    t.removeWorker(victim);
    expect(runs.active.size).toBe(0);
    expect(run.archivedBy).toBe("test-remove-worker");
    expect(t.task("in-a").state).toBe("processing");
    expect(t.task("in-a").runId).toBeGreaterThan(before);
    expect(t.task("shuffle-barrier-a").state).toBe("waiting");
    for (const address of run.participants) {
      const messages = take(nameOf(address));
      if (address === addressOf(victim)) {
        expect(messages.map((message) => message["op"])).not.toContain("shuffle-fail");
        continue;
      }
      expect(messages[0]).toEqual({
        op: "shuffle-fail",
        shuffle_id: "a",
        run_id: 1,
        message: `Worker ${addressOf(victim)} left during active SchedulerShuffleState<a[1]>`,
      });
    }
    const again = await create("a");
    expect(again.runId).toBe(2);
    expect(again.participants).not.toContain(addressOf(victim));
  });

  test("the worker of the barrier leaves: the shuffle that its release has ended starts anew", async () => {
    const run = await create("a");
    t.finish(nameOf(workerOf("in-a")), "in-a");
    for (const name of ["w1", "w2", "w3"]) {
      runs.join("a", addressOf(name));
      take(name);
    }
    t.removeWorker(nameOf(workerOf("shuffle-barrier-a")));
    expect(run.archivedBy).toBe("test-remove-worker");
    expect(t.task("in-a").state).toBe("processing");
    // It was sent before the barrier was released; it must not find the old run.
    const ops = take(nameOf(workerOf("in-a"))).map((message) => message["op"]);
    expect(ops[0]).toBe("shuffle-fail");
    expect(ops).toContain("compute-task");
    expect(records.map((record) => record.message)).toContain(
      "Shuffle a restarted due to stimulus 'test-remove-worker'",
    );
  });

  test("a transfer that was fused starts anew too, though the barrier depends on its alias", async () => {
    t.submit(
      { "read-send": [], "send-0": ["read-send"], "shuffle-barrier-f": ["send-0"], "out-f": ["shuffle-barrier-f"] },
      ["out-f"],
    );
    const run = await creator.getOrCreate("f", "read-send", workerOf("read-send"));
    t.finish(nameOf(workerOf("read-send")), "read-send");
    expect(t.task("send-0").state).toBe("processing");
    const victim = [...run.participants].find((address) => address !== workerOf("send-0")) as string;
    t.removeWorker(nameOf(victim));
    expect([t.task("read-send").state, t.task("send-0").state]).toEqual(["processing", "waiting"]);
  });

  test("a barrier that is retried has its transfers run anew, as its run is gone", async () => {
    await create("a");
    t.finish(nameOf(workerOf("in-a")), "in-a");
    const barrier = t.task("shuffle-barrier-a");
    barrier.retries = 1;
    t.err(nameOf(workerOf("shuffle-barrier-a")), "shuffle-barrier-a");
    for (const act of later) act();
    expect(runs.active.size).toBe(0);
    expect([t.task("in-a").state, barrier.state]).toEqual(["processing", "waiting"]);
    await create("a");
    t.finish(nameOf(workerOf("in-a")), "in-a");
    t.finish(nameOf(workerOf("shuffle-barrier-a")), "shuffle-barrier-a");
    expect([...runs.active.keys()]).toEqual(["a"]);
    expect(barrier.state).toBe("memory");
  });

  test("an attempt that was called off fails: the shuffle that goes on is not left with a barrier alone", async () => {
    await create("a");
    t.finish(nameOf(workerOf("in-a")), "in-a");
    const barrier = t.task("shuffle-barrier-a");
    const runId = barrier.runId;
    barrier.runId++;
    t.err(nameOf(workerOf("shuffle-barrier-a")), "shuffle-barrier-a", runId);
    for (const act of later) act();
    expect([t.task("in-a").state, barrier.state]).toEqual(["processing", "waiting"]);
  });

  test("an output is pinned until its shuffle ends", async () => {
    const run = await create("a");
    const output = t.task("out-0");
    runs.pin(output, addressOf("w2"));
    runs.pin(output, addressOf("w3"));
    expect(output.restrictions?.workers).toEqual(new Set([addressOf("w2")]));
    runs.restart(run, "test");
    expect(output.restrictions).toBeNull();
  });

  test("a failed task is reported once, and the failed shuffle is not restarted", async () => {
    const events: Value[] = [];
    const run = await create("a");
    const { outbox } = t.core;
    const event = outbox.event.bind(outbox);
    outbox.event = (topic, message) => {
      if (topic === "p2p") events.push(message);
      event(topic, message);
    };
    t.err(nameOf(workerOf("in-a")), "in-a");
    expect(events).toEqual([
      new Map([
        ["action", "p2p-failed"],
        ["shuffle", "a"],
        ["stimulus", "test-1000"],
      ]),
    ]);
    expect(runs.active.size).toBe(0);
    t.removeWorker(nameOf(run.workerFor[0]?.[1] ?? ""));
    expect(t.task("out-0").state).toBe("erred");
  });

  test("a barrier that waits for a participant fails as soon as its run ends", async () => {
    const shuffle = new Shuffle();
    const context: Partial<Record<keyof SchedulerContext, unknown>> = {
      core: t.core,
      log: new Log("shuffle", () => undefined),
      graphHost: async () => ({
        call: async () => ({
          run_spec: new Pickled(new Uint8Array([1]), []),
          worker_for: [0, 1].map((partition): Value => [partition, addressOf(`w${partition + 1}`)]),
        }),
      }),
      // A dead worker: a connection to it is tried for as long as that may take.
      pool: { call: () => new Promise(() => undefined) },
      settings: { reuseBroadcastComm: true },
    };
    shuffle.start(context as unknown as SchedulerContext);
    const { shuffle_get_or_create: ask, shuffle_barrier: barrier } = shuffle.rpcHandlers;
    await ask({ shuffle_id: "a", key: "in-a", worker: workerOf("in-a") });
    const run = shuffle.active.get("a")!;
    const waiting = barrier({ id: "a", run_id: run.runId, consistent: true });
    t.removeWorker("w1");
    await expect(waiting).rejects.toThrow("ended while its barrier waited");
  });

  test("nothing is kept of a forgotten shuffle", async () => {
    const run = await create("a");
    t.release(...OUTPUTS);
    expect(t.states()).toEqual({});
    expect(runs.active.size).toBe(0);
    expect(runs.activeOf(run.barrier)).toBeUndefined();
    for (const address of run.participants) {
      expect(take(nameOf(address)).find((message) => message["op"] === "shuffle-fail")).toMatchObject({
        message: "SchedulerShuffleState<a[1]> forgotten",
      });
    }
  });
});

function nameOf(address: string): string {
  return address.replace("tcp://", "").replace(":1", "");
}
