/**
 * One life of the worker at the scheduler: a state machine, an executor and a stream, from registration until one of
 * the three is gone. A new executor needs a new session; address, listener and logs belong to the worker.
 */
import {
  asNumber,
  BatchedSend,
  type Comm,
  isMessage,
  type Key,
  keyId,
  type Logger,
  type Message,
  Pickled,
  type Value,
} from "@dask-ts/protocol";
import { type ErrorFields, SCHEDULER_OPS, type SchedulerOp, type WorkerEvent } from "../core/events.ts";
import type { ExecuteInstruction, Instruction } from "../core/instructions.ts";
import type { WorkerMachine } from "../core/worker-machine.ts";
import type { ExecuteOutcome, ExecuteRequest, Executor, FetchOutcome, PutOutcome } from "../executor/executor.ts";
import type { Digests } from "./digests.ts";
import { gather, type GatherContext, type PeerConnections, toErrorFields } from "./gather.ts";
import { ExecutorPulse } from "./executor-pulse.ts";
import { HeldValues } from "./held-values.ts";
import { SmallValues } from "./small-values.ts";
import { shiftStartstops } from "./startstops.ts";
import { StimulusLog } from "./stimulus-log.ts";
import type { TransferMetrics } from "./transfer-metrics.ts";

/**
 * `distributed.worker` sends to its scheduler at most every 2 ms. Here that is for many outcomes at a time; a single one
 * would only wait, and wake this process once more.
 */
const STREAM_INTERVAL_MS = 0.25;
const MAX_STREAM_INTERVAL_MS = 2;
/** Tasks handed over ahead come back where none has ended for so long: another worker may have a thread for them. */
const AHEAD_PATIENCE_MS = 20;
/** Worker.retry_busy_worker_later. */
const RETRY_BUSY_MS = 150;

/** What the session asks of the worker it belongs to. */
export interface SessionHost {
  readonly address: string;
  readonly log: Logger;
  readonly digests: Digests;
  readonly transfers: TransferMetrics;
  readonly peers: PeerConnections;
  /** Closes the idle comms to a worker that has left. */
  forgetPeer(address: string): void;
  /** Finds out whether a worker can be reached: see {@link GatherContext}. */
  probe(address: string): Promise<void>;
  readonly silenceMs: number;
  /** Seconds since the epoch, this host's clock. */
  now(): number;
  errorFields(error: unknown): ErrorFields;
  /** An op of the scheduler stream that is not the state machine's. */
  control(op: string, fields: Message): void;
  /** The stream is gone, by whichever side. */
  streamLost(session: Session, error: Error | undefined): void;
  /** The state machine is broken: the worker closes. */
  failed(session: Session, reason: string): void;
}

export class Session {
  readonly machine: WorkerMachine;
  readonly executor: Executor;
  readonly #host: SessionHost;
  readonly #gatherContext: GatherContext;
  /** Seconds to add to this host's clock to get the scheduler's. */
  schedulerDelay = 0;
  #stream: BatchedSend | undefined;
  #ended = false;
  /** Executions waiting for the end of this turn, so that those of one batch travel together. */
  #requests: ExecuteRequest[] = [];
  /** Tasks that the executor has: when they went there, and what they need. */
  readonly #sentToExecutor = new Map<string, { readonly at: number; readonly dependencies: readonly string[] }>();
  readonly #held = new HeldValues();
  readonly #timers = new Set<NodeJS.Timeout>();
  #aheadWatch: NodeJS.Timeout | undefined;
  #outcomes = 0;
  readonly stimuli: StimulusLog;
  readonly smallValues: SmallValues = new SmallValues();
  readonly pulse: ExecutorPulse;

