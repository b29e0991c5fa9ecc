/** A scheduler that registers workers, records what they send, and sends what a test tells it. */
import {
  type Comm,
  isMessage,
  type Listener,
  listen,
  type Message,
  type RpcHandlers,
  serveComm,
  TAKEN_OVER,
  type Value,
} from "@dask-ts/protocol";

export class FakeScheduler {
  readonly registrations: Message[] = [];
  readonly heartbeats: Message[] = [];
  /** Messages of the workers' streams, in order. */
  readonly stream: Message[] = [];
  readonly calls: { op: string; fields: Message }[] = [];
  /** Streams that are open. */
  readonly streams: Comm[] = [];
  /** Consumed before each registration; the default answer is OK. */
  readonly refusals: Message[] = [];
  readonly plugins: Map<Value, Value> = new Map();
  heartbeatReply: Message = { status: "OK", time: 0, "heartbeat-interval": 0.1 };
  #listener: Listener | undefined;
  readonly #comms = new Set<Comm>();
  readonly #known = new Map<Comm, string>();

  static async start(): Promise<FakeScheduler> {
    const scheduler = new FakeScheduler();
    scheduler.#listener = await listen("tcp://127.0.0.1:0", { onComm: (comm) => scheduler.#serve(comm) });
    return scheduler;
  }

  get address(): string {
    return this.#listener?.contactAddress ?? "";
  }

  #serve(comm: Comm): void {
    this.#comms.add(comm);
    comm.onClose(() => {
      this.#comms.delete(comm);
      this.#known.delete(comm);
    });
    void serveComm(comm, this.#handlers, { name: "FakeScheduler" });
  }

  readonly #handlers: RpcHandlers = {
    "register-worker": (fields, { comm }) => {
      this.registrations.push(fields);
      const refusal = this.refusals.shift();
      if (refusal !== undefined) {
        comm.send(refusal);
        return TAKEN_OVER;
      }
      comm.send({
        status: "OK",
        time: Date.now() / 1000,
        "heartbeat-interval": 0.1,
        "worker-plugins": this.plugins,
      });
      this.streams.push(comm);
      this.#known.set(comm, String(fields["address"]));
      comm.listen((batch) => {
        for (const message of Array.isArray(batch) ? (batch as readonly Value[]) : [batch]) {
          if (isMessage(message)) this.stream.push(message);
        }
      });
      return TAKEN_OVER;
    },
    heartbeat_worker: (fields) => {
      this.heartbeats.push(fields);
      return { ...this.heartbeatReply, time: Date.now() / 1000 };
    },
    ncores: () => new Map<Value, Value>([...this.#known.values()].map((address) => [address, 1])),
    register_nanny: () => ({ status: "OK", "nanny-plugins": new Map() }),
    unregister: (fields) => this.#record("unregister", fields, "OK"),
    log_event: (fields) => this.#record("log_event", fields, null),
    who_has: (fields) => this.#record("who_has", fields, new Map()),
    retire_workers: (fields) => this.#record("retire_workers", fields, new Map()),
  };

  #record(op: string, fields: Message, reply: Value): Value {
    this.calls.push({ op, fields });
    return reply;
  }

  /** Sends on the newest stream. */
  send(...messages: Message[]): void {
    this.streams.at(-1)?.send(messages);
  }

  /** Ops on the stream so far. */
  ops(): string[] {
    return this.stream.map((message) => String(message["op"]));
  }

  async close(): Promise<void> {
    this.#listener?.close();
    for (const comm of this.#comms) comm.abort();
  }
}
