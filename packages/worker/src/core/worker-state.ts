/** Everything the state machine knows, and the operations that its handlers and transitions share. Mirrors `WorkerState`. */
import { float, type Key, keyId, keySplit, type Message, type Value } from "@dask-ts/protocol";
import { InvalidTransition } from "./errors.ts";
import type { Instruction } from "./instructions.ts";
import { Peer } from "./peer.ts";
import { comparePriority, type Priority, PriorityHeap } from "./priority-heap.ts";
import { Recommendations } from "./recommendations.ts";
import { EventLog } from "./story.ts";
import { TaskCounter } from "./task-counter.ts";
import { TaskState, type TaskStateName, withItem } from "./task-state.ts";

export interface WorkerMachineConfig {
  /** This worker's address; may be set later through `machine.address`, before the first event. */
  readonly address: string;
  readonly nthreads: number;
  readonly resources?: ReadonlyMap<string, number>;
  /** `distributed.worker.connections.outgoing`. */
  readonly totalOutConnections?: number;
  /** `distributed.worker.transfer.message-bytes-limit`, bytes. */
  readonly transferMessageBytesLimit?: number;
  /** A tenth of memory_limit, or Infinity. */
  readonly transferIncomingBytesLimit?: number;
  /** Below this the number of connections does not matter; 10 MB. */
  readonly transferIncomingBytesThrottleThreshold?: number;
  /** `distributed.scheduler.default-data-size`, bytes. */
  readonly defaultDataSize?: number;
  /** `distributed.admin.low-level-log-length`: entries kept for `story`. */
  readonly logLength?: number;
  /** Checks every task that an event touched (`distributed.worker.validate`). */
  readonly validate?: boolean;
  /** Fail after so many transitions; for tests. */
  readonly transitionCounterMax?: number;
  /** Emit `transition` instructions (there is a plugin that wants them). Can be changed later. */
  readonly reportTransitions?: boolean;
  /** A task errs with a dependency that cannot be opened here; default true. Stock's waits for ever. */
  readonly errWithDependencies?: boolean;
  /** Settles ties between peers, differently for each worker; without it they go by address. */
  readonly seed?: number;
}

/** `{key: bytes}` of a message, in the order in which it came. */
export interface KeySize {
  readonly id: string;
  readonly key: Key;
  readonly nbytes: number;
}
/** `{key: [address]}` of a message. */
export interface KeyHolders {
  readonly id: string;
  readonly workers: readonly string[];
}

const NO_METADATA: ReadonlyMap<Value, Value> = new Map();

export class WorkerState {
  address: string;
  nthreads: number;
  reportTransitions: boolean;
  readonly errWithDependencies: boolean;
  readonly validate: boolean;
  readonly transitionCounterMax: number;

  readonly transferIncomingCountLimit: number;
  readonly transferMessageBytesLimit: number;
  readonly transferIncomingBytesLimit: number;
  readonly transferIncomingBytesThrottleThreshold: number;
  readonly defaultDataSize: number;

  readonly tasks: Map<string, TaskState> = new Map();
  /** False while paused. */
  running = true;
  readonly waiting: Set<TaskState> = new Set();
  readonly ready: PriorityHeap<TaskState> = new PriorityHeap();
  readonly constrained: PriorityHeap<TaskState> = new PriorityHeap();
  /** Tasks that the executor has; more than there are threads where it has some ahead: see `ensureComputing`. */
  readonly executing: Set<TaskState> = new Set();
  /** Nothing is handed over ahead until a task has ended: the threads are held up. */
  aheadSuspended = false;
  readonly longRunning: Set<TaskState> = new Set();
  readonly inFlightTasks: Set<TaskState> = new Set();
  readonly missingDepFlight: Set<TaskState> = new Set();
  readonly peers: Map<string, Peer> = new Map();
  /**
   * Peers with needed tasks that are neither busy nor in flight, that is, all that `ensureCommunicating` has to look at.
   * Empty again after it ran, unless a limit stopped it.
   */
  readonly gatherable: Set<Peer> = new Set();
  /** False while nothing has happened that could let a stopped `ensureCommunicating` go on. */
  gatherDirty = false;
  /** Priority of the task that did not fit when a bytes limit stopped `ensureCommunicating`; null: not stopped so. */
  blockedPriority: Priority | null = null;

