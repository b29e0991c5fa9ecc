/** Ops that move values: get_data, update_data, gather, free_keys, keys. */
import {
  type Comm,
  CommClosedError,
  compressPayload,
  DONT_REPLY,
  getAddressHost,
  type Key,
  keyId,
  type Message,
  ProtocolError,
  RemoteError,
  type RpcContext,
  type RpcHandlers,
  type RpcResult,
  type Value,
} from "@dask-ts/protocol";
import type { StoredValue } from "../../core/events.ts";
import type { SendOutcome } from "../../executor/executor.ts";
import { ExecutorError } from "../../executor/python-executor.ts";
import { gatherFromWorkers, LARGE_BYTES, readWhoHas } from "../gather.ts";
import type { Session } from "../session.ts";
import { readKeys, stimulusOf, type WorkerServices } from "./services.ts";

export function dataHandlers(worker: WorkerServices): RpcHandlers {
  return {
    get_data: (fields, context) => getData(worker, fields, context),
    update_data: (fields) => updateData(worker, fields),
    gather: (fields) => gather(worker, fields),
    free_keys: (fields) => freeKeys(worker, fields),
    keys: () => storedKeys(worker),
  };
}

/** Worker.get_data: how many transfers may leave at once, towards this peer, now. */
export function outgoingLimit(worker: WorkerServices, peerAddress: string): number | false {
  if (worker.status === "paused") return 1;
  const limit = worker.connectionsIncoming;
  // Connections on one host cost little.
  const isSameHost = getAddressHost(peerAddress) === getAddressHost(worker.address);
  return limit !== false && isSameHost ? limit * 2 : limit;
}

/** Values for a peer, in three messages; the slot is held until the peer has them all. */
async function getData(worker: WorkerServices, fields: Message, context: RpcContext): Promise<RpcResult> {
  const { comm, serializers } = context;
  const keys = readKeys(fields["keys"]);
  const limit = outgoingLimit(worker, comm.peerAddress);
  const { transfers } = worker;
  if (limit !== false && transfers.outgoingCount >= limit) {
    const who = typeof fields["who"] === "string" ? fields["who"] : comm.peerAddress;
    const figures = `${transfers.outgoingCount}/${limit}`;
    worker.log.debug(`Worker ${worker.address} has too many open connections to serve ${who} (${figures})`);
    return { status: "busy" };
  }
  transfers.outgoingCount += 1;
  transfers.outgoingCountTotal += 1;
  worker.openTransfers.add(comm);
  let nbytes = 0;
  try {
    const session = worker.session();
    const sizeOf = (key: Key): [Key, number] => [key, session.machine.task(key)?.nbytes ?? 0];
    const count = (keysSent: readonly [Key, number][]): void => {
      for (const [, size] of keysSent) nbytes += size;
      transfers.outgoingBytes += nbytes;
      transfers.outgoingBytesTotal += nbytes;
    };
    let keysSent = keys.map(sizeOf);
    let serialized = worker.now();
    const sending = await startLarge(session, keysSent, context);
    if (sending === "busy") return { status: "busy" };
    if (sending === undefined) {
      const begun = serialized;
      let entries = await getSmall(session, keys, serializers);
      if (entries === "busy") return { status: "busy" };
      serialized = worker.now();
      worker.digests.add(["get-data", "serialize", "seconds"], serialized - begun);
      keysSent = entries.map(({ key }) => sizeOf(key));
      count(keysSent);
      const data = new Map<Value, Value>();
      const { compression } = comm.negotiated;
      for (const { key, data: value } of entries) {
        data.set(key, compression === null ? value : await compressPayload(value, compression));
      }
      comm.send({ status: "OK", data });
      // The socket has the buffers now; keeping them here would hold a large value until the peer's last message.
      data.clear();
      entries = [];
    } else {
      count(keysSent);
      const outcome = await sending.sent;
      if (outcome.kind === "broken") throw new CommClosedError(`${comm.peerAddress}: ${outcome.reason}`);
      worker.digests.add(["get-data", "serialize", "seconds"], outcome.serializeS);
      serialized += outcome.serializeS;
      keysSent = outcome.keys.map(sizeOf);
    }
    const acknowledgement = await comm.receive();
    const stop = worker.now();
    worker.digests.add(["get-data", "network", "seconds"], stop - serialized);
    if (acknowledgement !== "OK") {
      throw new ProtocolError(`get_data was acknowledged with something else than "OK" by ${comm.peerAddress}`);
    }
    const who = typeof fields["who"] === "string" ? fields["who"] : comm.peerAddress;
    const delay = session.schedulerDelay;
    const times = { start: serialized + delay, stop: stop + delay };
    transfers.outgoingLog.add({ ...times, who, keys: keysSent, total: nbytes });
    return DONT_REPLY;
  } catch (error) {
    // The peer takes a broken connection for a lost worker, which is what a dead executor is to it.
    if (!(error instanceof ExecutorError)) comm.abort();
    throw error;
  } finally {
    worker.openTransfers.delete(comm);
    transfers.outgoingBytes -= nbytes;
    transfers.outgoingCount -= 1;
  }
}

