/** An executor without Python: values are what was put, a task's value is its run_spec. */
import { type Key, keyId, type Message, type Value } from "@dask-ts/protocol";
import type { ExecuteRequest, Executor, ExecutorEvents, PutOutcome } from "../../../src/executor/executor.ts";
import { ExecutorError } from "../../../src/executor/python-executor.ts";
import type { ExecutorSpec, StartExecutor } from "../../../src/server/options.ts";

const TYPE = Buffer.from("a type");

export class FakeExecutor implements Executor {
  readonly pid: number = process.pid;
  readonly versions: Value = new Map<Value, Value>([["packages", new Map()]]);
  readonly metrics: ReadonlyMap<string, number> = new Map();
  readonly store: Map<string, Value> = new Map();
  readonly calls: { op: string; fields: Message }[] = [];
  readonly executed: ExecuteRequest[] = [];
  readonly spec: ExecutorSpec;
  /** Values that cannot be opened. */
  readonly broken: Set<string> = new Set();
  /** While it is set, `get` waits for it. */
  gate: Promise<void> | undefined;
  closed = false;
  readonly #events: ExecutorEvents;

  constructor(spec: ExecutorSpec, events: ExecutorEvents) {
    this.spec = spec;
    this.#events = events;
  }

  execute(requests: readonly ExecuteRequest[]): void {
    for (const request of requests) {
      this.executed.push(request);
      this.store.set(keyId(request.key), request.runSpec);
      queueMicrotask(() => {
        const now = Date.now() / 1000;
        this.#events.outcome({
          kind: "success",
          key: request.key,
          runId: request.runId,
          nbytes: 8,
          type: TYPE,
          typename: "int",
          start: now,
          stop: now,
          thread: 1,
          startstops: [],
          metadata: null,
          meter: null,
        });
      });
    }
  }

  cancel(): void {}

  async recall(): Promise<readonly Key[]> {
    return [];
  }

  async put(entries: readonly { readonly key: Key; readonly data: Value }[]): Promise<PutOutcome[]> {
    return entries.map(({ key, data }) => {
      const id = keyId(key);
      if (this.broken.has(id)) return { ok: false, error: { exception_text: "ValueError('broken')" } };
      this.store.set(id, data);
      return { ok: true, nbytes: 8, type: TYPE, typename: "int" };
    });
  }

  async get(keys: readonly Key[]): Promise<{ key: Key; data: Value }[]> {
    await this.gate;
    if (keys.some((key) => this.broken.has(keyId(key)))) {
      throw new ExecutorError("The executor failed at get", {
        status: "error",
        exception_text: "ValueError('broken')",
      });
    }
    return keys.flatMap((key) => {
      const data = this.store.get(keyId(key));
      return data === undefined ? [] : [{ key, data }];
    });
  }

  drop(keys: readonly Key[]): void {
    for (const key of keys) this.store.delete(keyId(key));
  }

  async call(op: string, fields: Message): Promise<Value> {
    this.calls.push({ op, fields });
    return op.startsWith("heartbeat-") ? new Map() : { status: "OK" };
  }

  async close(): Promise<void> {
    this.closed = true;
  }

  /** As a segfault in a task ends the child. */
  die(): void {
    this.#events.exit(null, "SIGSEGV");
  }
}

/** Makes fake executors and keeps them. */
export function fakeExecutors(): { start: StartExecutor; made: FakeExecutor[] } {
  const made: FakeExecutor[] = [];
  return {
    made,
    start: async (spec, events) => {
      const executor = new FakeExecutor(spec, events);
      made.push(executor);
      return executor;
    },
  };
}