  fetchCount = 0;
  inFlightWorkersCount = 0;
  transferIncomingBytes = 0;
  transferIncomingCountTotal = 0;
  executedCount = 0;
  /** Bytes in memory. */
  nbytes = 0;
  /** Appended to priorities, and lowered by each `compute-task`: later arrivals of equal priority run first. */
  generation = 0;
  transitionCounter = 0;

  readonly totalResources: Map<string, number>;
  readonly availableResources: Map<string, number>;

  readonly counter: TaskCounter = new TaskCounter();
  readonly log: EventLog;

  /** The event that is being handled. */
  now = 0;
  stimulusId = "";
  readonly recommendations: Recommendations = new Recommendations((ts) => {
    if (!ts.stored) this.drop(ts.key);
  });
  instructions: Instruction[] = [];

  #random: number | undefined;

  constructor(config: WorkerMachineConfig) {
    this.address = config.address;
    this.nthreads = config.nthreads;
    this.validate = config.validate ?? false;
    this.reportTransitions = config.reportTransitions ?? false;
    this.errWithDependencies = config.errWithDependencies ?? true;
    this.transitionCounterMax = config.transitionCounterMax ?? Number.POSITIVE_INFINITY;
    this.transferIncomingCountLimit = config.totalOutConnections ?? 50;
    this.transferMessageBytesLimit = config.transferMessageBytesLimit ?? 50e6;
    this.transferIncomingBytesLimit = config.transferIncomingBytesLimit ?? Number.POSITIVE_INFINITY;
    this.transferIncomingBytesThrottleThreshold = config.transferIncomingBytesThrottleThreshold ?? 10e6;
    this.defaultDataSize = config.defaultDataSize ?? 1024;
    this.totalResources = new Map(config.resources ?? []);
    this.availableResources = new Map(this.totalResources);
    this.log = new EventLog(config.logLength ?? 1000);
    this.#random = config.seed;
  }

