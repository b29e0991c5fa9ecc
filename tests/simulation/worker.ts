/**
 * A worker: the real state machine, with a model of the shell around it (server/session.ts, server/worker.ts) and of the
 * executor. One address; it may die and come back, each time with a new session.
 */
import { asNumber, float, type Key, keyId, type Message, type Value } from "../../packages/protocol/src/index.ts";
import {
  type Instruction,
  SCHEDULER_OPS,
  type SchedulerOp,
  type StoredValue,
  type WorkerEvent,
  WorkerMachine,
} from "../../packages/worker/src/core/index.ts";
import { HeldValues } from "../../packages/worker/src/server/held-values.ts";
import { Executor, type ExecutorListener, type Outcome } from "./executor.ts";
import { ExecutorMemory, type MemorySettings, MONITOR_S, noLimit } from "./memory.ts";
import type { Monitor } from "./monitor.ts";
import type { End, Network } from "./network.ts";
import type { Random } from "./random.ts";
import { Violation, type World } from "./world.ts";

const TYPE = new Uint8Array([1]);
const TYPENAME = "int";
const AHEAD_PATIENCE_S = 0.02;
const RETRY_BUSY_S = 0.15;
const FIND_MISSING_S = 1;
const HEARTBEAT_S = 0.5;
/** How long a restarted worker waits between two looks whether the scheduler has forgotten the last one. */
const FORGET_POLL_S = 0.05;
/** How long an executor takes to end that is asked to. */
const SIGTERM_S = 0.03;
/** Events between two looks at the whole state of a machine. */
const VALIDATE_EVERY = 20;

export interface WorkerSettings {
  readonly nthreads: number;
  readonly resources: ReadonlyMap<string, number>;
  /** `distributed.worker.connections.incoming` */
  readonly connectionsIncoming: number;
  readonly connectionsOutgoing: number;
  /** Bytes; Infinity for none. */
  readonly transferIncomingBytesLimit: number;
  readonly transferMessageBytesLimit: number;
  readonly transferIncomingBytesThrottleThreshold: number;
}

/** What a worker needs of the rest of the cluster. */
export interface Surroundings {
  readonly world: World;
  readonly network: Network;
  readonly monitor: Monitor;
  /** Opens a connection to the scheduler. */
  connectToScheduler(name: string): End;
  /** `heartbeat_worker`; `reply` is not called where the scheduler does not know the address. */
  heartbeat(address: string, fields: HeartbeatFields, missing: () => void): void;
  /** Whether the scheduler still knows the address. */
  isKnown(address: string, reply: (known: boolean) => void): void;
  /** Calls a handler of the worker at that address; `lost` where it cannot be reached or goes away. */
  callWorker<T>(
    address: string,
    handler: (session: Session, respond: (reply: T) => void) => void,
    onReply: (reply: T) => void,
    onLost: () => void,
  ): void;
}

export interface HeartbeatFields {
  readonly executing: ReadonlyMap<Value, Value>;
  readonly metrics: ReadonlyMap<Value, Value>;
  readonly workerNow: number;
}

/** Answer to `get_data`. */
export type PeerData = "busy" | ReadonlyMap<Key, number>;

export class SimWorker {
  readonly name: string;
  readonly address: string;
  readonly settings: WorkerSettings;
  /** Runs of tasks take so many times longer. */
  slowness = 1;
  readonly memory: MemorySettings = noLimit();
  /** Whether it comes back by itself, as under a nanny. */
  restarts = true;
  status: "down" | "init" | "running" | "paused" | "closing_gracefully" = "down";
  session: Session | undefined;
  readonly #around: Surroundings;
  readonly #random: Random;
  #starting = false;

  constructor(name: string, address: string, settings: WorkerSettings, around: Surroundings, random: Random) {
    this.name = name;
    this.address = address;
    this.settings = settings;
    this.#around = around;
    this.#random = random;
  }

