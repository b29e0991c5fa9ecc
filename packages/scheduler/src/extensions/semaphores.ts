/** `distributed.Semaphore`, and `Lock`, which is one with a single lease (distributed.semaphore.SemaphoreExtension). */
import { type Comm, keyId, type Message, parseTimedelta, type RpcContext, type Value } from "@dask-ts/protocol";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";
import { listField, optionalNumber, stringField } from "../server/fields.ts";
import { deadlineOf, Waiters } from "./waiters.ts";

interface SemaphoreState {
  readonly label: string;
  readonly maxLeases: number;
  /** Seconds without a refresh after which a lease is lost; null for never. */
  readonly leaseTimeout: number | null;
  /** Lease id → when it was last seen, seconds. */
  readonly leases: Map<string, number>;
  readonly waiters: Waiters;
}

/** Figures for `/metrics`, by semaphore name. */
export interface SemaphoreMetrics {
  acquireTotal: number;
  releaseTotal: number;
  /** Seconds. */
  averagePendingLeaseTime: number;
  pending: number;
}

export class Semaphores implements SchedulerExtension {
  readonly name = "semaphores";
  readonly metrics: Map<string, SemaphoreMetrics> = new Map();
  readonly #semaphores: Map<string, SemaphoreState> = new Map();
  #context!: SchedulerContext;

  start(context: SchedulerContext): void {
    this.#context = context;
    const interval = context.config.getMs("distributed.scheduler.locks.lease-validation-interval") ?? 10_000;
    context.every(interval, () => this.#dropTimedOut());
  }

  readonly rpcHandlers = {
    semaphore_register: (fields: Message): Value => this.#register(fields),
    semaphore_acquire: (fields: Message, { comm }: RpcContext): Promise<Value> => this.#acquire(fields, comm),
    semaphore_release: (fields: Message): Value => this.#release(fields),
    semaphore_refresh_leases: (fields: Message): Value => this.#refresh(fields),
    semaphore_value: (fields: Message): Value => this.#semaphores.get(nameOf(fields))?.leases.size ?? 0,
    semaphore_close: (fields: Message): Value => this.#close(nameOf(fields)),
  };

  /** Names with their leases in use and at most, for `/metrics`. */
  *values(): Generator<{ name: string; leases: number; maxLeases: number }> {
    for (const { label, leases, maxLeases } of this.#semaphores.values())
      yield { name: label, leases: leases.size, maxLeases };
  }

  #register(fields: Message): Value {
    const name = nameOf(fields);
    const maxLeases = optionalNumber(fields, "max_leases");
    if (maxLeases === null || !Number.isInteger(maxLeases)) throw new TypeError("'max_leases' must be an int");
    const known = this.#semaphores.get(name);
    if (known !== undefined) {
      if (known.maxLeases === maxLeases) return null;
      throw pythonError("ValueError", `Inconsistent max leases: ${maxLeases}, expected: ${known.maxLeases}`);
    }
    const timeout = fields["lease_timeout"];
    this.#semaphores.set(name, {
      label: labelOf(fields),
      maxLeases,
      leaseTimeout: typeof timeout === "string" ? parseTimedelta(timeout) : optionalNumber(fields, "lease_timeout"),
      leases: new Map(),
      waiters: new Waiters(this.#context),
    });
    return null;
  }

