/** Registering with the scheduler (Worker._register_with_scheduler; wire-protocol.md §13.2, §14.1). */
import {
  asNumber,
  type Comm,
  CommClosedError,
  float,
  isMessage,
  type Logger,
  type Message,
  type Value,
} from "@dask-ts/protocol";

/** What `register-worker` says about this worker; the rest of the message is time. */
export interface Identity {
  readonly address: string;
  readonly status: string;
  readonly nthreads: number;
  readonly name: Value;
  readonly resources: ReadonlyMap<string, number>;
  readonly memoryLimit: number | null;
  readonly localDirectory: string;
  readonly services: ReadonlyMap<string, number>;
  readonly nanny: string | null;
  readonly pid: number;
  readonly versions: Value;
  readonly metrics: Value;
  /** Startup information. */
  readonly extra: Value;
  readonly serverId: string;
}

export interface Registered {
  /** The comm, from now on the stream in both directions. */
  readonly comm: Comm;
  /** Seconds to add to this clock to get the scheduler's. */
  readonly schedulerDelay: number;
  /** Seconds the round trip took. */
  readonly latencyS: number;
  /** Pickled worker plugins by name. */
  readonly plugins: ReadonlyMap<string, Uint8Array>;
  readonly heartbeatIntervalS: number;
}

/** The scheduler answered, and said no. */
class RegistrationError extends Error {
  readonly code = "DASK_REGISTRATION";
  override readonly name = "RegistrationError";
}

/** Every field that a stock scheduler asks for, and no other: it refuses what it does not know. */
function registerMessage(identity: Identity, now: number): Message {
  const resources = new Map<Value, Value>();
  for (const [name, quantity] of identity.resources) resources.set(name, float(quantity));
  return {
    op: "register-worker",
    reply: false,
    address: identity.address,
    status: identity.status,
    nthreads: identity.nthreads,
    name: identity.name,
    now: float(now),
    resources,
    memory_limit: identity.memoryLimit,
    local_directory: identity.localDirectory,
    services: new Map<Value, Value>(identity.services),
    nanny: identity.nanny,
    pid: identity.pid,
    versions: identity.versions,
    metrics: identity.metrics,
    extra: identity.extra,
    stimulus_id: `worker-connect-${now}`,
    server_id: identity.serverId,
  };
}

export interface RegistrationOptions {
  readonly scheduler: string;
  /** Opens a comm to the scheduler; rejects with an error where nobody answers. */
  readonly connect: () => Promise<Comm>;
  /** Made anew for each attempt: metrics age. */
  readonly identity: () => Identity;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Milliseconds to wait for the reply; a scheduler that refused the message in its handler never answers. */
  readonly replyTimeoutMs: number;
  readonly retryDelayMs: number;
  /** Seconds since the epoch. */
  readonly now: () => number;
}

/** How often "Waiting to connect to" is said again. */
const SAY_WAITING_EVERY_S = 30;

/**
 * Connects and registers, again and again while nobody answers.
 *
 * @throws {RegistrationError} where the scheduler refuses ("name taken, X").
 * @throws what the signal was aborted with.
 */
export async function register(options: RegistrationOptions): Promise<Registered> {
  const started = options.now();
  let said = started;
  for (;;) {
    options.signal.throwIfAborted();
    let comm: Comm | undefined;
    try {
      comm = await abortable(options.connect(), options.signal, (late) => late.abort());
      const sent = options.now();
      comm.send(registerMessage(options.identity(), sent));
      const reply = await receiveReply(comm, options);
      return { comm, ...readReply(reply, sent, options.now(), started, options.log) };
    } catch (error) {
      comm?.abort();
      options.signal.throwIfAborted();
      if (error instanceof RegistrationError) {
        options.log.error(`Unable to connect to scheduler: ${error.message}`);
        throw error;
      }
      const now = options.now();
      if (now - said >= SAY_WAITING_EVERY_S) {
        said = now;
        options.log.info(`Waiting to connect to: ${options.scheduler.padStart(26)}`);
      }
      await delay(options.retryDelayMs, options.signal);
    }
  }
}

async function receiveReply(comm: Comm, options: RegistrationOptions): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const seconds = options.replyTimeoutMs / 1000;
      reject(new CommClosedError(`${options.scheduler} did not answer register-worker within ${seconds} s`));
    }, options.replyTimeoutMs);
  });
  try {
    return await abortable(Promise.race([comm.receive(), late]), options.signal);
  } finally {
    clearTimeout(timer);
  }
}

function readReply(
  reply: Value,
  sent: number,
  received: number,
  started: number,
  log: Logger,
): Omit<Registered, "comm"> {
  if (!isMessage(reply)) throw new RegistrationError("the scheduler answered register-worker with no map");
  const { warning } = reply;
  if (typeof warning === "string" && warning !== "") log.warning(warning);
  if (reply["status"] !== "OK") {
    const text = reply["message"] ?? reply["exception_text"];
    throw new RegistrationError(typeof text === "string" ? text : "unexpected response from register-worker");
  }
  const plugins = new Map<string, Uint8Array>();
  const delivered = reply["worker-plugins"];
  if (delivered instanceof Map) {
    for (const [name, plugin] of delivered) {
      if (typeof name === "string" && plugin instanceof Uint8Array) plugins.set(name, plugin);
    }
  }
  return {
    schedulerDelay: asNumber(reply["time"], (sent + received) / 2) - (sent + received) / 2,
    latencyS: received - started,
    plugins,
    heartbeatIntervalS: asNumber(reply["heartbeat-interval"], 1),
  };
}

/**
 * A promise that fails as soon as the signal is aborted.
 *
 * @param onLate gets what the promise comes to after that, to close it.
 */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal, onLate?: (value: T) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    promise.then(
      (value) => {
        signal.removeEventListener("abort", onAbort);
        if (signal.aborted) onLate?.(value);
        else resolve(value);
      },
      (error: unknown) => {
        signal.removeEventListener("abort", onAbort);
        reject(error);
      },
    );
  });
}

/** Waits; rejects with the signal's reason where it is aborted meanwhile. */
export function delay(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, milliseconds);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