  /** The next number of a sequence that the seed fixes (an additive step, then Murmur's mixing); for ties only. */
  nextTieBreak(): number {
    if (this.#random === undefined) return 0;
    this.#random = (this.#random + 0x9e3779b9) | 0;
    let x = this.#random;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    return (x ^ (x >>> 16)) >>> 0;
  }

  // ---- tasks ----

  newTask(key: Key, id: string): TaskState {
    const ts = new TaskState(key, id, this.counter.prefix(keySplit(key)));
    this.tasks.set(id, ts);
    ts.prefix.add("released", 1, this.now);
    return ts;
  }

  /** `_ensure_task_exists`: a key that is a dependency or a replica to be acquired. */
  ensureTaskExists(key: Key, id: string, priority: readonly number[]): TaskState {
    const ts = this.tasks.get(id) ?? this.newTask(key, id);
    ts.priority ??= priority;
    this.log.push([ts.key, "ensure-task-exists", ts.state, this.stimulusId, float(this.now)]);
    return ts;
  }

  /** The one place where a task's state changes. */
  setState(ts: TaskState, state: TaskStateName): void {
    ts.prefix.add(ts.state, -1, this.now);
    if (state !== "forgotten") ts.prefix.add(state, 1, this.now);
    ts.state = state;
  }

  /** What a transfer of this task counts, bytes. */
  sizeOf(ts: TaskState): number {
    return ts.nbytes ?? this.defaultDataSize;
  }

  /** Takes over the size that the scheduler gives for a value that is elsewhere. */
  expectSize(ts: TaskState, nbytes: number): void {
    if (ts.state === "memory") return;
    // It may fit now.
    if (ts.state === "fetch" && nbytes < this.sizeOf(ts)) this.gatherDirty = true;
    ts.nbytes = nbytes;
  }

  story(keysOrStimuli: readonly Key[]): Value[][] {
    return this.log.story(keysOrStimuli);
  }

  invalidTransition(ts: TaskState, start: TaskStateName, finish: TaskStateName, cause?: unknown): InvalidTransition {
    return new InvalidTransition(ts.key, start, finish, this.story([ts.key]), { cause });
  }

  // ---- peers ----

  peer(address: string): Peer {
    let peer = this.peers.get(address);
    if (peer === undefined) {
      peer = new Peer(address, this.address);
      this.peers.set(address, peer);
    }
    return peer;
  }

  forgetIdlePeer(peer: Peer): void {
    if (peer.idle) this.peers.delete(peer.address);
  }

  /** Puts a task in state fetch into the heap of one of its holders. */
  addNeeded(peer: Peer, ts: TaskState): void {
    peer.needed.add(ts);
    this.updateGatherable(peer);
    const blocked = this.blockedPriority;
    if (blocked === null || comparePriority(ts.priority ?? [], blocked) <= 0) this.gatherDirty = true;
  }

  removeNeeded(peer: Peer, ts: TaskState): void {
    if (peer.needed.delete(ts)) {
      this.gatherDirty = true;
      if (peer.needed.size === 0) this.gatherable.delete(peer);
    }
  }

  updateGatherable(peer: Peer): void {
    if (peer.needed.size > 0 && peer.inFlight === null && !peer.busy) this.gatherable.add(peer);
    else this.gatherable.delete(peer);
  }

  /** `_update_who_has`: takes over the scheduler's knowledge about holders. */
  updateWhoHas(whoHas: readonly KeyHolders[]): void {
    for (const { id, workers } of whoHas) {
      const ts = this.tasks.get(id);
      // The worker asked with request-refresh-who-has and has forgotten the key since.
      if (ts === undefined) continue;
      const holders = new Set(workers);
      // Only a rebalance that is under way names ourselves; the scheduler will hear from us.
      holders.delete(this.address);
      for (const peer of ts.whoHas) {
        if (!holders.delete(peer.address)) this.removeHolder(ts, peer);
      }
      for (const address of holders) {
        const peer = this.peer(address);
        ts.whoHas = withItem(ts.whoHas, peer);
        peer.hasWhat.add(ts);
        if (ts.state === "fetch") this.addNeeded(peer, ts);
      }
    }
  }

  /** Forgets that the peer holds the task. */
  removeHolder(ts: TaskState, peer: Peer): void {
    ts.whoHas.delete(peer);
    peer.hasWhat.delete(ts);
    this.removeNeeded(peer, ts);
    this.forgetIdlePeer(peer);
  }

  /** `_purge_state`: resets a task and takes it out of every collection. Idempotent. */
  purge(ts: TaskState): void {
    if (ts.stored) {
      ts.stored = false;
      this.drop(ts.key);
    }
    ts.thread = null;
    for (const peer of ts.whoHas) this.removeHolder(ts, peer);
    for (const dependency of ts.dependencies) {
      ts.waitingForData.delete(dependency);
      dependency.waiters.delete(ts);
    }
    ts.waitingForData.clear();
    ts.nbytes = null;
    ts.previous = null;
    ts.next = null;
    ts.done = false;
    ts.comingFrom = null;
    ts.exception = null;
    ts.traceback = null;
    ts.exceptionText = "";
    ts.tracebackText = "";
    this.missingDepFlight.delete(ts);
    this.ready.delete(ts);
    this.constrained.delete(ts);
    this.executing.delete(ts);
    this.longRunning.delete(ts);
    this.inFlightTasks.delete(ts);
    this.waiting.delete(ts);
  }

  // ---- resources ----

  /** `_resource_restrictions_satisfied`. A resource that this worker does not have is never available. */
  resourcesAvailable(ts: TaskState): boolean {
    if (ts.resourceRestrictions === null) return true;
    for (const [resource, needed] of ts.resourceRestrictions) {
      if ((this.availableResources.get(resource) ?? 0) < needed) return false;
    }
    return true;
  }

  acquireResources(ts: TaskState): void {
    this.#changeResources(ts, -1);
  }

  releaseResources(ts: TaskState): void {
    this.#changeResources(ts, 1);
  }

  #changeResources(ts: TaskState, sign: 1 | -1): void {
    if (ts.resourceRestrictions === null) return;
    for (const [resource, needed] of ts.resourceRestrictions) {
      this.availableResources.set(resource, (this.availableResources.get(resource) ?? 0) + sign * needed);
    }
  }

