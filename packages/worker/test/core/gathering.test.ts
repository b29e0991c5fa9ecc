/** Which values are fetched from whom, and what is done when that fails. */
import { expect, test } from "vitest";
import {
  ADDRESS,
  acquire,
  busy,
  compute,
  Driver,
  ERROR,
  findMissing,
  free,
  gathered,
  gatherFailure,
  LOCAL_PEER,
  LOCAL_PEER_2,
  networkFailure,
  pause,
  REMOTE_PEER,
  REMOTE_PEER_2,
  refresh,
  removeReplicas,
  removeWorker,
  retryBusyWorker,
  success,
  unpause,
  value,
} from "./support/events.ts";

test("tasks of one peer share a message up to the limit, of which the first may exceed it", () => {
  const d = new Driver({ transferMessageBytesLimit: 100 });
  expect(d.do(acquire({ a: [LOCAL_PEER], b: [LOCAL_PEER], c: [LOCAL_PEER] }, { a: 300, b: 60, c: 40 }))).toEqual([
    ["gather", LOCAL_PEER, ["b", "c"], 100],
  ]);
  expect(d.do(gathered(LOCAL_PEER, ["b", "c"], 100))).toEqual([
    ["add-keys", ["b"]],
    ["add-keys", ["c"]],
    ["gather", LOCAL_PEER, ["a"], 300],
  ]);
  expect(d.machine.transferIncomingCountTotal).toBe(2);
});

test("one transfer at a time per peer; what comes later waits for its end", () => {
  const d = new Driver();
  d.do(acquire({ a: [LOCAL_PEER] }));
  expect(d.do(acquire({ b: [LOCAL_PEER] }), acquire({ c: [LOCAL_PEER] }))).toEqual([]);
  expect(d.do(gathered(LOCAL_PEER, ["a"]))).toEqual([
    ["add-keys", ["a"]],
    ["gather", LOCAL_PEER, ["b", "c"], 2],
  ]);
});

test("the most urgent task decides, then peers on this host come first, then those with more tasks", () => {
  const d = new Driver();
  expect(
    d.do(compute("x", { priority: [0], whoHas: { a: [REMOTE_PEER, LOCAL_PEER, REMOTE_PEER_2, LOCAL_PEER_2] } })),
  ).toEqual([["gather", LOCAL_PEER, ["a"], 1]]);

  const e = new Driver();
  e.do(pause(), compute("x", { priority: [2], whoHas: { a: [LOCAL_PEER] } }));
  e.do(compute("y", { priority: [1], whoHas: { b: [REMOTE_PEER] } }));
  expect(e.do(unpause()).map(([, worker]) => worker)).toEqual([REMOTE_PEER, LOCAL_PEER]);

  const f = new Driver();
  f.do(
    pause(),
    acquire({ a: [REMOTE_PEER], b: [REMOTE_PEER_2], c: [REMOTE_PEER_2], both: [REMOTE_PEER, REMOTE_PEER_2] }),
  );
  expect(f.do(unpause())).toEqual([
    ["gather", REMOTE_PEER_2, ["b", "both", "c"], 3],
    ["gather", REMOTE_PEER, ["a"], 1],
  ]);
});

test("ties go by the seed: the same seed, the same choice", () => {
  const peers = Array.from({ length: 10 }, (_, i) => `tcp://10.0.1.${i}:1`);
  const choice = (seed: number): unknown => new Driver({ seed }).do(acquire({ a: peers }))[0]?.[1];
  expect(choice(1)).toBe(choice(1));
  expect(new Set(Array.from({ length: 20 }, (_, seed) => choice(seed))).size).toBeGreaterThan(3);
});

test("too many connections stop new transfers only above the threshold", () => {
  const whoHas = { a: [LOCAL_PEER], b: [LOCAL_PEER_2], c: [REMOTE_PEER] };
  const nbytes = { a: 100, b: 100, c: 100 };
  const below = new Driver({ totalOutConnections: 1, transferIncomingBytesThrottleThreshold: 1000 });
  expect(below.do(acquire(whoHas, nbytes)).length).toBe(3);
  const above = new Driver({ totalOutConnections: 1, transferIncomingBytesThrottleThreshold: 50 });
  expect(above.do(acquire(whoHas, nbytes))).toEqual([["gather", LOCAL_PEER, ["a"], 100]]);
  expect(above.do(gathered(LOCAL_PEER, ["a"], 100))).toEqual([
    ["add-keys", ["a"]],
    ["gather", LOCAL_PEER_2, ["b"], 100],
  ]);
});

