/** A cluster: scheduler, graph host, workers and clients, joined by the network. */
import type { CoreConfig } from "../../packages/scheduler/src/core/index.ts";
import type { SimClient } from "./client.ts";
import { GraphHost } from "./graph-host.ts";
import { Monitor } from "./monitor.ts";
import { Network, type NetworkSettings } from "./network.ts";
import type { Random } from "./random.ts";
import { SimScheduler } from "./scheduler.ts";
import { type Session, SimWorker, type Surroundings, type WorkerSettings } from "./worker.ts";
import type { World } from "./world.ts";

export interface ClusterSettings {
  readonly workers: number;
  readonly network: NetworkSettings;
  /** Mean seconds that the opening of a graph takes. */
  readonly graphSeconds: number;
  readonly core: CoreConfig;
}

export class Cluster {
  readonly world: World;
  readonly network: Network;
  readonly monitor: Monitor = new Monitor();
  readonly graphHost: GraphHost;
  readonly scheduler: SimScheduler;
  readonly workers: SimWorker[] = [];
  readonly clients: SimClient[] = [];

  constructor(world: World, settings: ClusterSettings) {
    const random = world.random.fork();
    this.world = world;
    this.network = new Network(world, settings.network);
    this.graphHost = new GraphHost(world, this.monitor, random.fork(), settings.graphSeconds);
    const callWorker: Surroundings["callWorker"] = (...call) => this.#callWorker(...call);
    this.scheduler = new SimScheduler(settings.core, {
      world,
      network: this.network,
      monitor: this.monitor,
      graphHost: this.graphHost,
      random: random.fork(),
      callWorker,
    });
    const around: Surroundings = {
      world,
      network: this.network,
      monitor: this.monitor,
      connectToScheduler: (name) => {
        const [mine, theirs] = this.network.connect(name, "scheduler");
        this.scheduler.acceptWorker(theirs);
        return mine;
      },
      heartbeat: (address, fields, missing) => {
        this.network.pass(() => {
          if (!this.scheduler.heartbeat(address, fields)) this.network.pass(missing);
        });
      },
      isKnown: (address, reply) => {
        this.network.pass(() => {
          const known = this.scheduler.core.state.workers.has(address);
          this.network.pass(() => reply(known));
        });
      },
      callWorker,
    };
    for (let i = 0; i < settings.workers; i++) {
      // Some on one host: transfers prefer those.
      const address = `tcp://10.0.0.${1 + (i >> 1)}:${4000 + i}`;
      this.workers.push(new SimWorker(`w${i}`, address, workerSettings(random, i), around, random.fork()));
    }
  }

  /** A call with a connection of its own; see {@link Surroundings.callWorker}. */
  #callWorker<T>(
    address: string,
    handler: (session: Session, respond: (reply: T) => void) => void,
    onReply: (reply: T) => void,
    onLost: () => void,
  ): void {
    const { network } = this;
    network.pass(() => {
      const session = this.workers.find((worker) => worker.address === address)?.session;
      if (session === undefined || !session.registered) {
        network.pass(onLost);
        return;
      }
      let open = true;
      const lost = (): void => {
        open = false;
        network.pass(onLost);
      };
      session.calls.add(lost);
      handler(session, (reply) => {
        if (!open) return;
        open = false;
        session.calls.delete(lost);
        network.pass(() => onReply(reply));
      });
    });
  }
}

function workerSettings(random: Random, number: number): WorkerSettings {
  const tight = random.chance(0.3);
  // Whatever a task may ask for, the first worker has it.
  const resources: [string, number][] = number === 0 || random.chance(0.3) ? [["R", 2]] : [];
  return {
    nthreads: 1 + random.below(3),
    resources: new Map(resources),
    connectionsIncoming: random.pick([1, 2, 10]),
    connectionsOutgoing: tight ? 1 : 50,
    transferIncomingBytesLimit: tight ? 5000 : Number.POSITIVE_INFINITY,
    transferMessageBytesLimit: tight ? 1000 : 50e6,
    transferIncomingBytesThrottleThreshold: tight ? 500 : 10e6,
  };
}
