/** One run: a cluster, its clients and its faults, all decided by the seed; and what must hold afterwards. */
import { formatKey } from "../../packages/protocol/src/index.ts";
import { DEFAULT_CORE_CONFIG } from "../../packages/scheduler/src/core/index.ts";
import { BUGS } from "./bugs.ts";
import { SimClient } from "./client.ts";
import { Cluster } from "./cluster.ts";
import { checkAtRest, checkDeserted, checkEmpty } from "./invariants.ts";
import { makeException } from "./monitor.ts";
import { Random } from "./random.ts";
import { Story } from "./story.ts";
import { GraphMaker, type Habits, type Submission, type Task } from "./tasks.ts";
import { Violation, World } from "./world.ts";

export interface RunOptions {
  readonly seed: number;
  /** A bug that is put in on purpose; see bugs.ts. */
  readonly bug?: string;
  /** Keep the lines of the story. */
  readonly keepStory?: boolean;
  /** Look at the whole state of the scheduler after every event, not only after some: slow, and the story is the same. */
  readonly validate?: boolean;
  /** Find what is wrong without the cores' own checks. */
  readonly blind?: boolean;
  /** Gets the cluster before anything happens in it. */
  readonly watch?: (cluster: Cluster) => void;
}

export interface RunResult {
  readonly seed: number;
  /** Of the story: two runs of a seed have the same. */
  readonly hash: string;
  /** Things that happened. */
  readonly events: number;
  /** Virtual seconds. */
  readonly seconds: number;
  readonly lines: readonly string[];
  /** Messages delivered, by op. */
  readonly delivered: ReadonlyMap<string, number>;
  readonly failure: Error | undefined;
}

/** Events in a run; more are taken for a livelock. */
const EVENT_LIMIT = 300_000;
/** Runs in which workers have too little memory. */
const SCARCE_MEMORY = 0.25;
/** Virtual seconds that a cluster may take to come to rest. */
const REST_S = 2000;

/** Runs a seed. Never throws: what went wrong is in the result. */
export function run(options: RunOptions): RunResult {
  const story = new Story(options.keepStory ?? false);
  const world = new World(new Random(options.seed), story);
  let delivered: ReadonlyMap<string, number> = new Map();
  let tasks: ReadonlyMap<string, Task> = new Map();
  let failure: Error | undefined;
  try {
    const simulation = new Simulation(world, options.validate ?? false, new Random(options.seed + 2));
    if (options.blind === true) simulation.cluster.monitor.validates = false;
    tasks = simulation.cluster.monitor.tasks;
    delivered = simulation.cluster.network.delivered;
    if (options.bug !== undefined) {
      const plant = BUGS.get(options.bug);
      if (plant === undefined) throw new RangeError(`there is no bug ${options.bug}`);
      plant(simulation.cluster, new Random(options.seed + 1));
    }
    options.watch?.(simulation.cluster);
    simulation.run();
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
  }
  if (failure !== undefined) failure.message = readable(failure.message, tasks);
  const lines = story.lines.map((line) => readable(line, tasks));
  const { hash, count } = story;
  return { seed: options.seed, hash, events: count, seconds: world.now - 1000, lines, delivered, failure };
}

/** Puts keys where their ids are: those of tuples are not for the eye. */
function readable(text: string, tasks: ReadonlyMap<string, Task>): string {
  if (!text.includes("\0")) return text;
  let out = text;
  for (const { id, key } of tasks.values())
    if (out.includes(id)) out = out.replaceAll(id, formatKey(key).replace(" ", ""));
  return out;
}

/** How much of what goes wrong in a run. */
interface Trouble {
  /** Mean seconds between two faults; Infinity for none. */
  readonly pause: number;
  readonly kinds: readonly Fault[];
}

type Fault = "kill" | "break" | "pause" | "slow" | "retire" | "restart" | "graph-host" | "client" | "worker-close";

const FAULTS: readonly Fault[] = [
  "kill",
  "kill",
  "break",
  "pause",
  "pause",
  "slow",
  "retire",
  "graph-host",
  "client",
  "worker-close",
];

class Simulation {
  readonly cluster: Cluster;
  readonly #world: World;
  readonly #random: Random;
  readonly #graphs: GraphMaker;
  readonly #trouble: Trouble;
  /** Virtual seconds in which clients and faults act. */
  readonly #busy: number;
  readonly #submissions: Submission[] = [];
  #clients = 0;
  #scattered = 0;
  #acting = true;

