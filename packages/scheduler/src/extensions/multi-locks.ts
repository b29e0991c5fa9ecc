/**
 * `distributed.MultiLock` (distributed.multi_lock.MultiLockExtension). Each lock has a queue of users; who stands first
 * in it holds it; who holds as many as it asked for has acquired.
 */
import { type Comm, keyId, type Message, type RpcContext, type Value } from "@dask-ts/protocol";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";
import { listField, optionalNumber, stringField } from "../server/fields.ts";
import { deadlineOf, Waiters } from "./waiters.ts";

interface LockRequest {
  readonly locks: Set<string>;
  /** Locks still to get. */
  left: number;
  readonly granted: Waiters;
}

export class MultiLocks implements SchedulerExtension {
  readonly name = "multi_locks";
  /** Lock → users, the holder first. */
  readonly #locks: Map<string, string[]> = new Map();
  readonly #requests: Map<string, LockRequest> = new Map();
  #context!: SchedulerContext;

  start(context: SchedulerContext): void {
    this.#context = context;
  }

  readonly rpcHandlers = {
    multi_lock_acquire: (fields: Message, { comm }: RpcContext): Promise<Value> => this.#acquire(fields, comm),
    multi_lock_release: (fields: Message): Value => {
      this.#withdraw(stringField(fields, "id"));
      return null;
    },
  };

  async #acquire(fields: Message, comm: Comm): Promise<Value> {
    const id = stringField(fields, "id");
    const names = listField(fields, "locks").map((name) => keyId(name));
    const wanted = optionalNumber(fields, "num_locks") ?? names.length;
    if (this.#requests.has(id)) throw new TypeError(`MultiLock ${id} has a request under way`);
    if (wanted < 1 || wanted > names.length) throw new RangeError(`num_locks must be from 1 to ${names.length}`);
    const request: LockRequest = { locks: new Set(names), left: wanted, granted: new Waiters(this.#context) };
    this.#requests.set(id, request);
    if (this.#enqueue(id, request, names)) return true;
    const deadline = deadlineOf(this.#context, optionalNumber(fields, "timeout"));
    try {
      while (request.left > 0) {
        if ((await request.granted.wait(comm, deadline)) === "timeout") {
          this.#withdraw(id);
          return false;
        }
      }
    } catch (error) {
      this.#withdraw(id);
      throw error;
    }
    return true;
  }

  /** Stands in line for each lock, the least wanted first. True where enough of them were free. */
  #enqueue(id: string, request: LockRequest, names: readonly string[]): boolean {
    const length = (name: string): number => this.#locks.get(name)?.length ?? 0;
    const sorted = [...names].sort((a, b) => length(a) - length(b));
    for (const [i, name] of sorted.entries()) {
      const users = this.#locks.get(name);
      if (users !== undefined) {
        users.push(id);
        continue;
      }
      this.#locks.set(name, [id]);
      if (--request.left === 0) {
        for (const rest of sorted.slice(i + 1)) request.locks.delete(rest);
        return true;
      }
    }
    return false;
  }

  /** Leaves every line; who stands first now may have all that it needs. */
  #withdraw(id: string): void {
    const request = this.#requests.get(id);
    if (request === undefined) throw pythonError("KeyError", id);
    this.#requests.delete(id);
    for (const name of request.locks) {
      const users = this.#locks.get(name) ?? [];
      const wasFirst = users[0] === id;
      const at = users.indexOf(id);
      if (at >= 0) users.splice(at, 1);
      const first = users[0];
      if (first === undefined) this.#locks.delete(name);
      else if (wasFirst) this.#grant(first);
    }
  }

  #grant(id: string): void {
    const request = this.#requests.get(id);
    if (request === undefined) return;
    request.left = Math.max(0, request.left - 1);
    if (request.left === 0) request.granted.wake();
  }
}
