/** `distributed.Queue` (distributed.queues.QueueExtension). */
import { type Comm, isKey, type Key, keyId, type Message, type RpcContext, type Value } from "@dask-ts/protocol";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";
import { optionalNumber, stringField } from "../server/fields.ts";
import { describeRecord, type FutureRecord, waitForKey } from "./future-record.ts";
import { deadlineOf, Waiters } from "./waiters.ts";

interface QueueState {
  readonly records: FutureRecord[];
  /** 0: no limit. */
  readonly maxsize: number;
  readonly getters: Waiters;
  readonly putters: Waiters;
  /** `Queue` objects that use it. */
  references: number;
}

export class Queues implements SchedulerExtension {
  readonly name = "queues";
  readonly #queues: Map<string, QueueState> = new Map();
  /** Futures of a queue that clients have not confirmed yet: queue and key id → count. */
  readonly #futures: Map<string, number> = new Map();
  #context!: SchedulerContext;

  start(context: SchedulerContext): void {
    this.#context = context;
  }

  readonly rpcHandlers = {
    queue_create: (fields: Message): Value => this.#create(fields),
    queue_put: (fields: Message, { comm }: RpcContext): Promise<Value> => this.#put(fields, comm),
    queue_get: (fields: Message, { comm }: RpcContext): Promise<Value> => this.#get(fields, comm),
    queue_qsize: (fields: Message): Value => this.#queue(stringField(fields, "name")).records.length,
  };

  readonly clientStreamHandlers = {
    "queue-future-release": (client: string, message: Message): void => this.#releaseFuture(client, message),
    queue_release: (_client: string, message: Message): void => this.#release(stringField(message, "name")),
  };

  #queue(name: string): QueueState {
    const queue = this.#queues.get(name);
    if (queue === undefined) throw pythonError("KeyError", name);
    return queue;
  }

  #create(fields: Message): Value {
    const name = stringField(fields, "name");
    const queue = this.#queues.get(name);
    if (queue !== undefined) {
      queue.references++;
      return null;
    }
    this.#queues.set(name, {
      records: [],
      maxsize: Math.max(0, optionalNumber(fields, "maxsize") ?? 0),
      getters: new Waiters(this.#context),
      putters: new Waiters(this.#context),
      references: 1,
    });
    return null;
  }

  #release(name: string): void {
    const queue = this.#queues.get(name);
    if (queue === undefined || --queue.references > 0) return;
    this.#queues.delete(name);
    const keys = queue.records.filter((record) => record.type === "Future").map((record) => record.value);
    if (keys.length > 0) {
      this.#context.apply((core, now) => core.clientReleasesKeys(keys, holder(name), now));
    }
  }

  async #put(fields: Message, comm: Comm): Promise<Value> {
    const name = stringField(fields, "name");
    const deadline = deadlineOf(this.#context, optionalNumber(fields, "timeout"));
    const key = fields["key"];
    const record: FutureRecord =
      key === undefined || key === null
        ? { type: "msgpack", value: fields["data"] ?? null }
        : { type: "Future", value: asKey(key) };
    if (record.type === "Future") {
      await waitForKey(this.#context, record.value, deadline);
      const reference = referenceOf(name, record.value);
      this.#futures.set(reference, (this.#futures.get(reference) ?? 0) + 1);
      this.#context.apply((core, now) => core.clientDesiresKeys([record.value], holder(name), now));
    }
    const queue = this.#queue(name);
    while (queue.maxsize > 0 && queue.records.length >= queue.maxsize) {
      if ((await queue.putters.wait(comm, deadline)) === "timeout") throw pythonError("TimeoutError", "");
    }
    queue.records.push(record);
    queue.getters.wakeOne();
    return null;
  }

  async #get(fields: Message, comm: Comm): Promise<Value> {
    const queue = this.#queue(stringField(fields, "name"));
    const timeout = optionalNumber(fields, "timeout");
    const batch = fields["batch"] ?? false;
    if (batch === true) {
      const out: Value[] = [];
      while (queue.records.length > 0) out.push(await this.#take(queue, comm, null));
      return out;
    }
    if (typeof batch !== "number" || batch === 0)
      return await this.#take(queue, comm, deadlineOf(this.#context, timeout));
    if (timeout !== null) {
      throw pythonError(
        "NotImplementedError",
        "Dask queues don't support simultaneous use of integer batch sizes and timeouts",
      );
    }
    const out: Value[] = [];
    for (let i = 0; i < batch; i++) out.push(await this.#take(queue, comm, null));
    return out;
  }

  async #take(queue: QueueState, comm: Comm, deadline: number | null): Promise<Message> {
    for (;;) {
      const record = queue.records.shift();
      if (record !== undefined) {
        queue.putters.wakeOne();
        return describeRecord(this.#context, record);
      }
      if ((await queue.getters.wait(comm, deadline)) === "timeout") throw pythonError("TimeoutError", "");
    }
  }

  #releaseFuture(client: string, message: Message): void {
    const name = stringField(message, "name");
    const key = asKey(message["key"] ?? null);
    const reference = referenceOf(name, key);
    const left = (this.#futures.get(reference) ?? 0) - 1;
    this.#context.apply((core, now) => {
      core.clientDesiresKeys([key], client, now);
      if (left === 0) core.clientReleasesKeys([key], holder(name), now);
    });
    if (left > 0) this.#futures.set(reference, left);
    else this.#futures.delete(reference);
  }
}

/** The pseudo client that keeps a queue's futures alive. */
function holder(name: string): string {
  return `queue-${name}`;
}

function referenceOf(name: string, key: Key): string {
  return `${name.length}:${name}${keyId(key)}`;
}

function asKey(value: Value): Key {
  if (isKey(value)) return value;
  throw new TypeError("'key' is no task key");
}
