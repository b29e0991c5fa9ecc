import {
  ConnectionPool,
  DONT_REPLY,
  listen,
  type Listener,
  Logger,
  type RpcHandlers,
  serveComm,
  type Value,
} from "@dask-ts/protocol";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Digests } from "../../src/server/digests.ts";
import { errorFieldsOf } from "../../src/server/error-fields.ts";
import { gather, type GatherContext, gatherFromWorkers, readWhoHas } from "../../src/server/gather.ts";
import { TransferMetrics } from "../../src/server/transfer-metrics.ts";
import { FakeExecutor } from "./support/fake-executor.ts";
import { until } from "./support/until.ts";

const spec = {
  address: "",
  schedulerAddress: "",
  name: null,
  nthreads: 1,
  resources: new Map(),
  localDirectory: "",
  memoryLimit: null,
  nanny: null,
  environment: {},
  preload: [],
  preloadArgv: [],
  security: null,
};
const events = {
  outcome: () => undefined,
  seceded: () => undefined,
  logEvent: () => undefined,
  request: async () => null,
  log: () => undefined,
  exit: () => undefined,
};

let listener: Listener | undefined;
let pool: ConnectionPool;
let executor: FakeExecutor;
let acknowledged: Value[];

beforeEach(() => {
  pool = new ConnectionPool({ connect: { timeoutMs: 2000 } });
  executor = new FakeExecutor(spec, events);
  acknowledged = [];
});

afterEach(async () => {
  listener?.close();
  await pool.close();
});

async function peer(getData: RpcHandlers[string]): Promise<string> {
  listener = await listen("tcp://127.0.0.1:0", {
    onComm: (comm) => void serveComm(comm, { get_data: getData }, { name: "Peer" }),
  });
  return listener.contactAddress;
}

/** A peer that has these values and notes its acknowledgements. */
function holder(values: Record<string, Value>): Promise<string> {
  return peer(async (fields, { comm }): Promise<typeof DONT_REPLY> => {
    const keys = fields["keys"] as string[];
    comm.send({
      status: "OK",
      data: new Map(keys.filter((key) => key in values).map((key) => [key, values[key] ?? null])),
    });
    acknowledged.push(await comm.receive());
    return DONT_REPLY;
  });
}

function context(): GatherContext {
  return {
    peers: pool,
    executor,
    address: "tcp://127.0.0.1:1",
    log: new Logger("test"),
    digests: new Digests(),
    transfers: new TransferMetrics(100),
    now: () => Date.now() / 1000,
    schedulerDelay: () => 1000,
    probe: async () => undefined,
    silenceMs: 30_000,
    errorFields: errorFieldsOf,
  };
}

function instruction(worker: string, keys: string[]): Parameters<typeof gather>[1] {
  return { kind: "gather", worker, keys, totalNbytes: 99, stimulusId: "test" };
}

