/**
 * Fetching values from peers (Worker.gather_dep, distributed.utils_comm.get_data_from_worker). Values go closed from
 * the peer's frames into the executor; nothing here keeps them after that.
 */
import {
  type Comm,
  CommClosedError,
  isKey,
  isMessage,
  type Key,
  keyId,
  type Logger,
  type Message,
  ProtocolError,
  PythonChildError,
  type Value,
} from "@dask-ts/protocol";
import type { ErrorFields, StoredValue, WorkerEvent } from "../core/events.ts";
import type { GatherInstruction } from "../core/instructions.ts";
import type { Executor, FetchOutcome, PutOutcome } from "../executor/executor.ts";
import type { Digests } from "./digests.ts";
import type { TransferMetrics } from "./transfer-metrics.ts";

/** Borrows comms to peers. A comm on which something failed is aborted by the borrower, never given back. */
export interface PeerConnections {
  take(address: string): Promise<Comm>;
  release(address: string, comm: Comm): void;
}

/** A peer's answer to `get_data`. */
export type PeerData =
  | { readonly status: "busy" }
  | { readonly status: "OK"; readonly data: readonly { readonly key: Key; readonly data: Value }[] };

/** The peer answered `get_data` with an error of its own. */
class PeerError extends Error {
  readonly code = "DASK_PEER";
  override readonly name = "PeerError";
  readonly reply: Message;
  constructor(message: string, reply: Message) {
    super(message);
    this.reply = reply;
  }
}

/**
 * `get_data` in its three messages: request, reply, `"OK"`. The peer holds a transfer slot until the last.
 *
 * @throws {CommClosedError} (or a connection error) where the peer cannot be reached or goes away.
 * @throws {PeerError} where its handler failed.
 */
async function getDataFromPeer(context: GatherContext, worker: string, keys: readonly Key[]): Promise<PeerData> {
  const { peers } = context;
  const comm = await peers.take(worker);
  try {
    comm.send({ op: "get_data", reply: true, keys: [...keys], who: context.address });
    const reply = await receiveUnlessGone(comm, () => context.probe(worker), context.silenceMs);
    if (isMessage(reply) && reply["status"] === "busy") {
      peers.release(worker, comm);
      return { status: "busy" };
    }
    if (isMessage(reply) && reply["status"] === "OK") {
      const data = readData(reply["data"]);
      comm.send("OK");
      peers.release(worker, comm);
      return { status: "OK", data };
    }
    if (isMessage(reply)) {
      throw new PeerError(peerErrorText(reply), reply);
    }
    throw new ProtocolError("get_data was answered with no map");
  } catch (error) {
    comm.abort();
    throw error;
  }
}

function peerErrorText(reply: Message): string {
  const text = reply["exception_text"];
  return typeof text === "string" ? text : `get_data answered status ${String(reply["status"])}`;
}

/**
 * Waits for a message as long as the peer can be reached at all. Node cannot set TCP_USER_TIMEOUT, so a broken path shows
 * on an open connection only after a quarter of an hour, while a peer may well be silent over a large value.
 */
async function receiveUnlessGone(comm: Comm, probe: () => Promise<void>, silenceMs: number): Promise<Value> {
  let timer: NodeJS.Timeout | undefined;
  let isOver = false;
  const watch = (): void => {
    if (isOver) return;
    timer = setTimeout(() => {
      probe().then(watch, (error: Error) => {
        if (!isOver)
          comm.abort(new CommClosedError(`${comm.peerAddress} cannot be reached any more: ${error.message}`));
      });
    }, silenceMs);
  };
  watch();
  try {
    return await comm.receive();
  } finally {
    isOver = true;
    clearTimeout(timer);
  }
}

function readData(data: Value | undefined): { key: Key; data: Value }[] {
  if (!(data instanceof Map)) throw new ProtocolError("get_data was answered without data");
  const out: { key: Key; data: Value }[] = [];
  for (const [key, value] of data) {
    if (!isKey(key)) throw new ProtocolError("get_data was answered with something that is no key");
    out.push({ key, data: value });
  }
  return out;
}

/** What a gather needs of the session. */
export interface GatherContext {
  readonly peers: PeerConnections;
  readonly executor: Pick<Executor, "put"> & {
    /** Undefined where the executor does not fetch by itself. */
    fetch?(worker: string, keys: readonly Key[]): Promise<FetchOutcome> | undefined;
  };
  readonly address: string;
  readonly log: Logger;
  readonly digests: Digests;
  readonly transfers: TransferMetrics;
  /** Opens a connection to a peer and closes it again; rejects where that cannot be done. */
  probe(worker: string): Promise<void>;
  /** Milliseconds without an answer after which a peer is probed, again and again. */
  readonly silenceMs: number;
  /** Seconds since the epoch, and what to add to get the scheduler's clock. */
  now(): number;
  schedulerDelay(): number;
  /** Wraps an error of this process as `error_message()` shapes it. */
  errorFields(error: unknown): ErrorFields;
}