  /** Starts an executor and registers, as soon as the scheduler has forgotten the worker of this address. */
  start(): void {
    if (this.session !== undefined || this.#starting) return;
    this.#starting = true;
    this.#around.isKnown(this.address, (known) => {
      if (!known) this.#register();
      else {
        this.#around.world.after(FORGET_POLL_S, () => {
          this.#starting = false;
          this.start();
        });
      }
    });
  }

  #register(): void {
    const { world } = this.#around;
    this.status = "init";
    const end = this.#around.connectToScheduler(this.name);
    const session = new Session(this, end, this.#around, this.#random.fork());
    this.#starting = false;
    this.session = session;
    world.note(this.name, "starts", this.address);
    session.register();
  }

  /** Killed: nothing is said to anybody. */
  kill(): void {
    const { session } = this;
    if (session === undefined) return;
    this.#around.world.note(this.name, "is killed");
    session.end();
    session.stream.abort();
    this.ended(session);
  }

  /** The session is over. */
  ended(session: Session): void {
    if (this.session !== session) return;
    this.session = undefined;
    this.status = "down";
    if (this.restarts) this.#around.world.after(this.#random.between(0.01, 1), () => this.start());
  }

  /** Worker.close: says goodbye. */
  close(reason: string): void {
    const { session } = this;
    if (session === undefined) return;
    this.#around.world.note(this.name, "closes", reason);
    this.setStatus("closing");
    session.end();
    session.stream.send({ op: "close-stream" });
    session.stream.close();
    this.ended(session);
  }

  /** Worker.status.setter. */
  setStatus(status: string): void {
    const { session } = this;
    const previous = this.status;
    if (session === undefined) return;
    this.#around.world.note(this.name, "has status", status);
    const stimulusId = `worker-status-change-${this.#around.world.now}`;
    session.send({ op: "worker-status-change", status, stimulus_id: stimulusId });
    if (status !== "closing") this.status = status as SimWorker["status"];
    if (previous === "running" && status !== "running") session.dispatch({ kind: "pause", stimulusId });
    else if (status === "running" && (previous === "paused" || previous === "closing_gracefully")) {
      session.dispatch({ kind: "unpause", stimulusId });
    }
  }

  /** An op of the scheduler stream that is not the state machine's. */
  control(op: string, message: Message): void {
    if (op === "close") this.close(String(message["reason"]));
    else if (op === "worker-status-change") {
      const status = String(message["status"]);
      if (status === "closing_gracefully" && this.status !== "running" && this.status !== "paused") {
        const stimulusId = `worker-status-change-${this.#around.world.now}`;
        this.session?.send({ op: "worker-status-change", status: this.status, stimulus_id: stimulusId });
        return;
      }
      this.setStatus(status);
    } else throw new Violation(`${this.name} got the unknown op ${op}`);
  }
}

export class Session implements ExecutorListener {
  readonly worker: SimWorker;
  readonly stream: End;
  readonly machine: WorkerMachine;
  readonly executor: Executor;
  readonly #memory: ExecutorMemory;
  /** Fails calls that wait for this worker. */
  readonly calls: Set<() => void> = new Set();
  registered = false;
  ended = false;
  readonly #around: Surroundings;
  readonly #held = new HeldValues();
  readonly #sent: Map<string, readonly string[]> = new Map();
  #outgoing = 0;
  #outcomes = 0;
  #watchesAhead = false;
  #handled = 0;

