/** The scheduler: the real core, with a model of the shell around it (server/scheduler.ts, server/*-stream.ts). */
import { asNumber, type Key, keyId, type Message, type Value } from "../../packages/protocol/src/index.ts";
import {
  ActiveMemoryManager,
  BadMessageError,
  type CoreConfig,
  type Graph,
  ReduceReplicas,
  RetireWorker,
  SchedulerCore,
  TASK_STATES,
  UnknownKeyError,
  type UpdateGraphRequest,
  validateState,
  WorkStealing,
} from "../../packages/scheduler/src/core/index.ts";
import type { GraphHost } from "./graph-host.ts";
import type { Monitor } from "./monitor.ts";
import type { End, Network } from "./network.ts";
import type { Random } from "./random.ts";
import { about, type HeartbeatFields, type PeerData, type Surroundings } from "./worker.ts";
import type { World } from "./world.ts";

/** Calls of the shell between two looks at the whole state. */
const VALIDATE_EVERY = 24;
const GATHER_ROUNDS = 12;
const BUSY_S = 0.15;
const STEALING_S = 0.1;
/** Stock has 2 s. */
const MEMORY_S = 0.5;

/** The stream of one worker; see server/streams.ts. */
class WorkerStream {
  readonly address: string;
  readonly end: End;
  removed = false;
  #held: Message[] | undefined = [];

  constructor(address: string, end: End) {
    this.address = address;
    this.end = end;
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    this.end.send(...held);
  }

  queue(messages: readonly Message[]): void {
    if (this.#held !== undefined) this.#held.push(...messages);
    else this.end.send(...messages);
  }
}

export interface SchedulerParts {
  readonly world: World;
  readonly network: Network;
  readonly monitor: Monitor;
  readonly graphHost: GraphHost;
  readonly random: Random;
  readonly callWorker: Surroundings["callWorker"];
}

export class SimScheduler {
  readonly core: SchedulerCore;
  readonly #memory: ActiveMemoryManager;
  readonly #parts: SchedulerParts;
  readonly #workers: Map<string, WorkerStream> = new Map();
  readonly #clients: Map<string, End> = new Map();
  /** Graphs that wait until the one before them is taken in. */
  readonly #graphs: (() => void)[] = [];
  #takingIn = false;
  #applying = 0;
  #applied = 0;

