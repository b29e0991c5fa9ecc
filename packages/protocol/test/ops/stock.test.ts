/** The tables of ops against the handlers that a running stock scheduler, worker and nanny have. */
import { beforeAll, expect, test } from "vitest";
import {
  CLIENT_TO_SCHEDULER,
  COMMON_RPC,
  NANNY_RPC,
  type OpTable,
  SCHEDULER_RPC,
  SCHEDULER_TO_WORKER,
  WORKER_RPC,
  WORKER_TO_SCHEDULER,
} from "../../src/index.ts";
import { PythonPeer } from "../support/python.ts";

interface Parameters {
  readonly required: string[];
  readonly optional: string[];
  readonly further: boolean;
}
type Stock = Record<"scheduler" | "toScheduler" | "worker" | "toWorker" | "nanny", Record<string, Parameters>>;

let stock: Stock;

beforeAll(async () => {
  const peer = new PythonPeer("stock_ops.py");
  try {
    stock = await peer.next<Stock>();
  } finally {
    await peer.stop();
  }
});

/** `serializers` belongs to RPC. A stream's receiver fills `client` and `worker` in, and `ts` is never sent. */
const NOT_SENT = new Set(["serializers", "ts"]);
/** Stock takes any field here and hands it to a dataclass, or to a second function. */
const WRAPPED = new Set(
  `free_keys retire_workers run task-finished task-erred compute-task free-keys remove-replicas acquire-replicas
   steal-request refresh-who-has cancel-compute`.split(/\s+/),
);

/** Understood in the form of clients before 2026.6.0 too: fewer fields are required, and more are known. */
const OLDER_FORM = new Set(["publish_put", "publish_get", "publish_delete", "publish_list"]);

function compare(ours: OpTable, theirs: Record<string, Parameters>, filledIn: readonly string[]): void {
  for (const [op, parameters] of Object.entries(theirs)) {
    const spec = ours[op];
    expect(spec, `op ${op}`).toBeDefined();
    const fields = Object.entries(spec!.fields).filter(([name]) => name !== "*");
    const known = fields.map(([name]) => name);
    const required = fields.filter(([, kind]) => !kind.endsWith("?")).map(([name]) => name);
    const wanted = parameters.required.filter((name) => !filledIn.includes(name));
    if (parameters.further && WRAPPED.has(op)) {
      expect(required, op).toEqual(expect.arrayContaining(wanted));
      continue;
    }
    const all = [...parameters.required, ...parameters.optional].filter((name) => !NOT_SENT.has(name));
    if (OLDER_FORM.has(op)) {
      expect(known, op).toEqual(expect.arrayContaining(all));
      continue;
    }
    expect(required.sort(), `required fields of ${op}`).toEqual(wanted.filter((n) => !NOT_SENT.has(n)).sort());
    expect(known.sort(), `fields of ${op}`).toEqual(all.sort());
    expect("*" in spec!.fields, `further fields of ${op}`).toBe(parameters.further);
  }
}

const { n_workers: _, ...identityFields } = COMMON_RPC.identity.fields;
const common: OpTable = { ...COMMON_RPC, identity: { fields: identityFields } };

test("scheduler RPC", () => compare({ ...COMMON_RPC, ...SCHEDULER_RPC }, stock.scheduler, []));
test("worker RPC", () => compare({ ...common, ...WORKER_RPC }, stock.worker, []));
test("nanny RPC", () => compare({ ...common, ...NANNY_RPC }, stock.nanny, []));
test("streams to the scheduler", () => {
  compare({ ...CLIENT_TO_SCHEDULER, ...WORKER_TO_SCHEDULER }, stock.toScheduler, ["client", "worker"]);
});
test("the stream to a worker", () => compare(SCHEDULER_TO_WORKER, stock.toWorker, []));
test("no op of ours is unknown to stock", () => {
  const known = (...tables: Record<string, Parameters>[]): Set<string> => new Set(tables.flatMap(Object.keys));
  const stray = (ours: OpTable, theirs: Set<string>): string[] => Object.keys(ours).filter((op) => !theirs.has(op));
  // of clients before 2026.6.0
  expect(stray(SCHEDULER_RPC, known(stock.scheduler))).toEqual(["publish_wait_flush"]);
  expect(stray(WORKER_RPC, known(stock.worker))).toEqual([]);
  expect(stray(NANNY_RPC, known(stock.nanny))).toEqual([]);
  expect(stray({ ...CLIENT_TO_SCHEDULER, ...WORKER_TO_SCHEDULER }, known(stock.toScheduler))).toEqual(["close-stream"]);
  expect(stray(SCHEDULER_TO_WORKER, known(stock.toWorker))).toEqual(["close-stream"]);
});