/** Values by way of this process: those that it holds itself, and those that the executor gives. */
async function getSmall(session: Session, keys: readonly Key[], serializers: Value): Promise<Entry[] | "busy"> {
  const here: Entry[] = [];
  const there: Key[] = [];
  for (const key of keys) {
    const data = session.smallValues.get(keyId(key));
    if (data === undefined) there.push(key);
    else here.push({ key, data });
  }
  if (there.length === 0) return here;
  // In this order: the answer to what was sent first says nothing of the second.
  const stuck = session.pulse.answers().then((answers) => (answers ? undefined : ("busy" as const)));
  const getting = session.executor.get(there, serializers);
  getting.catch(() => undefined); // in case that nobody waits for it any more
  const first = (await Promise.race([getting, stuck])) ?? (await getting);
  if (first === "busy") return first;
  return here.length === 0 ? first : here.concat(first);
}

type Entry = { readonly key: Key; readonly data: Value };

/**
 * Has the executor answer a request for large values on the peer's own socket. Undefined where it cannot: bytes that are
 * compressed or encrypted on their way come by this process.
 */
async function startLarge(
  { executor, pulse }: Session,
  keys: readonly [Key, number][],
  { comm, serializers }: RpcContext,
): Promise<{ readonly sent: Promise<SendOutcome> } | "busy" | undefined> {
  if (executor.send === undefined || comm.negotiated.compression !== null) return undefined;
  if (keys.reduce((sum, [, size]) => sum + size, 0) < LARGE_BYTES) return undefined;
  if (!(await pulse.answers())) return "busy";
  const socket = comm.lend?.();
  if (socket === undefined) return undefined;
  const sent = executor.send(
    keys.map(([key]) => key),
    serializers,
    socket,
  );
  return sent === undefined ? undefined : { sent };
}

/** Worker.update_data: scattered values. */
async function updateData(worker: WorkerServices, fields: Message): Promise<Value> {
  const { data } = fields;
  if (!(data instanceof Map)) throw new TypeError("data is a map of key to value");
  const entries: { key: Key; data: Value }[] = [];
  for (const [key, value] of data) {
    keyId(key);
    entries.push({ key: key as Key, data: value });
  }
  const session = worker.session();
  const outcomes = await session.put(entries);
  const stored: StoredValue[] = [];
  let failure: Message | undefined;
  for (const [i, outcome] of outcomes.entries()) {
    const entry = entries[i];
    if (entry === undefined) break;
    if (outcome.ok) {
      const { nbytes, type, typename } = outcome;
      stored.push({ key: entry.key, nbytes, type, typename });
    } else failure ??= outcome.error;
  }
  if (failure !== undefined) {
    // All or nothing: stock opens the whole message before its handler sees any of it.
    session.executor.drop(stored.map((value) => value.key));
    throw new RemoteError(failure);
  }
  session.dispatch({
    kind: "update-data",
    entries: stored,
    stimulusId: stimulusOf(fields, "update-data", worker.now()),
  });
  const nbytes = new Map<Value, Value>(stored.map((value) => [value.key, value.nbytes]));
  return { nbytes, status: "OK" };
}

/** Worker.gather: the scheduler wants these values here (replicate, rebalance). */
async function gather(worker: WorkerServices, fields: Message): Promise<Value> {
  const session = worker.session();
  const stimulusId = `gather-${worker.now()}`;
  let whoHas = readWhoHas(fields["who_has"]);
  const wanted = new Map(whoHas);
  for (const [id] of whoHas) {
    if (session.machine.tasks.get(id)?.state === "memory") wanted.delete(id);
  }
  const failed: Key[] = [];
  const missingWorkers = new Set<string>();
  while (wanted.size > 0) {
    const attempt = new Map<string, { key: Key; workers: string[] }>();
    for (const [id, { key }] of wanted) {
      const workers = (whoHas.get(id)?.workers ?? []).filter((address) => !missingWorkers.has(address));
      if (workers.length > 0) attempt.set(id, { key, workers });
      else failed.push(key);
    }
    if (attempt.size === 0) break;
    const gathered = await gatherFromWorkers(session.gatherContext, attempt, Math.random);
    session.dispatch({ kind: "update-data", entries: gathered.stored, stimulusId });
    for (const key of gathered.failed) failed.push(key);
    for (const address of gathered.missingWorkers) missingWorkers.add(address);
    wanted.clear();
    for (const key of gathered.missing) wanted.set(keyId(key), { key, workers: [] });
    if (wanted.size > 0) {
      whoHas = readWhoHas(await worker.callScheduler("who_has", { keys: gathered.missing }));
    }
  }
  if (failed.length === 0) return { status: "OK" };
  worker.log.error(`Could not find data: ${failed.map(keyId).join(", ")}`);
  return { status: "partial-fail", keys: failed };
}

function freeKeys(worker: WorkerServices, fields: Message): Value {
  const keys = readKeys(fields["keys"]);
  const stimulusId = stimulusOf(fields, "free-keys", worker.now());
  worker.session().dispatch({ kind: "free-keys-rpc", keys, stimulusId });
  return null;
}

function storedKeys(worker: WorkerServices): Value {
  const keys: Value[] = [];
  for (const task of worker.session().machine.tasks.values()) if (task.state === "memory") keys.push(task.key);
  return keys;
}

/** Breaks every transfer that is under way: the values behind them are gone. */
export function abortTransfers(comms: Set<Comm>): void {
  for (const comm of comms) comm.abort();
  comms.clear();
}