  constructor(worker: SimWorker, stream: End, around: Surroundings, random: Random) {
    const { settings } = worker;
    this.worker = worker;
    this.stream = stream;
    this.#around = around;
    this.machine = new WorkerMachine({
      address: worker.address,
      nthreads: settings.nthreads,
      resources: settings.resources,
      totalOutConnections: settings.connectionsOutgoing,
      transferIncomingBytesLimit: settings.transferIncomingBytesLimit,
      transferMessageBytesLimit: settings.transferMessageBytesLimit,
      transferIncomingBytesThrottleThreshold: settings.transferIncomingBytesThrottleThreshold,
      validate: around.monitor.validates,
      transitionCounterMax: 1e6,
      seed: random.below(2 ** 31),
    });
    this.#memory = new ExecutorMemory(worker.memory);
    this.executor = new Executor(
      around.world,
      around.monitor,
      random,
      worker.name,
      settings.nthreads,
      () => worker.slowness,
      this.#memory,
      this,
    );
  }

  register(): void {
    const { worker } = this;
    const { world } = this.#around;
    this.stream.listen(
      (batch) => this.#onBatch(batch),
      () => {
        if (this.ended) return;
        world.note(worker.name, "lost its stream");
        this.end();
        worker.ended(this);
      },
    );
    const resources = new Map<Value, Value>(Array.from(worker.settings.resources, ([name, n]) => [name, float(n)]));
    this.stream.send({
      op: "register-worker",
      address: worker.address,
      status: "init",
      nthreads: worker.settings.nthreads,
      name: worker.name,
      resources,
      metrics: this.#metrics(),
      now: float(world.now),
    });
  }