  // ---- instructions ----

  send(message: Message): void {
    this.instructions.push({ kind: "send", message });
  }

  /** The executor's store must forget the value. Consecutive drops become one instruction. */
  drop(key: Key): void {
    const last = this.instructions.at(-1);
    if (last?.kind === "drop") (last.keys as Key[]).push(key);
    else this.instructions.push({ kind: "drop", keys: [key] });
  }

  execute(ts: TaskState): void {
    const dependencies: Key[] = [];
    for (const dependency of ts.dependencies) dependencies.push(dependency.key);
    this.instructions.push({
      kind: "execute",
      key: ts.key,
      runId: ts.runId,
      runSpec: ts.runSpec,
      dependencies,
      annotations: ts.annotations,
      actor: ts.actor,
      priority: ts.priority ?? [],
      spanId: ts.spanId,
      stimulusId: this.stimulusId,
    });
  }

  sendTaskFinished(ts: TaskState, runId: number): void {
    this.send({
      op: "task-finished",
      key: ts.key,
      run_id: runId,
      nbytes: ts.nbytes,
      type: ts.type,
      typename: ts.typename,
      metadata: ts.metadata ?? NO_METADATA,
      thread: ts.thread,
      startstops: ts.startstops.slice(),
      stimulus_id: this.stimulusId,
      status: "OK",
    });
  }

  sendTaskErred(ts: TaskState, runId: number): void {
    this.send({
      op: "task-erred",
      key: ts.key,
      run_id: runId,
      exception: ts.exception,
      traceback: ts.traceback,
      exception_text: ts.exceptionText,
      traceback_text: ts.tracebackText,
      thread: ts.thread,
      startstops: ts.startstops.slice(),
      stimulus_id: this.stimulusId,
      status: "error",
    });
  }

  sendLongRunning(ts: TaskState, computeDuration: number | null): void {
    this.send({
      op: "long-running",
      key: ts.key,
      run_id: ts.runId,
      compute_duration: computeDuration === null ? null : float(computeDuration),
      stimulus_id: this.stimulusId,
    });
  }

  /** Consecutive ones become one message; the scheduler takes any number of keys. */
  sendAddKeys(ts: TaskState): void {
    const last = this.instructions.at(-1);
    if (last?.kind === "send" && last.message["op"] === "add-keys" && last.message["stimulus_id"] === this.stimulusId) {
      (last.message["keys"] as Value[]).push(ts.key);
    } else {
      this.send({ op: "add-keys", keys: [ts.key], stimulus_id: this.stimulusId });
    }
  }

  sendAboutKey(op: "release-worker-data" | "reschedule", ts: TaskState): void {
    this.send({ op, key: ts.key, stimulus_id: this.stimulusId });
  }

  sendRequestRefreshWhoHas(keys: Key[]): void {
    this.send({ op: "request-refresh-who-has", keys: keys, stimulus_id: this.stimulusId });
  }

  task(key: Key): TaskState | undefined {
    return this.tasks.get(keyId(key));
  }
}
