/** What the tasks of a run are: what they depend on, how they behave, and which value they must come to. */
import { type Key, keyId, Pickled, pickled, decodeSubHeader, type Value } from "../../packages/protocol/src/index.ts";
import { type Graph, TaskFlag } from "../../packages/scheduler/src/core/index.ts";
import type { Random } from "./random.ts";

/** How a task behaves when it is run. Counts are of runs, wherever they take place, since the start. */
export interface Behaviour {
  /** Mean seconds of a run. */
  readonly seconds: number;
  readonly nbytes: number;
  /** So many runs raise an error before one succeeds; Infinity: all do. */
  readonly failures: number;
  /** So many runs raise Reschedule first. */
  readonly reschedules: number;
  /** So many runs kill their worker first. */
  readonly deaths: number;
  readonly secedes: boolean;
  /** A coroutine: it ends soon when its result is not wanted any more. */
  readonly coroutine: boolean;
}

export class Task {
  readonly key: Key;
  readonly id: string;
  readonly dependencies: readonly Task[];
  readonly behaviour: Behaviour;
  /** Fixed by the key and the values of the dependencies. */
  readonly value: number;
  /** Null for scattered data. */
  readonly runSpec: Pickled | null;
  /** Runs begun. */
  runs = 0;
  /** A run has raised an error. */
  raised = false;
  actor = false;

  constructor(key: Key, dependencies: readonly Task[], behaviour: Behaviour, scattered = false) {
    this.key = key;
    this.id = keyId(key);
    this.dependencies = dependencies;
    this.behaviour = behaviour;
    this.value = valueOf(
      this.id,
      dependencies.map((task) => task.value),
    );
    this.runSpec = scattered ? null : pickled(new TextEncoder().encode(this.id));
  }

  /** True for the task itself and for everything that it is made of. */
  isMadeOf(other: Task, seen: Set<Task> = new Set()): boolean {
    if (this === other) return true;
    if (seen.has(this)) return false;
    seen.add(this);
    return this.dependencies.some((task) => task.isMadeOf(other, seen));
  }
}

/** The result of a task, as its function would compute it. */
export function valueOf(id: string, dependencies: readonly number[]): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  for (const value of dependencies) hash = Math.imul(hash ^ value, 0x01000193);
  return hash >>> 0;
}

/** The task that a run_spec is for. */
export function keyOfRunSpec(runSpec: Value): string {
  if (!(runSpec instanceof Pickled)) throw new TypeError("a run_spec is a pickle");
  return new TextDecoder().decode(decodeSubHeader(runSpec.header).get("pickled-obj") as Uint8Array);
}

/** What a client submits. */
export interface Submission {
  readonly name: string;
  readonly tasks: readonly Task[];
  readonly wanted: readonly Task[];
  /** Tasks of other submissions that these depend on. */
  readonly externals: readonly Task[];
  readonly graph: Graph;
  readonly actors: boolean;
  readonly fifoTimeout: number;
  readonly userPriority: number;
  readonly internalPriority: ReadonlyMap<Value, Value> | null;
}

/** How tasks of a run tend to be. */
export interface Habits {
  /** Mean seconds of a task. */
  readonly seconds: number;
  readonly nbytes: number;
  readonly failing: number;
  readonly flaky: number;
  readonly rescheduling: number;
  readonly deadly: number;
  readonly seceding: number;
  readonly annotated: number;
  /** Largest number of tasks of a graph. */
  readonly size: number;
  /** Addresses that annotations may name. */
  readonly addresses: readonly string[];
}

/** Share of the tasks. */
const COROUTINES = 0.3;
const WORDS = ["load", "add", "sum", "map", "fit"];

/** Makes graphs of different shapes. */
export class GraphMaker {
  readonly #random: Random;
  readonly #habits: Habits;
  #graphs = 0;

  constructor(random: Random, habits: Habits) {
    this.#random = random;
    this.#habits = habits;
  }

  behaviour(): Behaviour {
    const random = this.#random;
    const habits = this.#habits;
    const flaky = random.chance(habits.flaky) ? 1 + random.below(3) : 0;
    return {
      seconds: random.chance(0.1) ? habits.seconds * 10 : habits.seconds,
      nbytes: Math.floor(random.exponential(habits.nbytes)),
      failures: random.chance(habits.failing) ? Number.POSITIVE_INFINITY : flaky,
      reschedules: random.chance(habits.rescheduling) ? 1 + random.below(2) : 0,
      deaths: random.chance(habits.deadly) ? 1 + random.below(6) : 0,
      secedes: random.chance(habits.seceding),
      coroutine: random.chance(COROUTINES),
    };
  }

  /** Data that a client scatters. */
  scattered(name: string): Task {
    return new Task(name, [], this.behaviour(), true);
  }