  async #acquire(fields: Message, comm: Comm): Promise<Value> {
    const name = nameOf(fields);
    const lease = stringField(fields, "lease_id");
    const start = this.#context.now();
    const deadline = deadlineOf(this.#context, optionalNumber(fields, "timeout"));
    const metrics = this.#metricsOf(labelOf(fields));
    metrics.pending++;
    try {
      for (;;) {
        // Looked up again after each wait: it may have been closed meanwhile.
        const semaphore = this.#semaphores.get(name);
        if (semaphore === undefined) {
          throw pythonError("RuntimeError", `Semaphore or Lock \`${labelOf(fields)}\` not known.`);
        }
        // A lease that is held already is given again: requests may be repeated.
        if (semaphore.leases.has(lease) || semaphore.leases.size < semaphore.maxLeases) {
          semaphore.leases.set(lease, this.#context.now());
          metrics.acquireTotal++;
          // A repeated request has taken no lease of those that were free.
          if (semaphore.leases.size < semaphore.maxLeases) semaphore.waiters.wakeOne();
          return true;
        }
        if ((await semaphore.waiters.wait(comm, deadline)) === "timeout") return false;
      }
    } finally {
      metrics.pending--;
      metrics.averagePendingLeaseTime = (metrics.averagePendingLeaseTime + this.#context.now() - start) / 2;
    }
  }

  #release(fields: Message): Value {
    const semaphore = this.#semaphores.get(nameOf(fields));
    if (semaphore === undefined) {
      this.#context.log.warning(`Tried to release Lock or Semaphore \`${labelOf(fields)}\` but it is not known.`);
      return null;
    }
    const lease = stringField(fields, "lease_id");
    if (semaphore.leases.has(lease)) this.#drop(semaphore, lease);
    else {
      this.#context.log.warning(
        `Tried to release Lock or Semaphore but it was already released: name='${semaphore.label}', ` +
          `lease_id='${lease}'. This can happen if the Lock or Semaphore timed out before.`,
      );
    }
    return null;
  }

  #drop(semaphore: SemaphoreState, lease: string): void {
    semaphore.leases.delete(lease);
    this.#metricsOf(semaphore.label).releaseTotal++;
    semaphore.waiters.wakeOne();
  }

  #refresh(fields: Message): Value {
    const semaphore = this.#semaphores.get(nameOf(fields));
    if (semaphore === undefined) return null;
    for (const id of listField(fields, "lease_ids")) {
      const lease = String(id);
      if (!semaphore.leases.has(lease)) {
        this.#context.log.write(
          "CRITICAL",
          `Refreshing an unknown lease ID ${lease} for ${semaphore.label}. This might be due to leases timing out and ` +
            "may cause overbooking of the semaphore! This is often caused by long-running GIL-holding in the task " +
            "which acquired the lease.",
        );
      }
      semaphore.leases.set(lease, this.#context.now());
    }
    return null;
  }

  #close(name: string): Value {
    const semaphore = this.#semaphores.get(name);
    if (semaphore === undefined) return null;
    this.#semaphores.delete(name);
    if (semaphore.leases.size > 0) {
      const held = [...semaphore.leases.keys()].sort().join("', '");
      this.#context.log.warning(`Closing semaphore ${semaphore.label} but there remain unreleased leases ['${held}']`);
    }
    if (semaphore.waiters.size > 0) {
      this.#context.log.warning(`Closing semaphore ${semaphore.label} but there remain pending leases`);
    }
    this.metrics.delete(semaphore.label);
    semaphore.waiters.wake();
    return null;
  }

  #dropTimedOut(): void {
    const now = this.#context.now();
    for (const semaphore of this.#semaphores.values()) {
      // As in Dask, 0 is for never too.
      if (!semaphore.leaseTimeout) continue;
      for (const [lease, seen] of semaphore.leases) {
        if (now - seen > semaphore.leaseTimeout) this.#drop(semaphore, lease);
      }
    }
  }

  #metricsOf(label: string): SemaphoreMetrics {
    let metrics = this.metrics.get(label);
    if (metrics === undefined) {
      metrics = { acquireTotal: 0, releaseTotal: 0, averagePendingLeaseTime: 0, pending: 0 };
      this.metrics.set(label, metrics);
    }
    return metrics;
  }
}

/** Names are mostly str, but any msgpack value that can be a key will do. */
function nameOf(fields: Message): string {
  return keyId(fields["name"]);
}

function labelOf(fields: Message): string {
  const name = fields["name"];
  return typeof name === "string" ? name : nameOf(fields);
}
