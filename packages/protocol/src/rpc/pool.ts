/**
 * The caller's side of RPC (wire-protocol.md §8; distributed.core.ConnectionPool): a comm carries one request at a time,
 * so concurrent calls to one address take several comms, and idle ones wait for the next call.
 */
import { normalizeAddress } from "../address.ts";
import type { Comm } from "../comm/comm.ts";
import { connect, type ConnectSettings } from "../comm/connect.ts";
import { CommClosedError, TimeoutError } from "../errors.ts";
import { isMessage, type Message, type Value } from "../msgpack/value.ts";
import { RemoteError } from "./rpc-error.ts";

export interface ConnectionPoolOptions {
  /** Open comms at most, idle ones included (default 512). */
  readonly limit?: number;
  readonly connect?: ConnectSettings;
}

export interface CallOptions {
  /** For the whole call, connecting included; without it only connecting is limited. */
  readonly timeoutMs?: number | undefined;
  /** Serializers that this side reads, sent as `serializers`. */
  readonly serializers?: readonly string[] | undefined;
  /** The call is given up, and its comm closed, when aborted. */
  readonly signal?: AbortSignal | undefined;
}

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  readonly address: string;
}

export class ConnectionPool {
  readonly limit: number;
  readonly #connect: ConnectSettings;
  readonly #idle: Map<string, Comm[]> = new Map();
  readonly #taken: Map<string, Set<Comm>> = new Map();
  readonly #connecting: Map<string, Set<AbortController>> = new Map();
  /** Calls that wait for the number of comms to sink below the limit. */
  #waiters: Waiter[] = [];
  #open = 0;
  #active = 0;
  #closed = false;

  constructor(options: ConnectionPoolOptions = {}) {
    this.limit = options.limit ?? 512;
    this.#connect = options.connect ?? {};
  }

  /** Comms that are open or being opened. */
  get open(): number {
    return this.#open;
  }
  /** Comms in use. */
  get active(): number {
    return this.#active;
  }