  /** @param logLength how many events are kept for dumps. */
  constructor(host: SessionHost, machine: WorkerMachine, executor: Executor, logLength: number) {
    this.#host = host;
    this.stimuli = new StimulusLog(logLength);
    this.machine = machine;
    this.executor = executor;
    this.pulse = new ExecutorPulse(() => executor.ping?.() ?? Promise.resolve());
    const schedulerDelay = (): number => this.schedulerDelay;
    this.#gatherContext = {
      peers: host.peers,
      executor: this,
      address: host.address,
      log: host.log,
      digests: host.digests,
      transfers: host.transfers,
      probe: (worker) => host.probe(worker),
      silenceMs: host.silenceMs,
      now: () => host.now(),
      schedulerDelay,
      errorFields: (error) => host.errorFields(error),
    };
  }

  /** For the `gather` RPC, which fetches outside of the state machine. */
  get gatherContext(): GatherContext {
    return this.#gatherContext;
  }

  /** True from registration until the stream, the executor or the worker is gone. */
  get active(): boolean {
    return this.#stream !== undefined && !this.#ended;
  }

  /** Scheduler time in seconds. */
  now(): number {
    return this.#host.now() + this.schedulerDelay;
  }

  /** The registration's comm becomes the stream in both directions. */
  start(comm: Comm, schedulerDelay: number): void {
    this.schedulerDelay = schedulerDelay;
    this.#stream = new BatchedSend(comm, STREAM_INTERVAL_MS, {
      maxIntervalMs: MAX_STREAM_INTERVAL_MS,
      onError: (error) => this.#host.log.error("Could not send to the scheduler", error),
    });
    comm.onClose((error) => {
      if (this.#ended) return;
      this.end();
      this.#host.streamLost(this, error);
    });
  }

  /** Begins to read the stream: what waits there already is handled at once. */
  listen(): void {
    this.#stream?.comm.listen((batch) => this.#onBatch(batch));
  }

  /** Queues a message for the scheduler; dropped silently while there is no stream (Worker.batched_send). */
  send(message: Message): void {
    if (this.#stream !== undefined && !this.#stream.closed) this.#stream.send(message);
  }

  logEvent(topic: Value, message: Value): void {
    this.send({ op: "log-event", topic, msg: message });
  }

  /** Takes one event and carries out what follows from it. */
  dispatch(event: WorkerEvent): void {
    if (this.#ended) return;
    const now = this.now();
    this.stimuli.add(event, now);
    this.#carryOut(this.machine.handle(event, now));
  }

  /** Stops reading, sending and timing; nothing that is still under way has an effect any more. */
  end(): void {
    this.#ended = true;
    this.#stopWatch();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
    this.#requests = [];
  }

  /** Ends the session as a crash would: the scheduler sees the connection break. */
  abort(): void {
    this.end();
    this.#stream?.abort();
  }

  /** Says goodbye on the stream, then closes it. */
  async close(timeoutMs: number): Promise<void> {
    const stream = this.#stream;
    this.end();
    if (stream === undefined || stream.closed) return;
    stream.send({ op: "close-stream" });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((done) => {
      timer = setTimeout(done, timeoutMs);
    });
    await Promise.race([stream.close(), late]);
    clearTimeout(timer);
    stream.comm.abort();
  }

  #onBatch(batch: Value): void {
    const messages = Array.isArray(batch) ? (batch as readonly Value[]) : [batch];
    for (const message of messages) {
      if (message === "OK") return;
      if (!isMessage(message)) throw new TypeError("an element of the scheduler stream is no map");
      const { op } = message;
      if (typeof op !== "string") throw new TypeError("an element of the scheduler stream has no op");
      if (op === "close-stream") {
        this.#host.log.info(`Received 'close-stream' from ${this.#stream?.comm.peerAddress}; closing.`);
        this.#stream?.abort();
        return;
      }
      this.handleStreamOp(op, message);
      if (this.#ended) return;
    }
  }

  /**
   * One stream message, from the scheduler or from a peer's `connection_stream`.
   *
   * @throws {TypeError} for unknown ops and wrong fields: the stream is closed, as stock does.
   */
  handleStreamOp(op: string, message: Message): void {
    if (op === "remove-worker" && typeof message["worker"] === "string") {
      this.#host.forgetPeer(message["worker"]);
      this.executor.forgetPeer?.(message["worker"]);
    }
    if (SCHEDULER_OPS.has(op)) {
      this.dispatch({ kind: op as SchedulerOp, message });
      return;
    }
    const { op: _, ...fields } = message;
    this.#host.control(op, fields);
  }

  #carryOut(instructions: readonly Instruction[]): void {
    for (const instruction of instructions) {
      switch (instruction.kind) {
        case "execute":
          this.#execute(instruction);
          break;
        case "gather":
          void gather(this.#gatherContext, instruction).then((event) => this.dispatch(event));
          break;
        case "retry-busy-worker-later":
          this.#retryLater(instruction.worker);
          break;
        case "send":
          this.send(instruction.message);
          break;
        case "drop":
          this.#drop(this.#held.droppable(instruction.keys));
          break;
        case "cancel":
          this.#flushRequests();
          this.executor.cancel(instruction.key);
          break;
        case "transition":
          void this.#reportTransition(instruction.key, instruction.start, instruction.finish);
          break;
        case "fail":
          if (instruction.topic !== null) this.logEvent(instruction.topic, instruction.message);
          this.#host.failed(this, instruction.reason);
          return;
        default:
          instruction satisfies never;
      }
    }
  }

  #execute(instruction: ExecuteInstruction): void {
    const { key, runId, runSpec, dependencies, annotations, actor, priority, spanId } = instruction;
    if (!(runSpec instanceof Pickled)) {
      const error = this.#host.errorFields(new TypeError(`the run_spec of ${keyId(key)} is no pickle`));
      const stimulusId = `execute-unknown-error-${this.#host.now()}`;
      const nothing = { start: null, stop: null, thread: null, startstops: [] };
      // Not from within the instructions of another event.
      queueMicrotask(() => this.dispatch({ kind: "execute-failure", key, runId, error, ...nothing, stimulusId }));
      return;
    }
    if (this.#requests.length === 0) process.nextTick(() => this.#flushRequests());
    const needed = dependencies.map(keyId);
    this.#held.store(key);
    this.#held.use(needed);
    this.#sentToExecutor.set(keyId(key), { at: this.#host.now(), dependencies: needed });
    this.#requests.push({
      key,
      runId,
      runSpec,
      dependencies,
      annotations: annotations instanceof Map ? annotations : NO_ANNOTATIONS,
      actor,
      priority: [...priority],
      spanId,
    });
  }

  #flushRequests(): void {
    if (this.#requests.length === 0) return;
    if (this.#aheadWatch === undefined && this.machine.aheadCount > 0) this.#watchAhead();
    const requests = this.#requests;
    this.#requests = [];
    this.executor.execute(requests);
  }

  /** While tasks are ahead: looks every now and then whether any has ended. */
  #watchAhead(): void {
    let seen = this.#outcomes;
    this.#aheadWatch = setInterval(() => {
      if (this.machine.aheadCount === 0) this.#stopWatch();
      else if (seen === this.#outcomes) void this.#recall();
      seen = this.#outcomes;
    }, AHEAD_PATIENCE_MS);
  }

  #stopWatch(): void {
    clearInterval(this.#aheadWatch);
    this.#aheadWatch = undefined;
  }

  async #recall(): Promise<void> {
    this.#stopWatch();
    let keys: readonly Key[];
    try {
      keys = await this.executor.recall();
    } catch {
      return; // The executor is gone, and this session with it.
    }
    if (this.#ended) return;
    for (const key of keys) {
      const id = keyId(key);
      this.#drop(this.#held.release(this.#sentToExecutor.get(id)?.dependencies ?? []));
      this.#sentToExecutor.delete(id);
    }
    this.dispatch({ kind: "recalled", keys, stimulusId: `recall-${this.#host.now()}` });
  }

  #drop(keys: readonly Key[]): void {
    if (keys.length === 0) return;
    this.smallValues.delete(keys);
    // A drop never overtakes an execution that was decided before it.
    this.#flushRequests();
    this.executor.drop(keys);
  }

  /** Opens values into the executor's store; see {@link Executor.put}. */
  put(entries: readonly { readonly key: Key; readonly data: Value }[]): Promise<PutOutcome[]> {
    const keys = entries.map(({ key }) => key);
    this.smallValues.delete(keys);
    for (const key of keys) this.#held.store(key);
    return this.executor.put(entries);
  }

  /** Fetches large values by the executor itself; undefined where it cannot. */
  fetch(worker: string, keys: readonly Key[]): Promise<FetchOutcome> | undefined {
    if (this.executor.fetch === undefined) return undefined;
    this.smallValues.delete(keys);
    for (const key of keys) this.#held.store(key);
    return this.executor.fetch(worker, keys, this.#host.address);
  }

  /** A task ended in the executor. */
  onOutcome(outcome: ExecuteOutcome): void {
    this.#outcomes++;
    const { key, runId } = outcome;
    const id = keyId(key);
    const sent = this.#sentToExecutor.get(id);
    this.#sentToExecutor.delete(id);
    if (sent !== undefined) this.#drop(this.#held.release(sent.dependencies));
    const now = this.#host.now();
    this.#digestExecution(outcome, sent === undefined ? 0 : now - sent.at);
    if (outcome.kind === "reschedule") {
      this.dispatch({ kind: "reschedule", key, stimulusId: `reschedule-${now}` });
      return;
    }
    const delay = this.schedulerDelay;
    const { thread } = outcome;
    const startstops = shiftStartstops(outcome.startstops, delay);
    if (outcome.kind === "failure") {
      const start = outcome.start === null ? null : outcome.start + delay;
      const stop = outcome.stop === null ? null : outcome.stop + delay;
      const error = toErrorFields(outcome.error);
      const stimulusId = `task-erred-${now}`;
      this.dispatch({ kind: "execute-failure", key, runId, error, start, stop, thread, startstops, stimulusId });
      return;
    }
    const { nbytes, type, typename, metadata, value } = outcome;
    if (value !== undefined) this.smallValues.set(id, value);
    this.dispatch({
      kind: "execute-success",
      key,
      runId,
      nbytes,
      type,
      typename,
      start: outcome.start + delay,
      stop: outcome.stop + delay,
      thread,
      startstops,
      metadata,
      stimulusId: `task-finished-${now}`,
    });
  }

  /**
   * Fine performance metrics (BaseWorker._finalize_metrics): where the time of a task went. What does not come of the
   * task itself is the way to the executor and back.
   */
  #digestExecution(outcome: ExecuteOutcome, totalS: number): void {
    const task = this.machine.task(outcome.key);
    if (task === undefined) return;
    const { spanId } = task;
    const prefix = task.prefix.name;
    const { digests } = this.#host;
    const meter = outcome.kind === "reschedule" ? null : outcome.meter;
    const succeeded = outcome.kind === "success";
    let knownS = 0;
    for (const [label, value, unit] of meter?.metrics ?? []) {
      if (unit === "seconds") {
        // The seconds of a task that failed are told as one sum.
        if (!succeeded) continue;
        knownS += asNumber(value, 0);
      }
      digests.addMetered(spanId, prefix, label, unit, value);
    }
    if (!succeeded) {
      digests.addExecute(spanId, prefix, outcome.kind === "failure" ? "failed" : "cancelled", "seconds", totalS);
      return;
    }
    if (meter !== null) {
      if (meter.cpuS !== null) digests.addExecute(spanId, prefix, "thread-cpu", "seconds", meter.cpuS);
      digests.addExecute(spanId, prefix, "thread-noncpu", "seconds", meter.nonCpuS);
      knownS += (meter.cpuS ?? 0) + meter.nonCpuS;
    }
    digests.addExecute(spanId, prefix, "executor", "seconds", Math.max(0, totalS - knownS));
  }

  #retryLater(worker: string): void {
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      this.dispatch({ kind: "retry-busy-worker", worker, stimulusId: `retry-busy-worker-${this.#host.now()}` });
    }, RETRY_BUSY_MS);
    this.#timers.add(timer);
  }

  async #reportTransition(key: Key, start: string, finish: string): Promise<void> {
    try {
      await this.executor.call("transition", { key, start, finish });
    } catch (error) {
      this.#host.log.error("A worker plugin's transition failed", error);
    }
  }
}

const NO_ANNOTATIONS: ReadonlyMap<Value, Value> = new Map();
