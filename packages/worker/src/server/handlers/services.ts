/** What the op handlers of a worker may use of it. */
import type { Comm, Key, Logger, LogRing, Message, Value } from "@dask-ts/protocol";
import { asNumber, isKey, parseTimedelta } from "@dask-ts/protocol";
import type { Digests } from "../digests.ts";
import type { SystemMonitor } from "../monitor.ts";
import type { Session } from "../session.ts";
import type { WorkerSettings } from "../settings.ts";
import type { TransferMetrics } from "../transfer-metrics.ts";

export interface WorkerServices {
  /** `Worker-<uuid>` */
  readonly id: string;
  readonly address: string;
  readonly schedulerAddress: string;
  readonly status: string;
  readonly nthreads: number;
  readonly memoryLimit: number | null;
  readonly localDirectory: string;
  readonly settings: WorkerSettings;
  readonly log: Logger;
  readonly logs: LogRing;
  readonly digests: Digests;
  readonly transfers: TransferMetrics;
  readonly connectionsIncoming: number | false;
  /** The figures of the current executor's process. */
  readonly monitor: SystemMonitor;
  /** Comms on which a `get_data` is under way: they break where the executor does. */
  readonly openTransfers: Set<Comm>;
  /** Names of the plugins that were added. */
  readonly plugins: Set<string>;
  /**
   * The session at the scheduler.
   *
   * @throws {WorkerUnavailableError} while an executor starts, or after the worker was closed.
   */
  session(): Session;
  /** Seconds since the epoch. */
  now(): number;
  callScheduler(op: string, fields: Message): Promise<Value>;
  callPeer(address: string, op: string, fields: Message): Promise<Value>;
  close(options: { reason: string; nanny?: boolean; timeoutMs?: number }): Promise<void>;
}

/** There is no executor to ask at the moment. */
export class WorkerUnavailableError extends Error {
  readonly code = "DASK_WORKER_UNAVAILABLE";
  override readonly name = "WorkerUnavailableError";
}

/**
 * `keys` of a request: an array or a set.
 *
 * @throws {TypeError} where it is neither, or holds what is no key.
 */
export function readKeys(value: Value | undefined): Key[] {
  if (!Array.isArray(value) && !(value instanceof Set)) throw new TypeError("keys is a list or a set of task keys");
  const keys = [...(value as Iterable<Value>)];
  if (!keys.every(isKey)) throw new TypeError("keys holds something that is no task key");
  return keys;
}

/** Seconds of a field that is a number or a text such as `5s`. */
export function secondsOf(value: Value | undefined, fallback: number): number {
  return typeof value === "string" ? parseTimedelta(value) : asNumber(value, fallback);
}

/** The stimulus id of a request, or one made here. */
export function stimulusOf(fields: Message, cause: string, now: number): string {
  const given = fields["stimulus_id"];
  return typeof given === "string" ? given : `${cause}-${now}`;
}