/** From here on the executor fetches and sends by itself: the bytes pass no other process on their way. */
export const LARGE_BYTES: number = 2 ** 20;

/** Carries out one `gather` instruction; exactly one event ends it, whatever happens. */
export async function gather(context: GatherContext, instruction: GatherInstruction): Promise<WorkerEvent> {
  const { worker, totalNbytes } = instruction;
  if (totalNbytes >= LARGE_BYTES && /^(tcp|tls):/.test(worker)) {
    const fetching = context.executor.fetch?.(worker, instruction.keys);
    if (fetching !== undefined) return gatherLarge(context, instruction, fetching);
  }
  const start = context.now();
  let reply: PeerData;
  try {
    reply = await getDataFromPeer(context, worker, instruction.keys);
  } catch (error) {
    return gatherFailed(context, instruction, error);
  }
  const stop = context.now();
  context.digests.add(["gather-dep", "network", "seconds"], stop - start);
  if (reply.status === "busy") {
    return { kind: "gather-busy", worker, totalNbytes, stimulusId: `gather-dep-busy-${context.now()}` };
  }
  try {
    return gathered(context, instruction, await store(context, reply.data), start, stop);
  } catch (error) {
    return gatherFailed(context, instruction, error);
  }
}

/** The same where the executor fetches. */
async function gatherLarge(
  context: GatherContext,
  instruction: GatherInstruction,
  fetching: Promise<FetchOutcome>,
): Promise<WorkerEvent> {
  const { worker, totalNbytes } = instruction;
  const start = context.now();
  try {
    const outcome = await fetching;
    if (outcome.kind === "unreachable") throw new CommClosedError(outcome.reason);
    if (outcome.kind === "refused") {
      const { reply } = outcome;
      if (reply["status"] !== "busy") throw new PeerError(peerErrorText(reply), reply);
      return { kind: "gather-busy", worker, totalNbytes, stimulusId: `gather-dep-busy-${context.now()}` };
    }
    context.digests.add(["gather-dep", "network", "seconds"], outcome.networkS);
    context.digests.add(["gather-dep", "deserialize", "seconds"], outcome.deserializeS);
    const stored = sortOutcomes(context, outcome.keys, outcome.outcomes);
    return gathered(context, instruction, stored, start, start + outcome.networkS);
  } catch (error) {
    return gatherFailed(context, instruction, error);
  }
}

/** The values are here: counts them, tells the state machine. */
function gathered(
  context: GatherContext,
  { worker, totalNbytes }: GatherInstruction,
  { received, failed }: Stored,
  start: number,
  stop: number,
): WorkerEvent {
  const nbytes = received.reduce((sum, value) => sum + value.nbytes, 0);
  const delay = context.schedulerDelay();
  const times = { start: start + delay, stop: stop + delay };
  const keys = received.map((value) => [value.key, value.nbytes] as const);
  const typenames = new Set(received.map((value) => value.typename));
  context.transfers.received({ ...times, who: worker, keys, total: nbytes }, typenames);
  context.digests.add(["transfer-duration"], Math.max(0.001, stop - start));
  context.digests.add(["transfer-bandwidth"], nbytes / Math.max(0.001, stop - start));
  const stimulusId = `gather-dep-success-${context.now()}`;
  return { kind: "gather-success", worker, totalNbytes, received, failed, ...times, stimulusId };
}

/** Puts values into the executor: those that could be opened, and those that could not. */
async function store(
  context: GatherContext,
  data: readonly { readonly key: Key; readonly data: Value }[],
): Promise<Stored> {
  const start = context.now();
  const outcomes = await context.executor.put(data);
  context.digests.add(["gather-dep", "deserialize", "seconds"], context.now() - start);
  return sortOutcomes(
    context,
    data.map(({ key }) => key),
    outcomes,
  );
}

interface Stored {
  readonly received: StoredValue[];
  readonly failed: { readonly key: Key; readonly error: ErrorFields }[];
}

function sortOutcomes(context: GatherContext, keys: readonly Key[], outcomes: readonly PutOutcome[]): Stored {
  const stored: Stored = { received: [], failed: [] };
  for (const [i, outcome] of outcomes.entries()) {
    const key = keys[i];
    if (key === undefined) break;
    if (outcome.ok) {
      const { nbytes, type, typename } = outcome;
      stored.received.push({ key, nbytes, type, typename });
    } else {
      const error = toErrorFields(outcome.error);
      context.log.error(`Could not open ${keyId(key)} from a peer: ${error.exceptionText}`);
      stored.failed.push({ key, error });
    }
  }
  return stored;
}