describe("gather", () => {
  test("a silent peer is waited for as long as it can be reached", async () => {
    let answer: () => void = () => undefined;
    const worker = await peer(async (_, { comm }): Promise<typeof DONT_REPLY> => {
      await new Promise<void>((done) => {
        answer = done;
      });
      comm.send({ status: "OK", data: new Map([["x", 1]]) });
      await comm.receive();
      return DONT_REPLY;
    });
    let probes = 0;
    const probe = async (): Promise<void> => {
      if (++probes === 3) answer();
    };
    const event = await gather({ ...context(), probe, silenceMs: 10 }, instruction(worker, ["x"]));
    expect([event.kind, probes]).toEqual(["gather-success", 3]);

    const gone = await gather(
      { ...context(), probe: () => Promise.reject(new Error("no route")), silenceMs: 10 },
      instruction(worker, ["x"]),
    );
    expect(gone).toMatchObject({ kind: "gather-network-failure", worker });
    await until("its comm is given up", () => pool.active === 0);
  });

  test("puts what came into the executor, acknowledges, and reports sizes in scheduler time", async () => {
    const worker = await holder({ x: 1 });
    const before = Date.now() / 1000 + 1000;
    const event = await gather(context(), instruction(worker, ["x", "y"]));
    expect(event).toMatchObject({ kind: "gather-success", worker, totalNbytes: 99, failed: [] });
    expect(event.kind === "gather-success" && event.received.map((value) => [value.key, value.nbytes])).toEqual([
      ["x", 8],
    ]);
    expect(event.kind === "gather-success" && (event.start ?? 0) >= before - 0.1).toBe(true);
    expect(executor.store.get("x")).toBe(1);
    await until("the acknowledgement arrives", () => acknowledged[0] === "OK");
    expect(pool.active).toBe(0);
    expect(pool.open).toBe(1);
  });

  test("a busy peer is not acknowledged and its comm used again", async () => {
    const worker = await peer(() => ({ status: "busy" }));
    expect(await gather(context(), instruction(worker, ["x"]))).toMatchObject({
      kind: "gather-busy",
      worker,
      totalNbytes: 99,
    });
    expect(await gather(context(), instruction(worker, ["x"]))).toMatchObject({ kind: "gather-busy" });
    expect(pool.open).toBe(1);
  });

  test("a peer that goes away, or is not there, is a network failure", async () => {
    const worker = await peer((_, { comm }) => comm.abort());
    expect(await gather(context(), instruction(worker, ["x"]))).toMatchObject({
      kind: "gather-network-failure",
      worker,
    });
    listener?.close();
    expect(await gather(context(), instruction(worker, ["x"]))).toMatchObject({
      kind: "gather-network-failure",
      worker,
    });
  });

  test("a peer's error is a failure with the peer's own words", async () => {
    const worker = await peer(() => {
      throw new TypeError("cannot serialize");
    });
    const event = await gather(context(), instruction(worker, ["x"]));
    expect(event.kind === "gather-failure" && event.error.exceptionText).toContain("cannot serialize");
  });

  test("a value that cannot be opened fails alone", async () => {
    const worker = await holder({ x: 1, y: 2 });
    executor.broken.add("y");
    const event = await gather(context(), instruction(worker, ["x", "y"]));
    expect(event.kind === "gather-success" && event.received.map((value) => value.key)).toEqual(["x"]);
    expect(event.kind === "gather-success" && event.failed?.map(({ key }) => key)).toEqual(["y"]);
  });

  test("nonsense instead of data is a failure, not a dead peer", async () => {
    const worker = await peer(() => ({ status: "OK", data: 5 }));
    expect(await gather(context(), instruction(worker, ["x"]))).toMatchObject({ kind: "gather-failure" });
  });
});

test("gatherFromWorkers says what is missing, what failed, and who is gone", async () => {
  const worker = await holder({ x: 1, y: 2 });
  executor.broken.add("y");
  const gone = "tcp://127.0.0.1:9";
  const whoHas = readWhoHas(
    new Map<Value, Value>([
      ["x", [worker]],
      ["y", [worker]],
      ["z", [worker]],
      ["w", [gone]],
    ]),
  );
  const gathered = await gatherFromWorkers(context(), whoHas, () => 0);
  expect(gathered.stored.map((value) => value.key)).toEqual(["x"]);
  expect(gathered.failed).toEqual(["y"]);
  expect(new Set(gathered.missing)).toEqual(new Set(["w", "z"]));
  expect(gathered.missingWorkers).toEqual([gone]);
});

test("large transfers move the bandwidth average; small ones do not", () => {
  const transfers = new TransferMetrics(100);
  transfers.received({ start: 0, stop: 1, who: "a", keys: [], total: 1000 }, new Set(["int"]));
  expect(transfers.bandwidthBytesPerS).toBe(100);
  transfers.received(
    { start: 0, stop: 1, who: "a", keys: [["x", 2_000_000]], total: 2_000_000 },
    new Set(["numpy.ndarray"]),
  );
  expect(transfers.bandwidthBytesPerS).toBeCloseTo(95 + 100_000);
  const bandwidth = transfers.bandwidth();
  expect([...(bandwidth.get("workers") as Map<string, Value>).keys()]).toEqual(["a"]);
  expect([...(bandwidth.get("types") as Map<string, Value>).keys()]).toEqual(["numpy.ndarray"]);
});