  /** @param memory whether it is scarce; drawn apart, so that it shifts nothing else */
  constructor(world: World, validate: boolean, memory: Random) {
    this.#world = world;
    const { random } = world;
    this.#random = random.fork();
    const slow = random.chance(0.2);
    const stalling = random.chance(0.4);
    const seconds = random.pick([0.001, 0.02, 0.1, 0.5]);
    const infinite = random.chance(0.25);
    const calm = random.chance(0.15);
    this.#trouble = {
      pause: calm ? Number.POSITIVE_INFINITY : random.pick([0.1, 0.4, 1, 3]),
      kinds: random.chance(0.5) ? random.some(FAULTS, 0.5) : random.chance(0.2) ? [...FAULTS, "restart"] : FAULTS,
    };
    this.#busy = random.between(0.5, 8);
    this.cluster = new Cluster(world, {
      workers: 1 + random.below(5),
      network: {
        latency: slow ? 0.02 : 0.0002,
        jitter: slow ? 0.05 : random.pick([0.0001, 0.002, 0.01]),
        stallChance: stalling ? random.pick([0.002, 0.02]) : 0,
        stall: random.pick([0.2, 1]),
      },
      graphSeconds: random.pick([0.001, 0.02, 0.2]),
      core: {
        ...DEFAULT_CORE_CONFIG,
        makeException,
        validate,
        workerSaturation: infinite ? Number.POSITIVE_INFINITY : random.pick([1, 1.1, 1.1, 2]),
        tasksPerYield: random.pick([1, 4, 1000]),
        allowedFailures: random.pick([0, 1, 3, 3]),
        rootishTaskgroup: random.pick([5, 5, 2]),
        bandwidth: random.pick([1e6, 1e8]),
      },
    });
    const rare = (): number => (random.chance(0.5) ? 0 : random.pick([0.02, 0.1]));
    const habits: Habits = {
      seconds,
      nbytes: random.pick([10, 1e4, 1e6]),
      failing: rare() * 0.5,
      flaky: rare(),
      rescheduling: rare(),
      deadly: rare() * 0.2,
      seceding: rare(),
      annotated: rare() * 2,
      size: random.pick([4, 12, 30, 60]),
      addresses: this.cluster.workers.map(({ address }) => address),
    };
    this.#graphs = new GraphMaker(random.fork(), habits);
    if (memory.chance(SCARCE_MEMORY)) this.#makeScarce(memory, habits.nbytes);
  }

  run(): void {
    const { cluster } = this;
    const world = this.#world;
    for (const worker of cluster.workers) {
      if (this.#random.chance(0.8)) worker.start();
      else this.#later(2, () => worker.start());
    }
    const clients = 1 + this.#random.below(3);
    for (let i = 0; i < clients; i++) this.#addClient();
    this.#every(this.#random.pick([0.05, 0.2, 0.6]), () => this.#clientActs());
    this.#every(this.#trouble.pause, () => this.#fault());
    world.runUntil(world.now + this.#busy, EVENT_LIMIT);

    this.#acting = false;
    this.#calmDown();
    this.#rest("all that was wanted has ended");
    this.#gatherAll();
    this.#rest("all was gathered");
    for (const client of cluster.clients) this.#releaseAll(client);
    this.#rest("all was released");
    checkEmpty(cluster);
    for (const client of cluster.clients) client.leave(this.#random.chance(0.5));
    for (const worker of cluster.workers) {
      worker.restarts = false;
      worker.close("the run ends");
    }
    world.settle(REST_S, EVENT_LIMIT);
    checkDeserted(cluster);
  }

  /** Some workers hold only so many of the usual values. */
  #makeScarce(random: Random, nbytes: number): void {
    for (const { memory } of this.cluster.workers) {
      if (random.chance(0.3)) continue;
      memory.limit = nbytes * random.pick([3, 8, 25]);
      memory.spills = random.chance(0.7);
    }
  }

  #rest(what: string): void {
    this.#world.settle(REST_S, EVENT_LIMIT);
    this.#world.note("run", "at rest", what);
    checkAtRest(this.cluster);
  }

  /** Every fault is repaired, so that everything can be done. */
  #calmDown(): void {
    this.#world.note("run", "calms down");
    for (const worker of this.cluster.workers) {
      worker.restarts = true;
      worker.slowness = 1;
      worker.memory.limit = null;
      if (worker.status === "paused") worker.setStatus("running");
      worker.start();
    }
  }

  #gatherAll(): void {
    for (const client of this.cluster.clients) {
      if (client.left) continue;
      const tasks = client.withStatus("finished").map(({ task }) => task);
      client.gather(tasks, (missing) => {
        if (missing.length > 0)
          throw new Violation(`${client.name} cannot get ${missing.map(({ id }) => id).join(" ")}`);
      });
    }
  }

  #releaseAll(client: SimClient): void {
    if (client.left) return;
    const tasks = [...client.futures.values()].map(({ task }) => task);
    while (tasks.length > 0) client.release(tasks.splice(this.#random.below(tasks.length), 1 + this.#random.below(9)));
  }

  /** Again and again while the run is busy, with this mean pause. */
  #every(seconds: number, work: () => void): void {
    if (seconds === Number.POSITIVE_INFINITY) return;
    const again = (): void => {
      if (!this.#acting) return;
      work();
      this.#world.after(this.#random.exponential(seconds), again, false);
    };
    this.#world.after(this.#random.exponential(seconds), again, false);
  }

  #later(seconds: number, work: () => void): void {
    this.#world.after(this.#random.between(0, seconds), work, false);
  }

  // Clients.

  #addClient(): SimClient {
    const client = new SimClient(`client-${this.#clients++}`, this.cluster);
    this.cluster.clients.push(client);
    return client;
  }

  #clientActs(): void {
    const random = this.#random;
    const present = this.cluster.clients.filter((client) => !client.left);
    if (present.length === 0) {
      this.#addClient();
      return;
    }
    const client = random.pick(present);
    const tasks = [...client.futures.values()].map(({ task }) => task);
    const dice = random.below(100);
    if (dice < 30) this.#submit(client);
    else if (dice < 45) client.release(random.some(tasks, 0.3));
    else if (dice < 50) client.release(tasks);
    else if (dice < 58) client.gather(client.withStatus("finished").map(({ task }) => task));
    else if (dice < 66) this.#retry(client);
    else if (dice < 72) client.cancel(random.some(tasks, 0.2), random.chance(0.3));
    else if (dice < 82) this.#scatter(client);
    else if (dice < 88) this.#desire(client, random.pick(present));
    else if (dice < 91 && tasks.length > 0) client.fireAndForget(random.pick(tasks));
    else if (dice < 94) this.#addClient();
    else client.heartbeat();
  }

  #submit(client: SimClient): void {
    const random = this.#random;
    const known = client.known();
    // The same graph again: with what it depends on from elsewhere, if anything.
    const again = this.#submissions.filter(({ externals }) => externals.every((task) => known.includes(task)));
    const old = again.length > 0 && random.chance(0.15);
    const submission = old ? random.pick(again) : this.#graphs.submission(known);
    if (!old) {
      this.#submissions.push(submission);
      const { monitor } = this.cluster;
      monitor.submissions.set(submission.name, submission);
      for (const task of submission.tasks) monitor.tasks.set(task.id, task);
    }
    client.submit(submission);
  }

  #retry(client: SimClient): void {
    const erred = client.withStatus("error").map(({ task }) => task);
    if (erred.length > 0) client.retry(this.#random.some(erred, 0.7));
  }

  #scatter(client: SimClient): void {
    const again = client.known().filter((task) => task.runSpec === null);
    let task: Task;
    if (again.length > 0 && this.#random.chance(0.2)) {
      task = this.#random.pick(again);
      // A release that is on the way yet takes the new one with it, as with stock.
      this.cluster.monitor.excused.add(task.id);
    } else {
      task = this.#graphs.scattered(`data-${this.#scattered++}`);
      this.cluster.monitor.tasks.set(task.id, task);
    }
    client.scatter(task);
  }

  #desire(client: SimClient, other: SimClient): void {
    const known = other.known();
    if (known.length > 0) client.desire(this.#random.pick(known));
  }

  // Faults.

  #fault(): void {
    const random = this.#random;
    const { workers, scheduler, graphHost, clients } = this.cluster;
    if (this.#trouble.kinds.length === 0) return;
    const worker = random.pick(workers);
    switch (random.pick(this.#trouble.kinds)) {
      case "kill":
        worker.restarts = random.chance(0.8);
        worker.kill();
        break;
      case "worker-close":
        worker.restarts = random.chance(0.8);
        worker.close("on request");
        break;
      case "break":
        scheduler.breakStream(worker.address);
        break;
      case "pause":
        if (worker.status !== "running") break;
        worker.setStatus("paused");
        this.#later(3, () => {
          if (worker.status === "paused") worker.setStatus("running");
        });
        break;
      case "slow":
        worker.slowness = random.pick([1, 5, 30]);
        break;
      case "retire":
        scheduler.retire(worker.address);
        break;
      case "restart":
        scheduler.restart();
        break;
      case "graph-host":
        graphHost.die();
        break;
      case "client": {
        const present = clients.filter((client) => !client.left);
        if (present.length > 0) random.pick(present).leave(random.chance(0.5));
        break;
      }
    }
  }
}