function gatherFailed(context: GatherContext, instruction: GatherInstruction, error: unknown): WorkerEvent {
  const { worker, totalNbytes } = instruction;
  if (isNetworkError(error)) {
    context.log.error(`Worker stream died during communication: ${worker}`, error);
    const stimulusId = `gather-dep-network-failure-${context.now()}`;
    return { kind: "gather-network-failure", worker, totalNbytes, stimulusId };
  }
  // Where the executor is gone, the session is too: its end is reported by itself.
  if (!(error instanceof PythonChildError)) context.log.error(`Transfer from ${worker} failed`, error);
  const fields = error instanceof PeerError ? toErrorFields(error.reply) : context.errorFields(error);
  const stimulusId = `gather-dep-failed-${context.now()}`;
  return { kind: "gather-failure", worker, totalNbytes, error: fields, stimulusId };
}

/** Python's OSError, which CommClosedError and every socket error belong to. Timeouts of connecting count too. */
function isNetworkError(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.name === "CommClosedError" || error.name === "TimeoutError") return true;
  return "syscall" in error || ("code" in error && typeof error.code === "string" && NETWORK_CODES.has(error.code));
}

const NETWORK_CODES: ReadonlySet<string> = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "EPIPE",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "EAI_AGAIN",
  "DASK_COMM_CLOSED",
  "DASK_TIMEOUT",
]);

/** An `error_message()` map as the state machine takes it. */
export function toErrorFields(error: Message): ErrorFields {
  const text = (value: Value | undefined): string => (typeof value === "string" ? value : "");
  return {
    exception: error["exception"] ?? text(error["exception_text"]),
    traceback: error["traceback"] ?? null,
    exceptionText: text(error["exception_text"]),
    tracebackText: text(error["traceback_text"]),
  };
}

/** What `gather_from_workers` came to: which keys are here now, and what stood in the way of the others. */
export interface GatheredKeys {
  readonly stored: StoredValue[];
  /** Their holder answered without them, or was busy. */
  readonly missing: Key[];
  /** They came, and could not be opened. */
  readonly failed: Key[];
  readonly missingWorkers: string[];
}

/** distributed.utils_comm.gather_from_workers: each key from one of its holders, all holders at once. */
export async function gatherFromWorkers(
  context: GatherContext,
  whoHas: ReadonlyMap<string, { readonly key: Key; readonly workers: readonly string[] }>,
  random: () => number,
): Promise<GatheredKeys> {
  const byWorker = new Map<string, Key[]>();
  for (const { key, workers } of whoHas.values()) {
    const worker = workers[Math.floor(random() * workers.length)];
    if (worker === undefined) continue;
    const keys = byWorker.get(worker);
    if (keys === undefined) byWorker.set(worker, [key]);
    else keys.push(key);
  }
  const out: GatheredKeys = { stored: [], missing: [], failed: [], missingWorkers: [] };
  await Promise.all(
    [...byWorker].map(async ([worker, keys]) => {
      let reply: PeerData;
      try {
        reply = await getDataFromPeer(context, worker, keys);
      } catch (error) {
        if (!isNetworkError(error)) context.log.error(`Transfer from ${worker} failed`, error);
        out.missingWorkers.push(worker);
        for (const key of keys) out.missing.push(key);
        return;
      }
      if (reply.status === "busy") {
        for (const key of keys) out.missing.push(key);
        return;
      }
      const { received, failed } = await store(context, reply.data);
      for (const value of received) out.stored.push(value);
      for (const { key } of failed) out.failed.push(key);
      const arrived = new Set(reply.data.map(({ key }) => keyId(key)));
      for (const key of keys) if (!arrived.has(keyId(key))) out.missing.push(key);
    }),
  );
  return out;
}

/** `{key: [address, …]}` of `gather` and `who_has`. */
export function readWhoHas(value: Value | undefined): Map<string, { key: Key; workers: string[] }> {
  const out = new Map<string, { key: Key; workers: string[] }>();
  const entries = value instanceof Map ? value : isMessage(value) ? Object.entries(value) : undefined;
  if (entries === undefined) throw new TypeError("who_has is a map of key to addresses");
  for (const [key, holders] of entries) {
    if (!isKey(key) || !(Array.isArray(holders) || holders instanceof Set)) {
      throw new TypeError("who_has is a map of key to addresses");
    }
    const workers = [...(holders as Iterable<Value>)].filter((holder) => typeof holder === "string");
    out.set(keyId(key), { key, workers });
  }
  return out;
}