  /**
   * One request and its reply. A call that fails in any way on its way closes its comm.
   *
   * @param fields the request's fields; `undefined` ones are not sent. Stock peers refuse fields they do not know.
   * @throws {RemoteError} where the peer's handler failed (`uncaught-error`); `status: "error"` is a reply.
   * @throws {CommClosedError} {@link TimeoutError} and what {@link connect} throws.
   */
  async call(address: string, op: string, fields: Message = {}, options: CallOptions = {}): Promise<Value> {
    const target = normalizeAddress(address, this.#connect.defaultScheme);
    const limits = limitCall(op, target, options);
    let comm: Comm | undefined;
    const giveUp = (): void => comm?.abort(limits.signal?.reason as Error);
    let reusable = false;
    try {
      comm = await this.take(target, limits);
      limits.signal?.addEventListener("abort", giveUp);
      const reply = await sendReceive(comm, op, fields, options.serializers);
      reusable = fields["close"] !== true;
      return reply;
    } catch (error) {
      // The peer answered: its comm is as good as before.
      reusable = error instanceof RemoteError && fields["close"] !== true;
      if (!reusable) limits.signal?.throwIfAborted();
      throw error;
    } finally {
      limits.signal?.removeEventListener("abort", giveUp);
      limits.clear();
      if (comm !== undefined) this.release(target, comm, reusable);
    }
  }

  /**
   * A comm to the address for the caller alone: an idle one, or a new one. It counts against the limit until it is
   * given back with {@link release} or closed.
   */
  async take(address: string, options: Pick<CallOptions, "signal"> = {}): Promise<Comm> {
    const target = normalizeAddress(address, this.#connect.defaultScheme);
    for (;;) {
      if (this.#closed) throw new CommClosedError("the connection pool is closed");
      options.signal?.throwIfAborted();
      const idle = this.#takeIdle(target);
      if (idle !== undefined) return this.#occupy(target, idle);
      if (this.#open < this.limit) break;
      this.#collect();
      if (this.#open < this.limit) break;
      await this.#room(target, options.signal);
    }
    return this.#openComm(target, options.signal);
  }

  /** Gives a comm back; `reusable` says that it stands between two requests. */
  release(address: string, comm: Comm, reusable = true): void {
    const target = normalizeAddress(address, this.#connect.defaultScheme);
    const taken = this.#taken.get(target);
    const known = taken?.delete(comm) === true;
    if (taken?.size === 0) this.#taken.delete(target);
    if (known) this.#active--;
    if (!known || !reusable || comm.closed || this.#closed) {
      if (!comm.closed) void comm.close();
      return;
    }
    const idle = this.#idle.get(target);
    if (idle === undefined) this.#idle.set(target, [comm]);
    else idle.push(comm);
    if (this.#waiters.length > 0) this.#collect();
  }

  /** Closes all comms to an address and gives up connecting to it. */
  remove(address: string, reason = "Address removed."): void {
    const target = normalizeAddress(address, this.#connect.defaultScheme);
    const error = new CommClosedError(reason);
    for (const comm of this.#idle.get(target) ?? []) void comm.close();
    this.#idle.delete(target);
    for (const comm of this.#taken.get(target) ?? []) comm.abort(error);
    for (const controller of this.#connecting.get(target) ?? []) controller.abort(error);
    const waiters = this.#waiters;
    this.#waiters = waiters.filter((w) => w.address !== target);
    for (const waiter of waiters) if (waiter.address === target) waiter.reject(error);
  }

  /** Closes all comms; calls under way fail. */
  async close(): Promise<void> {
    this.#closed = true;
    const error = new CommClosedError("ConnectionPool closing.");
    const closing: Promise<void>[] = [];
    for (const comms of this.#idle.values()) for (const comm of comms) closing.push(comm.close());
    this.#idle.clear();
    for (const comms of this.#taken.values()) for (const comm of comms) comm.abort(error);
    for (const controllers of this.#connecting.values()) for (const c of controllers) c.abort(error);
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(error);
    await Promise.all(closing);
  }

  #takeIdle(target: string): Comm | undefined {
    const idle = this.#idle.get(target);
    if (idle === undefined) return undefined;
    for (;;) {
      const comm = idle.pop();
      if (idle.length === 0) this.#idle.delete(target);
      if (comm === undefined) return undefined;
      // An idle comm has no business to say anything: what it says would be taken for the next reply.
      if (comm.waiting > 0) comm.abort();
      if (!comm.closed) return comm;
    }
  }

  #occupy(target: string, comm: Comm): Comm {
    const taken = this.#taken.get(target);
    if (taken === undefined) this.#taken.set(target, new Set([comm]));
    else taken.add(comm);
    this.#active++;
    return comm;
  }

  /** Resolves when a place is free, or may be. */
  #room(address: string, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const settled = <T>(settle: (value: T) => void) => {
        return (value: T): void => {
          signal?.removeEventListener("abort", onAbort);
          settle(value);
        };
      };
      const waiter: Waiter = { address, resolve: settled(resolve), reject: settled(reject) };
      const onAbort = (): void => {
        this.#waiters = this.#waiters.filter((w) => w !== waiter);
        waiter.reject(signal?.reason as Error);
      };
      signal?.addEventListener("abort", onAbort);
      this.#waiters.push(waiter);
    });
  }

  async #openComm(target: string, signal: AbortSignal | undefined): Promise<Comm> {
    this.#open++;
    const controller = new AbortController();
    const forward = (): void => controller.abort(signal?.reason);
    signal?.addEventListener("abort", forward);
    const connecting = this.#connecting.get(target) ?? new Set();
    this.#connecting.set(target, connecting.add(controller));
    try {
      const comm = await connect(target, { ...this.#connect, signal: controller.signal });
      comm.onClose(() => this.#onCommClosed(target, comm));
      return this.#occupy(target, comm);
    } catch (error) {
      this.#open--;
      this.#wake();
      throw error;
    } finally {
      signal?.removeEventListener("abort", forward);
      connecting.delete(controller);
      if (connecting.size === 0 && this.#connecting.get(target) === connecting) this.#connecting.delete(target);
    }
  }

  #onCommClosed(target: string, comm: Comm): void {
    this.#open--;
    const taken = this.#taken.get(target);
    if (taken?.delete(comm) === true) {
      this.#active--;
      if (taken.size === 0) this.#taken.delete(target);
    }
    const idle = this.#idle.get(target);
    const at = idle?.indexOf(comm) ?? -1;
    if (idle !== undefined && at >= 0) {
      idle.splice(at, 1);
      if (idle.length === 0) this.#idle.delete(target);
    }
    this.#wake();
  }

  /** The pool is full: idle comms make room. */
  #collect(): void {
    for (const comms of this.#idle.values()) for (const comm of comms) void comm.close();
    this.#idle.clear();
  }

  #wake(): void {
    if (this.#open < this.limit) this.#waiters.shift()?.resolve();
  }
}

/** Writes one request and reads its reply (distributed.core.send_recv). */
async function sendReceive(
  comm: Comm,
  op: string,
  fields: Message,
  serializers: readonly string[] | undefined,
): Promise<Value> {
  comm.send({ ...fields, op, reply: true, serializers });
  const reply = await comm.receive();
  if (isMessage(reply) && reply["status"] === "uncaught-error") throw new RemoteError(reply);
  return reply;
}

interface CallLimits {
  /** Aborted when the time is up, or the caller gives up; with the error to throw. */
  readonly signal: AbortSignal | undefined;
  clear(): void;
}

function limitCall(op: string, target: string, { timeoutMs, signal }: CallOptions): CallLimits {
  if (timeoutMs === undefined || !Number.isFinite(timeoutMs)) return { signal, clear: () => undefined };
  const controller = new AbortController();
  const timer = setTimeout(() => {
    controller.abort(new TimeoutError(`${op} at ${target} did not answer within ${timeoutMs / 1000} s`));
  }, timeoutMs);
  const forward = (): void => controller.abort(signal?.reason);
  signal?.addEventListener("abort", forward);
  return {
    signal: controller.signal,
    clear: () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", forward);
    },
  };
}