  constructor(config: CoreConfig, parts: SchedulerParts) {
    this.#parts = parts;
    this.core = new SchedulerCore(config, parts.world.now);
    parts.monitor.watch(this.core);
    const stealing = new WorkStealing(this.core);
    this.core.stealing = stealing;
    this.#memory = new ActiveMemoryManager(this.core, "optimistic");
    this.#memory.policies.add(new ReduceReplicas());
    this.#every(MEMORY_S, () => this.apply((_core, now) => this.#memory.runOnce(now)));
    this.#every(STEALING_S, () => this.apply((_core, now) => stealing.balance(now)));
    const { world } = parts;
    if (world.story.keepsLines) {
      this.core.listeners.transition.push((ts, start, finish, extra) => {
        const step = `${TASK_STATES[start]} -> ${TASK_STATES[finish]}`;
        world.story.detail(world.now, "scheduler", `    ${ts.id}: ${step}`, extra.stimulusId);
      });
    }
    this.#every(0.25, () => {
      this.apply((core, now) => core.checkIdle(now));
      this.apply((core, now) => core.checkNoWorkers(now));
    });
  }

  #every(seconds: number, work: () => void): void {
    const again = (): void => {
      work();
      this.#parts.world.after(seconds, again, true);
    };
    this.#parts.world.after(seconds, again, true);
  }

  apply<T>(work: (core: SchedulerCore, now: number) => T): T {
    this.#applying++;
    try {
      return work(this.core, this.#parts.world.now);
    } finally {
      if (--this.#applying === 0) this.#flush();
    }
  }

  #flush(): void {
    const { outbox } = this.core;
    const { monitor } = this.#parts;
    if (!outbox.empty) {
      for (const [client, messages] of outbox.toClients) this.#clients.get(client)?.send(...messages);
      for (const [address, messages] of outbox.toWorkers) this.#workers.get(address)?.queue(messages);
      const removed = [...outbox.closeWorkers];
      outbox.clear();
      for (const address of removed) this.#detach(address);
    }
    if (++this.#applied % VALIDATE_EVERY === 0 && monitor.validates) validateState(this.core);
    monitor.checkScheduler(this.core);
  }

  #detach(address: string): void {
    const stream = this.#workers.get(address);
    if (stream === undefined) return;
    this.#workers.delete(address);
    stream.removed = true;
    stream.release();
    stream.end.flush();
  }

  // Workers.

  acceptWorker(end: End): void {
    let stream: WorkerStream | undefined;
    // What it still sends, a goodbye perhaps, is nobody's.
    let refused = false;
    end.listen(
      (batch) => {
        if (refused) return;
        const registered = stream !== undefined;
        if (!registered) stream = this.#register(end, batch[0] as Message);
        refused = stream === undefined;
        if (stream !== undefined) this.#onWorkerBatch(stream, registered ? batch : batch.slice(1));
      },
      () => {
        if (stream === undefined || this.#workers.get(stream.address) !== stream) return;
        this.#parts.world.note("scheduler", "lost the stream of", stream.address);
        const stimulusId = `handle-worker-cleanup-${this.#parts.world.now}`;
        const { address } = stream;
        this.apply((core, now) => core.removeWorker(address, { stimulusId }, now));
      },
    );
  }

  #register(end: End, fields: Message): WorkerStream | undefined {
    const address = String(fields["address"]);
    const resources = new Map<string, number>();
    for (const [name, n] of fields["resources"] as Map<string, Value>) resources.set(name, asNumber(n, 0));
    const stream = this.apply((core, now) => {
      const result = core.addWorker(
        {
          address,
          host: address.slice("tcp://".length, address.lastIndexOf(":")),
          status: "init",
          serverId: `Worker-${address}-${now}`,
          name: fields["name"] ?? null,
          nthreads: asNumber(fields["nthreads"], 1),
          memoryLimit: 0,
          localDirectory: "",
          nanny: null,
          pid: 1,
          services: new Map(),
          versions: new Map(),
          metrics: fields["metrics"] as Map<Value, Value>,
          extra: new Map(),
          resources,
          workerNow: asNumber(fields["now"], 0),
          stimulusId: `worker-connect-${now}`,
        },
        now,
      );
      if (result.status !== "OK") return undefined;
      const made = new WorkerStream(address, end);
      this.#workers.set(address, made);
      return made;
    });
    this.#parts.world.note("scheduler", stream === undefined ? "refuses" : "registers", address);
    end.send({ op: "registered", status: stream === undefined ? "error" : "OK" });
    stream?.release();
    return stream;
  }

  #onWorkerBatch(stream: WorkerStream, batch: readonly Message[]): void {
    const { address } = stream;
    const { world, monitor } = this.#parts;
    this.apply((core, now) => {
      for (const message of batch) {
        const op = String(message["op"]);
        world.note("scheduler", `${op} of ${address}`, about(message));
        if (op === "close-stream") {
          stream.end.close();
          this.#gone(stream);
          return;
        }
        if (stream.removed) continue;
        monitor.fromWorker(address, message);
        core.workerMessage(address, message, now);
      }
    });
  }

  #gone(stream: WorkerStream): void {
    if (this.#workers.get(stream.address) !== stream) return;
    const stimulusId = `handle-worker-cleanup-${this.#parts.world.now}`;
    this.apply((core, now) => core.removeWorker(stream.address, { stimulusId }, now));
  }

  /** The connection breaks on this side. */
  breakStream(address: string): void {
    const stream = this.#workers.get(address);
    if (stream === undefined) return;
    this.#parts.world.note("scheduler", "breaks the stream of", address);
    stream.end.abort();
    this.#gone(stream);
  }

  // Clients.

  acceptClient(client: string, end: End): void {
    this.#clients.set(client, end);
    this.apply((core, now) => core.addClient(client, now));
    const inbox: Message[] = [];
    let waiting = false;
    const next = (): void => {
      this.apply(() => {
        while (inbox.length > 0 && !waiting) {
          const message = inbox.shift() as Message;
          if (this.#clients.get(client) !== end) return;
          waiting = this.#onClientMessage(client, end, message, () => {
            waiting = false;
            next();
          });
        }
      });
    };
    end.listen(
      (batch) => {
        inbox.push(...batch);
        next();
      },
      () => this.#removeClient(client, end),
    );
  }

  #removeClient(client: string, end: End): void {
    if (this.#clients.get(client) !== end) return;
    this.#parts.world.note("scheduler", "removes the client", client);
    this.#clients.delete(client);
    this.apply((core, now) => core.removeClient(client, now));
  }

  /** @returns true where the stream has to wait until `done` is called. */
  #onClientMessage(client: string, end: End, message: Message, done: () => void): boolean {
    const op = String(message["op"]);
    this.#parts.world.note("scheduler", `${op} of ${client}`, about(message));
    switch (op) {
      case "update-graph":
        this.#updateGraph(client, message, done);
        return true;
      case "close-client":
        this.#removeClient(client, end);
        return false;
      default: {
        const named = message["client"];
        const who = typeof named === "string" ? named : client;
        this.apply((core, now) => core.clientMessage(who, message, now));
        return false;
      }
    }
  }

  #updateGraph(client: string, message: Message, done: () => void): void {
    const { world, graphHost, monitor } = this.#parts;
    const keys = message["keys"] as Key[];
    const submission = String(message["submission"]);
    const start = world.now;
    this.core.state.activeGraphUpdates++;
    graphHost.open(
      submission,
      (graph) => {
        this.core.state.activeGraphUpdates--;
        const { actors, fifoTimeout, userPriority, internalPriority } = monitor.submission(submission);
        const request: UpdateGraphRequest = {
          client,
          graph,
          keys,
          internalPriority,
          submittingTask: null,
          fifoTimeout,
          actors,
          userPriority,
          stimulusId: `update-graph-${submission}`,
          start,
          materialized: world.now,
        };
        this.#graphs.push(() => this.#takeIn(request, submission, graph, done));
        this.#nextGraph();
      },
      (exception) => {
        this.core.state.activeGraphUpdates--;
        const failure = { exception, traceback: null, message: exception };
        this.apply((core, now) => core.graphFailed(client, keys, failure, now));
        done();
      },
    );
  }

  #nextGraph(): void {
    if (this.#takingIn) return;
    const take = this.#graphs.shift();
    if (take === undefined) return;
    this.#takingIn = true;
    take();
  }

  #takeIn(request: UpdateGraphRequest, submission: string, graph: Graph, done: () => void): void {
    const { world, monitor } = this.#parts;
    const steps = this.apply((core, now) => core.updateGraph(request, now));
    const step = (): void => {
      const result = this.apply((_core, now) => steps.next(now));
      if (!result.done) {
        world.after(0.0001, step, false);
        return;
      }
      world.note("scheduler", `took in ${submission}`, result.value.status);
      monitor.tookIn(submission, graph, result.value);
      this.#takingIn = false;
      done();
      this.#nextGraph();
    };
    step();
  }

  // Calls from elsewhere: each comes by a connection of its own.

  heartbeat(address: string, fields: HeartbeatFields): boolean {
    return this.apply((core, now) =>
      core.heartbeat(
        {
          address,
          workerNow: fields.workerNow,
          metrics: fields.metrics,
          executing: fields.executing,
          resources: null,
          hostInfo: null,
        },
        now,
      ),
    );
  }

  retry(keys: readonly Key[], client: string): void {
    this.#parts.world.note("scheduler", `retry of ${client}`, keys.map(keyId).join(" "));
    try {
      this.apply((core, now) => core.retry(keys, client, now));
    } catch (error) {
      if (!(error instanceof UnknownKeyError)) throw error;
    }
  }

  restart(): void {
    this.#parts.world.note("scheduler", "restart");
    this.#parts.monitor.restarted();
    this.apply((core, now) => core.restart(now, `restart-${now}`));
    for (const address of Array.from(this.core.state.workers.keys())) this.#remove(address, false, true);
  }

  #remove(address: string, expected: boolean, close: boolean): void {
    const stimulusId = `remove-worker-${this.#parts.world.now}`;
    this.apply((core, now) => core.removeWorker(address, { stimulusId, expected, close }, now));
  }

  /** Scheduler.scatter of one value; `respond` gets false where it could not be done. */
  scatter(key: Key, value: number, client: string, respond: (done: boolean) => void): void {
    const { running } = this.core.state;
    if (running.size === 0) {
      respond(false);
      return;
    }
    const ws = running.at(this.#parts.random.below(running.size));
    const { address } = ws;
    this.#parts.callWorker<Map<Key, number>>(
      address,
      (session, answer) => session.updateData(new Map([[key, value]]), answer),
      (nbytes) => {
        this.#parts.world.note("scheduler", `scattered to ${address}`, keyId(key));
        const now = this.core.state.workers.get(address);
        if (now !== ws) {
          // Another worker has come to that address, and may be the one that got it.
          if (now !== undefined && this.core.state.taskOf(key)?.whoHas.has(now) !== true) {
            const stimulusId = `scatter-failed-${this.#parts.world.now}`;
            this.apply(({ outbox }) => {
              outbox.worker(address, { op: "free-keys", keys: [key], stimulus_id: stimulusId });
            });
          }
          respond(false);
          return;
        }
        try {
          this.apply((core, now) => core.updateData(new Map([[key, [address]]]), nbytes, client, now));
          respond(true);
        } catch (error) {
          if (!(error instanceof BadMessageError)) throw error;
          // The worker has gone meanwhile.
          respond(false);
        }
      },
      () => respond(false),
    );
  }

  /** Scheduler.gather; `respond` gets the values that could be had. */
  gather(keys: readonly Key[], respond: (values: Map<string, number>) => void): void {
    const { world, random, callWorker } = this.#parts;
    const values = new Map<string, number>();
    const lost = new Set<string>();
    let rounds = 0;
    const round = (): void => {
      const byWorker = new Map<string, Key[]>();
      for (const key of keys) {
        if (values.has(keyId(key))) continue;
        const holders = this.core.state.taskOf(key)?.whoHas.items.filter((ws) => !lost.has(ws.address)) ?? [];
        if (holders.length === 0) continue;
        const { address } = random.pick(holders);
        byWorker.set(address, [...(byWorker.get(address) ?? []), key]);
      }
      if (byWorker.size === 0 || rounds++ >= GATHER_ROUNDS) {
        respond(values);
        return;
      }
      let open = byWorker.size;
      let busy = false;
      const ready = (): void => {
        if (--open > 0) return;
        if (!busy) round();
        else {
          // A busy worker has what it has: as in Dask it is asked until it answers.
          rounds--;
          world.after(BUSY_S, round, false);
        }
      };
      for (const [address, wanted] of byWorker) {
        callWorker<PeerData>(
          address,
          (session, answer) => session.getData(wanted, answer),
          (reply) => {
            if (reply === "busy") busy = true;
            else for (const [key, value] of reply) values.set(keyId(key), value);
            ready();
          },
          () => {
            lost.add(address);
            ready();
          },
        );
      }
    };
    round();
  }

  /** Scheduler.retire_workers for one worker. */
  retire(address: string): void {
    const ws = this.core.state.workers.get(address);
    if (ws === undefined) return;
    const { world } = this.#parts;
    const stimulusId = `retire-workers-${world.now}`;
    const previous = ws.status === "closing_gracefully" ? "running" : ws.status;
    world.note("scheduler", "retires", address);
    this.apply((core, now) => {
      core.workerStatusChange(address, "closing_gracefully", stimulusId, now);
      core.outbox.worker(address, {
        op: "worker-status-change",
        status: "closing_gracefully",
        stimulus_id: stimulusId,
      });
    });
    const policy = new RetireWorker(address);
    this.#memory.policies.add(policy);
    this.apply((_core, now) => this.#memory.runOnce(now));
    const look = (): void => {
      if (!policy.done(this.core.state)) {
        world.after(Math.max(0.01, Math.min(0.5, ws.hasWhat.size * 0.0025)), look, false);
        return;
      }
      if (this.core.state.workers.get(address) !== ws) return;
      world.note("scheduler", policy.noRecipients ? "could not retire" : "retired", address);
      if (!policy.noRecipients) this.#remove(address, true, true);
      else {
        const message = { op: "worker-status-change", status: previous, stimulus_id: stimulusId };
        this.#workers.get(address)?.queue([message]);
      }
    };
    look();
  }
}
