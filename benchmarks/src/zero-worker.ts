/**
 * Zero workers (Böhm & Beránek, "Runtime vs Scheduler: Analyzing Dask's Overheads"): they register like real ones and
 * report every task as finished at once, so that what is left is the scheduler. All run in this one process; its CPU
 * time is printed at the end, to show that it was not the bottleneck.
 *
 *     node dist/zero-worker.js tcp://127.0.0.1:8786 COUNT NTHREADS
 */
import {
  BatchedSend,
  type Comm,
  connect,
  ConnectionPool,
  DONT_REPLY,
  float,
  isMessage,
  listen,
  type Message,
  type RpcHandlers,
  type RpcResult,
  serializedPickle,
  serveComm,
  type Value,
} from "@dask-ts/protocol";
import { heartbeat, registration } from "./fake-worker.ts";

/** Nine bytes: the pickle of 0, whatever the task was. */
const ZERO = Buffer.from("80054b002e", "hex");
const INT_TYPE = Buffer.from("80059514000000000000008c086275696c74696e73948c03696e749493942e", "hex");

class ZeroWorker {
  readonly #address: string;
  readonly #pool: ConnectionPool;
  readonly #scheduler: string;
  readonly #held = new Set<Value>();

  private constructor(address: string, scheduler: string, pool: ConnectionPool) {
    this.#address = address;
    this.#scheduler = scheduler;
    this.#pool = pool;
  }

  static async start(scheduler: string, name: string, nthreads: number, pool: ConnectionPool): Promise<ZeroWorker> {
    const handlers: RpcHandlers = {
      get_data: async (fields, { comm }): Promise<RpcResult> => {
        const keys = fields["keys"] as Iterable<Value>;
        const data = new Map<Value, Value>();
        for (const key of keys) data.set(key, serializedPickle(ZERO));
        comm.send({ status: "OK", data });
        await comm.receive();
        return DONT_REPLY;
      },
      free_keys: () => null,
    };
    const listener = await listen("tcp://127.0.0.1:0", {
      onComm: (comm) => void serveComm(comm, handlers, { name: "ZeroWorker" }),
    });
    const worker = new ZeroWorker(listener.contactAddress, scheduler, pool);
    await worker.#register(await connect(scheduler), name, nthreads);
    return worker;
  }

  async #register(comm: Comm, name: string, nthreads: number): Promise<void> {
    comm.send(registration(this.#address, name, nthreads, "init"));
    const reply = await comm.receive();
    if (!isMessage(reply) || reply["status"] !== "OK") throw new Error(`not registered: ${JSON.stringify(reply)}`);
    const stream = new BatchedSend(comm, 2);
    stream.send({ op: "worker-status-change", status: "running", stimulus_id: `zero-${name}` });
    comm.listen((batch) => {
      for (const message of batch as Message[]) this.#handle(message, stream);
    });
    comm.onClose(() => process.exit(0));
    const interval = Number(reply["heartbeat-interval"] ?? 1) * 1000;
    setInterval(
      () => {
        this.#pool.call(this.#scheduler, "heartbeat_worker", heartbeat(this.#address)).catch(() => undefined);
      },
      Math.max(interval, 500),
    );
  }

  #handle(message: Message, stream: BatchedSend): void {
    switch (message["op"]) {
      case "compute-task": {
        // Dependencies count as fetched: no replica is reported, as nothing was moved.
        this.#held.add(message["key"] as Value);
        const at = Date.now() / 1000;
        stream.send({
          op: "task-finished",
          key: message["key"],
          run_id: message["run_id"],
          nbytes: 28,
          type: INT_TYPE,
          typename: "int",
          metadata: new Map(),
          thread: 1,
          startstops: [
            new Map<Value, Value>([
              ["action", "compute"],
              ["start", float(at)],
              ["stop", float(at + 1e-6)],
            ]),
          ],
          stimulus_id: "zero",
          status: "OK",
        });
        return;
      }
      case "free-keys":
        for (const key of message["keys"] as Value[]) {
          if (this.#held.delete(key)) stream.send({ op: "release-worker-data", key, stimulus_id: "zero" });
        }
        return;
      case "steal-request":
        stream.send({ op: "steal-response", key: message["key"], state: null, stimulus_id: message["stimulus_id"] });
        return;
      case "close":
        process.exit(0);
        return;
      default:
        return;
    }
  }
}

const [scheduler, count, nthreads] = process.argv.slice(2);
if (scheduler === undefined) throw new Error("usage: zero-worker SCHEDULER COUNT NTHREADS");
const pool = new ConnectionPool();
for (let i = 0; i < Number(count ?? 8); i++)
  await ZeroWorker.start(scheduler, `zero-${i}`, Number(nthreads ?? 1), pool);
process.stdout.write("ready\n");
