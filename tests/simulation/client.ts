/** A client: holds futures, and believes about them what it is told (distributed.client, as far as the streams go). */
import { type Key, keyId, type Message, type Value } from "../../packages/protocol/src/index.ts";
import type { Monitor } from "./monitor.ts";
import type { End, Network } from "./network.ts";
import type { SimScheduler } from "./scheduler.ts";
import type { Submission, Task } from "./tasks.ts";
import { about } from "./worker.ts";
import type { World } from "./world.ts";

type FutureStatus = "pending" | "finished" | "lost" | "error" | "cancelled";

export interface Future {
  readonly task: Task;
  status: FutureStatus;
  exception: Value;
  /** The graph that would have told the scheduler that it is wanted was lost. */
  adrift?: boolean;
}

export interface ClientParts {
  readonly world: World;
  readonly network: Network;
  readonly monitor: Monitor;
  readonly scheduler: SimScheduler;
}

export class SimClient {
  readonly name: string;
  /** By key id: what the client wants, until it releases it. */
  readonly futures: Map<string, Future> = new Map();
  left = false;
  /** What is being scattered: it may be lost again before the client hears that it is done. */
  readonly #scattering: Map<string, Future> = new Map();
  readonly #parts: ClientParts;
  readonly #end: End;

  constructor(name: string, parts: ClientParts) {
    this.name = name;
    this.#parts = parts;
    const [mine, theirs] = parts.network.connect(name, "scheduler");
    this.#end = mine;
    mine.listen(
      (batch) => {
        for (const message of batch) this.#receive(message);
      },
      () => {
        this.left = true;
      },
    );
    parts.scheduler.acceptClient(name, theirs);
  }

  #send(message: Message): void {
    this.#parts.world.note(this.name, `sends ${String(message["op"])}`, about(message));
    this.#end.send(message);
  }

  #want(task: Task): void {
    this.futures.set(task.id, { task, status: "pending", exception: null });
  }

  /** The tasks of futures that are there, or may come. */
  known(): Task[] {
    const tasks: Task[] = [];
    for (const { task, status } of this.futures.values()) if (status !== "cancelled") tasks.push(task);
    return tasks;
  }

  withStatus(status: FutureStatus): Future[] {
    return [...this.futures.values()].filter((future) => future.status === status);
  }

  submit(submission: Submission): void {
    for (const task of submission.wanted) {
      // Client._graph_to_futures makes a future only where there is none.
      const future = this.futures.get(task.id);
      if (future === undefined) this.#want(task);
      else future.adrift = false;
    }
    this.#send({
      op: "update-graph",
      submission: submission.name,
      keys: submission.wanted.map((task) => task.key),
    });
  }

  release(tasks: readonly Task[]): void {
    // Not what is being scattered again: the release might come after it, and the client would not know.
    const released = tasks.filter((task) => !this.#scattering.has(task.id) && this.futures.delete(task.id));
    // What is made of data that nobody keeps cannot be made again.
    for (const task of released) if (task.runSpec === null) this.#parts.monitor.excused.add(task.id);
    const keys = released.map((task) => task.key);
    if (keys.length > 0) this.#send({ op: "client-releases-keys", keys, client: this.name });
  }

  /** Wants what another client has; it may be gone by then. */
  desire(task: Task): void {
    if (this.futures.has(task.id)) return;
    this.#parts.monitor.excused.add(task.id);
    this.#want(task);
    this.#send({ op: "client-desires-keys", keys: [task.key], client: this.name });
    this.#send({ op: "report-key", key: task.key });
  }

  fireAndForget(task: Task): void {
    this.#send({ op: "client-desires-keys", keys: [task.key], client: "fire-and-forget" });
    this.release([task]);
  }

  cancel(tasks: readonly Task[], force: boolean): void {
    const keys: Value[] = [];
    for (const task of tasks) {
      const future = this.futures.get(task.id);
      if (future === undefined) continue;
      future.status = "cancelled";
      this.#parts.monitor.excused.add(task.id);
      keys.push(task.key);
    }
    if (keys.length > 0) this.#send({ op: "cancel-keys", keys, force, reason: "cancelled", msg: null });
  }

  retry(tasks: readonly Task[]): void {
    const keys = tasks.map((task) => task.key);
    this.#parts.network.pass(() => this.#parts.scheduler.retry(keys, this.name));
  }

  /** The future is there only once the data is. */
  scatter(task: Task): void {
    if (this.#scattering.has(task.id)) return;
    const { network, scheduler, world } = this.#parts;
    this.#scattering.set(task.id, { task, status: "finished", exception: null });
    network.pass(() =>
      scheduler.scatter(task.key, task.value, this.name, (done) =>
        network.pass(() => {
          world.note(this.name, done ? "has scattered" : "could not scatter", task.id);
          const future = this.#scattering.get(task.id);
          this.#scattering.delete(task.id);
          if (done && !this.left && future !== undefined && !this.futures.has(task.id))
            this.futures.set(task.id, future);
        }),
      ),
    );
  }

  /** Client.gather: what cannot be had is asked about again. */
  gather(tasks: readonly Task[], done: (missing: readonly Task[]) => void = () => undefined): void {
    const { network, scheduler, monitor } = this.#parts;
    const keys: Key[] = tasks.map((task) => task.key);
    network.pass(() =>
      scheduler.gather(keys, (values) =>
        network.pass(() => {
          if (this.left) return;
          for (const [id, value] of values) monitor.checkValue(id, value, `for ${this.name}`);
          const missing = tasks.filter((task) => !values.has(task.id) && this.futures.has(task.id));
          for (const task of missing) {
            const future = this.futures.get(task.id) as Future;
            if (future.status === "finished") future.status = "lost";
            this.#send({ op: "report-key", key: task.key });
          }
          done(missing);
        }),
      ),
    );
  }

  heartbeat(): void {
    this.#send({ op: "heartbeat-client" });
  }

  /** @param gracefully says goodbye first. */
  leave(gracefully: boolean): void {
    if (this.left) return;
    this.left = true;
    this.#parts.world.note(this.name, gracefully ? "leaves" : "is killed");
    this.futures.clear();
    if (!gracefully) this.#end.abort();
    else {
      this.#end.send({ op: "close-client" }, { op: "close-stream" });
      this.#end.close();
    }
  }

  #receive(message: Message): void {
    const op = String(message["op"]);
    this.#parts.world.note(this.name, op, about(message));
    switch (op) {
      case "key-in-memory":
        this.#set(message["key"], "finished");
        break;
      case "lost-data":
        this.#set(message["key"], "lost");
        break;
      case "task-retried":
        this.#set(message["key"], "pending");
        break;
      case "task-erred":
        this.#set(message["key"], "error", message["exception"]);
        break;
      case "cancelled-keys":
        for (const key of message["keys"] as Iterable<Value>) this.#set(key, "cancelled");
        break;
      case "restart":
        for (const future of this.futures.values()) future.status = "cancelled";
        break;
      default:
    }
  }

  #set(key: Value | undefined, status: FutureStatus, exception: Value = null): void {
    const id = keyId(key);
    for (const future of [this.futures.get(id), this.#scattering.get(id)]) {
      if (future === undefined) continue;
      future.status = status;
      future.exception = exception;
      if (typeof exception === "string" && exception.startsWith("graph-host:")) future.adrift = true;
    }
  }
}