  /** Nothing that is still under way has an effect any more. */
  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.executor.end();
    for (const fail of Array.from(this.calls)) fail();
    this.calls.clear();
  }

  send(message: Message): void {
    if (this.registered) this.stream.send(message);
  }

  dispatch(event: WorkerEvent): void {
    if (this.ended) return;
    this.#carryOut(this.machine.handle(event, this.#around.world.now));
    if (++this.#handled % VALIDATE_EVERY === 0 && this.#around.monitor.validates) this.machine.validateState();
    this.#around.monitor.checkWorker(this.worker.name, this.machine);
  }

  #onBatch(batch: readonly Message[]): void {
    const { world } = this.#around;
    for (const message of batch) {
      if (this.ended) return;
      if (!this.registered) {
        this.#onRegistered(message);
        continue;
      }
      const op = String(message["op"]);
      world.note(this.worker.name, op, about(message));
      if (op === "close-stream") {
        this.end();
        this.stream.abort();
        this.worker.ended(this);
      } else if (SCHEDULER_OPS.has(op)) this.dispatch({ kind: op as SchedulerOp, message });
      else this.worker.control(op, message);
    }
  }

  #onRegistered(reply: Message): void {
    const { worker } = this;
    const { world } = this.#around;
    if (reply["status"] !== "OK") {
      // Its predecessor was still known: the process ends, and the next one tries again.
      world.note(worker.name, "is refused");
      this.end();
      this.stream.abort();
      worker.ended(this);
      return;
    }
    this.registered = true;
    worker.setStatus("running");
    this.#every(HEARTBEAT_S, () => this.#heartbeat());
    if (worker.memory.limit !== null) this.#every(MONITOR_S, () => this.#watchMemory());
    this.#every(FIND_MISSING_S, () => this.dispatch({ kind: "find-missing", stimulusId: `find-missing-${world.now}` }));
  }

  /** In the background: goes on for ever. */
  #every(seconds: number, work: () => void): void {
    const { world } = this.#around;
    const again = (): void => {
      if (this.ended) return;
      work();
      world.after(seconds, again, true);
    };
    world.after(seconds, again, true);
  }

  /** MemoryMonitor and TerminationMonitor. */
  #watchMemory(): void {
    const { worker } = this;
    const decision = this.#memory.look(worker.status);
    if (decision === undefined) return;
    this.#around.world.note(worker.name, "uses", `${this.#memory.resident} bytes: ${decision}`);
    if (decision === "SIGKILL") worker.kill();
    else if (decision !== "SIGTERM") worker.setStatus(decision);
    else {
      this.#around.world.after(SIGTERM_S, () => {
        if (!this.ended) worker.kill();
      });
    }
  }

  #metrics(): Map<Value, Value> {
    return new Map<Value, Value>([
      ["memory", this.machine.nbytes],
      ["task_counts", new Map<Value, Value>(this.machine.taskCounts())],
    ]);
  }

  #heartbeat(): void {
    const { now } = this.#around.world;
    const executing = new Map<Value, Value>();
    for (const [key, seconds] of this.machine.executing(now)) executing.set(key, float(seconds));
    const fields = { executing, metrics: this.#metrics(), workerNow: now };
    this.#around.heartbeat(this.worker.address, fields, () => {
      if (!this.ended) this.worker.close("worker-heartbeat-missing");
    });
  }

  #carryOut(instructions: readonly Instruction[]): void {
    for (const instruction of instructions) {
      switch (instruction.kind) {
        case "execute": {
          const needed = instruction.dependencies.map(keyId);
          this.#held.store(instruction.key);
          this.#held.use(needed);
          this.#sent.set(keyId(instruction.key), needed);
          this.executor.execute(instruction);
          if (!this.#watchesAhead && this.machine.aheadCount > 0) this.#watchAhead(this.#outcomes);
          break;
        }
        case "gather":
          this.#gather(instruction.worker, instruction.keys, instruction.totalNbytes);
          break;
        case "retry-busy-worker-later": {
          const { worker } = instruction;
          const stimulusId = `retry-busy-worker-${this.#around.world.now}`;
          this.#around.world.after(
            RETRY_BUSY_S,
            () => this.dispatch({ kind: "retry-busy-worker", worker, stimulusId }),
            false,
          );
          break;
        }
        case "send":
          this.send(instruction.message);
          break;
        case "drop":
          this.#drop(this.#held.droppable(instruction.keys));
          break;
        case "cancel":
          this.executor.cancel(instruction.key);
          break;
        case "transition":
          break;
        case "fail":
          throw new Violation(`${this.worker.name} is broken: ${instruction.reason}`, { cause: instruction.error });
        default:
          instruction satisfies never;
      }
    }
  }

  #drop(keys: readonly Key[]): void {
    if (keys.length > 0) this.executor.drop(keys);
  }

  #put(values: ReadonlyMap<Key, number>, done: () => void): void {
    for (const [key, value] of values) {
      this.#held.store(key);
      this.#around.monitor.checkValue(keyId(key), value, `for ${this.worker.name}`);
    }
    this.executor.put(values, done);
  }

  #stored(values: ReadonlyMap<Key, number>): StoredValue[] {
    const { monitor } = this.#around;
    return Array.from(values.keys(), (key) => ({
      key,
      nbytes: monitor.task(keyId(key)).behaviour.nbytes,
      type: TYPE,
      typename: TYPENAME,
    }));
  }

  #gather(worker: string, keys: readonly Key[], totalNbytes: number): void {
    const { world } = this.#around;
    const start = world.now;
    this.#around.callWorker<PeerData>(
      worker,
      (session, respond) => session.getData(keys, respond),
      (reply) => {
        if (this.ended) return;
        const stimulusId = `gather-dep-${world.now}`;
        if (reply === "busy") {
          world.note(this.worker.name, "finds busy", worker);
          this.dispatch({ kind: "gather-busy", worker, totalNbytes, stimulusId });
          return;
        }
        const stop = world.now;
        this.#put(reply, () => {
          world.note(this.worker.name, "received", `${Array.from(reply.keys(), keyId).join(" ")} from ${worker}`);
          const received = this.#stored(reply);
          this.dispatch({ kind: "gather-success", worker, totalNbytes, received, start, stop, stimulusId });
        });
      },
      () => {
        if (this.ended) return;
        world.note(this.worker.name, "cannot reach", worker);
        const stimulusId = `gather-dep-network-failure-${world.now}`;
        this.dispatch({ kind: "gather-network-failure", worker, totalNbytes, stimulusId });
      },
    );
  }

  /** `get_data`; the slot is held until the peer has said that it has everything. */
  getData(keys: readonly Key[], respond: (reply: PeerData) => void): void {
    const limit = this.worker.status === "paused" ? 1 : this.worker.settings.connectionsIncoming;
    if (this.#outgoing >= limit) {
      respond("busy");
      return;
    }
    this.#outgoing++;
    this.executor.get(keys, (values) => {
      respond(values);
      const { network } = this.#around;
      network.pass(() => network.pass(() => this.#outgoing--));
    });
  }

  /** `update_data`: scattered values. */
  updateData(values: ReadonlyMap<Key, number>, respond: (nbytes: Map<Key, number>) => void): void {
    this.#put(values, () => {
      const entries = this.#stored(values);
      this.dispatch({ kind: "update-data", entries, stimulusId: `update-data-${this.#around.world.now}` });
      respond(new Map(entries.map(({ key, nbytes }) => [key, nbytes])));
    });
  }

  /** As `Session` of the worker package does. */
  #watchAhead(seen: number): void {
    this.#watchesAhead = true;
    const { world } = this.#around;
    world.after(
      AHEAD_PATIENCE_S,
      () => {
        this.#watchesAhead = false;
        if (this.ended || this.machine.aheadCount === 0) return;
        if (seen !== this.#outcomes) {
          this.#watchAhead(this.#outcomes);
          return;
        }
        this.executor.recall((keys) => {
          world.note(this.worker.name, "takes back", keys.map(keyId).join(" "));
          for (const key of keys) {
            this.#drop(this.#held.release(this.#sent.get(keyId(key)) ?? []));
            this.#sent.delete(keyId(key));
          }
          this.dispatch({ kind: "recalled", keys, stimulusId: `recall-${world.now}` });
        });
      },
      false,
    );
  }

  // What the executor reports.

  outcome(key: Key, runId: number, outcome: Outcome, start: number, stop: number, thread: number | null): void {
    this.#outcomes++;
    const { world } = this.#around;
    const id = keyId(key);
    world.note(this.worker.name, `ran (${outcome.kind})`, id);
    const needed = this.#sent.get(id) ?? [];
    this.#sent.delete(id);
    this.#drop(this.#held.release(needed));
    const stimulusId = `task-${outcome.kind}-${world.now}`;
    const common = { key, runId, start, stop, thread, startstops: [], stimulusId };
    if (outcome.kind === "reschedule") this.dispatch({ kind: "reschedule", key, stimulusId });
    else if (outcome.kind === "failure") {
      const { exception } = outcome;
      const error = { exception, traceback: "traceback", exceptionText: exception, tracebackText: "" };
      this.dispatch({ kind: "execute-failure", error, ...common });
    } else {
      const nbytes = asNumber(outcome.nbytes, 0);
      this.dispatch({ kind: "execute-success", nbytes, type: TYPE, typename: TYPENAME, metadata: null, ...common });
    }
  }

  seceded(key: Key, computeDuration: number): void {
    this.#around.world.note(this.worker.name, "seceded", keyId(key));
    this.dispatch({ kind: "secede", key, computeDuration, stimulusId: `secede-${this.#around.world.now}` });
  }

  died(): void {
    this.worker.kill();
  }
}

/** What a message is about, for the story. */
export function about(message: Message): string {
  const { key, keys, run_id: runId, worker } = message;
  if (typeof worker === "string") return worker;
  if (keys !== undefined) return Array.from(keys as Iterable<Value>, keyId).join(" ");
  const whoHas = message["who_has"];
  if (key === undefined && whoHas instanceof Map) return Array.from(whoHas.keys(), keyId).join(" ");
  if (key === undefined) return String(message["status"] ?? message["reason"] ?? "");
  return runId === undefined ? keyId(key) : `${keyId(key)} run ${String(runId)}`;
}