test("bytes under way stop transfers that do not fit, and a smaller, more urgent one goes first", () => {
  const d = new Driver({ transferIncomingBytesLimit: 100 });
  expect(d.do(acquire({ a: [LOCAL_PEER], b: [LOCAL_PEER_2] }, { a: 60, b: 60 }))).toEqual([
    ["gather", LOCAL_PEER, ["a"], 60],
  ]);
  expect(d.do(acquire({ later: [REMOTE_PEER_2] }, { later: 10 }))).toEqual([]);
  expect(d.do(compute("x", { whoHas: { c: [REMOTE_PEER] }, nbytes: { c: 30 } }))).toEqual([
    ["gather", REMOTE_PEER, ["c"], 30],
  ]);
  const told = d.do(gathered(LOCAL_PEER, ["a"], 60));
  expect(told).toEqual([
    ["add-keys", ["a"]],
    ["gather", LOCAL_PEER_2, ["b"], 60],
    ["gather", REMOTE_PEER_2, ["later"], 10],
  ]);
});

test("a transfer is fetched whatever its size when there is no other", () => {
  const d = new Driver({ transferIncomingBytesLimit: 10 });
  expect(d.do(acquire({ a: [LOCAL_PEER] }, { a: 500 }))).toEqual([["gather", LOCAL_PEER, ["a"], 500]]);
});

test("paused, nothing is fetched or run; unpaused, both begin", () => {
  const d = new Driver();
  d.do(pause());
  expect(d.do(compute("x"), acquire({ a: [LOCAL_PEER] }))).toEqual([]);
  expect(d.states()).toEqual({ x: "ready", a: "fetch" });
  expect(d.do(unpause())).toEqual([
    ["execute", "x"],
    ["gather", LOCAL_PEER, ["a"], 1],
  ]);
});

test("a busy peer is left alone, another holder is asked; without one the scheduler is", () => {
  const d = new Driver();
  d.do(acquire({ a: [LOCAL_PEER, REMOTE_PEER] }));
  expect(d.do(busy(LOCAL_PEER))).toEqual([
    ["retry-busy-worker-later", LOCAL_PEER],
    ["gather", REMOTE_PEER, ["a"], 1],
  ]);
  expect(d.do(busy(REMOTE_PEER))).toEqual([
    ["retry-busy-worker-later", REMOTE_PEER],
    ["request-refresh-who-has", ["a"]],
  ]);
  expect(d.state("a")).toBe("fetch");
  expect(d.do(retryBusyWorker(REMOTE_PEER))).toEqual([["gather", REMOTE_PEER, ["a"], 1]]);
});

test("a new holder that is not busy is asked at once", () => {
  const d = new Driver();
  d.do(acquire({ a: [LOCAL_PEER] }), busy(LOCAL_PEER));
  expect(d.do(refresh({ a: [LOCAL_PEER, REMOTE_PEER] }))).toEqual([["gather", REMOTE_PEER, ["a"], 1]]);
});

test("a value that the peer does not have is fetched elsewhere; from nowhere, it is missing until somebody has it", () => {
  const d = new Driver();
  d.do(compute("x", { whoHas: { a: [LOCAL_PEER, REMOTE_PEER] } }));
  expect(d.do(gathered(LOCAL_PEER, [], 1))).toEqual([["gather", REMOTE_PEER, ["a"], 1]]);
  expect(d.do(gathered(REMOTE_PEER, [], 1))).toEqual([]);
  expect(d.state("a")).toBe("missing");
  expect(d.do(findMissing())).toEqual([["request-refresh-who-has", ["a"]]]);
  expect(d.do(refresh({ a: [] }))).toEqual([]);
  expect(d.do(refresh({ a: [REMOTE_PEER_2] }))).toEqual([["gather", REMOTE_PEER_2, ["a"], 1]]);
  expect(d.do(gathered(REMOTE_PEER_2, ["a"]))).toEqual([
    ["add-keys", ["a"]],
    ["execute", "x"],
  ]);
  expect(d.do(findMissing())).toEqual([]);
});

test("a missing task can be computed here", () => {
  const d = new Driver();
  d.do(compute("x", { whoHas: { a: [LOCAL_PEER] } }), networkFailure(LOCAL_PEER));
  expect(d.state("a")).toBe("missing");
  expect(d.do(compute("a"))).toEqual([["execute", "a"]]);
  expect(d.do(success("a"))).toEqual([
    ["task-finished", "a", 1, 1, ["compute"]],
    ["execute", "x"],
  ]);
});

test("a fetched task is computed here when the scheduler says so", () => {
  const d = new Driver();
  d.do(acquire({ a: [LOCAL_PEER] }), acquire({ b: [LOCAL_PEER] }));
  expect(d.state("b")).toBe("fetch");
  expect(d.do(compute("b"))).toEqual([["execute", "b"]]);
});