  /** @param known tasks of which the client holds futures, and which the graph may depend on. */
  submission(known: readonly Task[]): Submission {
    const random = this.#random;
    const name = `g${this.#graphs++}`;
    const externals = known.length > 0 && random.chance(0.4) ? random.some(known, 0.3).slice(0, 4) : [];
    const tasks = this.#tasks(name, externals);
    const used = new Set(tasks.flatMap((task) => task.dependencies));
    const wanted = tasks.filter((task) => !used.has(task) || random.chance(0.15));
    const actors = random.chance(0.04);
    if (actors) for (const task of wanted) task.actor = true;
    const shuffled = tasks.map((task) => ({ task, at: random.next() })).sort((a, b) => a.at - b.at);
    const ordered = shuffled.map(({ task }) => task);
    return {
      name,
      tasks: ordered,
      wanted,
      externals: [...used].filter((task) => !tasks.includes(task)),
      graph: this.#graph(ordered),
      actors,
      fifoTimeout: random.chance(0.3) ? 60 : 0.1,
      userPriority: random.chance(0.2) ? random.below(3) - 1 : 0,
      internalPriority: random.chance(0.3) ? new Map(tasks.map((task, i) => [task.key as Value, i])) : null,
    };
  }

  #tasks(name: string, externals: readonly Task[]): Task[] {
    const random = this.#random;
    const n = 1 + random.below(this.#habits.size);
    switch (random.below(6)) {
      case 0:
        return this.#layers(name, externals, [n, Math.max(1, n >> 2), 1]);
      case 1:
        return this.#layers(name, externals, [n]);
      case 2:
        return this.#layers(name, externals, [n >> 1, n >> 1].map(atLeastOne));
      case 3:
        return this.#chain(name, externals, Math.min(n, 12));
      default:
        return this.#tangle(name, externals, n);
    }
  }

  /** Collections: a layer of tasks of one group upon another. */
  #layers(name: string, externals: readonly Task[], sizes: readonly number[]): Task[] {
    const random = this.#random;
    const tasks: Task[] = [];
    let below: readonly Task[] = externals;
    for (const [layer, size] of sizes.entries()) {
      const word = random.pick(WORDS);
      const made: Task[] = [];
      for (let i = 0; i < size; i++) {
        const width = Math.ceil(below.length / size);
        const own = below.slice(i * width, (i + 1) * width);
        const extra = random.chance(0.1) ? random.some(below, 0.2) : [];
        made.push(this.#task([`${word}-${name}l${layer}`, i], [...own, ...extra]));
      }
      tasks.push(...made);
      below = made;
    }
    return tasks;
  }

  #chain(name: string, externals: readonly Task[], n: number): Task[] {
    const tasks: Task[] = [];
    for (let i = 0; i < n; i++) {
      const last = tasks.at(-1);
      tasks.push(this.#task(`step-${name}i${i}`, last === undefined ? externals : [last]));
    }
    return tasks;
  }

  #tangle(name: string, externals: readonly Task[], n: number): Task[] {
    const random = this.#random;
    const tasks: Task[] = [];
    for (let i = 0; i < n; i++) {
      const pool = [...externals, ...tasks];
      const count = pool.length === 0 ? 0 : random.below(4);
      const dependencies = Array.from({ length: count }, () => random.pick(pool));
      tasks.push(this.#task(`${random.pick(WORDS)}-${name}t${i}`, dependencies));
    }
    return tasks;
  }

  #task(key: Key, dependencies: readonly Task[]): Task {
    return new Task(key, [...new Set(dependencies)], this.behaviour());
  }

  /** The graph as the graph host delivers it. */
  #graph(tasks: readonly Task[]): Graph {
    const random = this.#random;
    const numbers = new Map(tasks.map((task, i) => [task, i]));
    const externals: Task[] = [];
    const dependencies = tasks.map((task) =>
      task.dependencies.map((dependency) => {
        const number = numbers.get(dependency);
        if (number !== undefined) return number;
        let i = externals.indexOf(dependency);
        if (i < 0) i = externals.push(dependency) - 1;
        return tasks.length + i;
      }),
    );
    const annotationSets: ReadonlyMap<Value, Value>[] = [];
    const annotationOf = new Int32Array(tasks.length).fill(-1);
    for (let i = 0; i < tasks.length; i++) {
      if (random.chance(this.#habits.annotated)) annotationOf[i] = annotationSets.push(this.#annotations()) - 1;
    }
    const flags = new Uint8Array(tasks.length);
    for (let i = 0; i < tasks.length; i++) if (random.chance(0.05)) flags[i] = TaskFlag.dataProducer;
    return {
      keys: tasks.map((task) => task.key),
      ids: tasks.map((task) => task.id),
      dependencies,
      externalKeys: externals.map((task) => task.key),
      externalIds: externals.map((task) => task.id),
      runSpecs: tasks.map((task) => task.runSpec as Pickled),
      flags,
      annotationSets,
      annotationOf: annotationSets.length === 0 ? undefined : annotationOf,
      code: [],
      spanMetadata: new Map(),
    };
  }

  #annotations(): ReadonlyMap<Value, Value> {
    const random = this.#random;
    switch (random.below(4)) {
      case 0:
        return new Map([["resources", new Map([["R", 1 + random.below(2)]])]]);
      case 1:
        return new Map<Value, Value>([["retries", 1 + random.below(3)]]);
      case 2:
        return new Map<Value, Value>([["priority", random.below(5) - 2]]);
      default:
        return new Map<Value, Value>([
          ["workers", [random.pick(this.#habits.addresses)]],
          ["allow_other_workers", random.chance(0.5)],
        ]);
    }
  }
}

function atLeastOne(n: number): number {
  return Math.max(1, n);
}