test("after a network failure the peer holds nothing any more", () => {
  const d = new Driver({ transferMessageBytesLimit: 1 });
  d.do(acquire({ a: [LOCAL_PEER] }), acquire({ b: [LOCAL_PEER] }), acquire({ c: [LOCAL_PEER, REMOTE_PEER] }));
  d.do(gathered(REMOTE_PEER, ["c"]));
  expect(d.states()).toEqual({ a: "flight", b: "fetch", c: "memory" });
  expect(d.do(networkFailure(LOCAL_PEER))).toEqual([]);
  expect(d.states()).toEqual({ a: "missing", b: "missing", c: "memory" });
  expect([...(d.machine.task("c")?.whoHas ?? [])].map((peer) => peer.address)).toEqual([REMOTE_PEER]);
});

test("a removed worker holds nothing any more; its transfer ends by itself", () => {
  const d = new Driver();
  d.do(acquire({ a: [LOCAL_PEER] }), acquire({ b: [LOCAL_PEER] }));
  expect(d.do(removeWorker(LOCAL_PEER), removeWorker("tcp://10.9.9.9:9"))).toEqual([]);
  expect(d.states()).toEqual({ a: "flight", b: "missing" });
  expect(d.do(gathered(LOCAL_PEER, ["a"]))).toEqual([["add-keys", ["a"]]]);
});

test("a transfer that fails in another way errs all its tasks; one that could not be opened, only that", () => {
  const d = new Driver();
  d.do(acquire({ a: [LOCAL_PEER], b: [LOCAL_PEER] }));
  expect(d.do(gatherFailure(LOCAL_PEER, 2)).map(([name]) => name)).toEqual(["task-erred", "task-erred"]);
  expect(d.states()).toEqual({ a: "error", b: "error" });

  const e = new Driver();
  e.do(acquire({ a: [LOCAL_PEER], b: [LOCAL_PEER] }));
  e.do({
    kind: "gather-success",
    worker: LOCAL_PEER,
    totalNbytes: 2,
    received: [value("a")],
    failed: [{ key: "b", error: ERROR }],
    stimulusId: "s",
  });
  expect(e.states()).toEqual({ a: "memory", b: "error" });
});

test("a task errs with a dependency that cannot be opened, and can be asked for again", () => {
  const d = new Driver({ validate: true });
  d.do(compute("x", { whoHas: { a: [LOCAL_PEER], b: [REMOTE_PEER] }, runId: 7 }));
  const told = d.do(gatherFailure(LOCAL_PEER));
  expect(told.map(([name, key]) => `${String(name)} ${String(key)}`).toSorted()).toEqual([
    "task-erred a",
    "task-erred x",
  ]);
  expect(d.states()).toEqual({ a: "error", b: "flight", x: "error" });
  d.machine.validateState();
  expect(d.do(gathered(REMOTE_PEER, ["b"]))).toEqual([["add-keys", ["b"]]]);
  d.do(free("x"));
  expect(d.do(compute("x", { whoHas: { a: [LOCAL_PEER_2], b: [REMOTE_PEER] }, runId: 8 }))).toEqual([
    ["gather", LOCAL_PEER_2, ["a"], 1],
  ]);
  expect(d.do(gathered(LOCAL_PEER_2, ["a"])).map(([name]) => name)).toEqual(["add-keys", "execute"]);
  d.machine.validateState();
});

test("a transfer is booked on a task that uses its values", () => {
  const d = new Driver();
  d.do(compute("x", { whoHas: { a: [LOCAL_PEER] } }));
  const event = gathered(LOCAL_PEER, ["a"]);
  d.do({ ...event, start: 5, stop: 6.5 } as typeof event);
  const [instruction] = d.raw(success("x"));
  expect(instruction).toMatchObject({
    message: {
      startstops: [
        { action: "transfer", start: { value: 5 }, stop: 6.5, source: LOCAL_PEER },
        { action: "compute", start: { value: 10 }, stop: 10.5 },
      ],
    },
  });
});

test("this worker is not its own peer", () => {
  const d = new Driver();
  d.do(compute("x", { whoHas: { a: [ADDRESS, LOCAL_PEER] } }));
  expect(d.do(networkFailure(LOCAL_PEER))).toEqual([]);
  expect(d.state("a")).toBe("missing");
});

test("replicas go when the scheduler says so; what is not in memory stays", () => {
  const d = new Driver();
  d.do(compute("x"), success("x"), acquire({ a: [LOCAL_PEER] }));
  expect(d.do(removeReplicas("x", "a", "unknown"))).toEqual([
    ["drop", ["x"]],
    ["release-worker-data", "x"],
  ]);
  expect(d.states()).toEqual({ a: "flight" });
});

test("a needed key that is freed is not fetched any more", () => {
  const d = new Driver();
  d.do(acquire({ a: [LOCAL_PEER] }), acquire({ b: [LOCAL_PEER] }), free("b"));
  expect(d.states()).toEqual({ a: "flight" });
  expect(d.do(gathered(LOCAL_PEER, ["a"]))).toEqual([["add-keys", ["a"]]]);
});
