/**
 * Runs the active memory manager and serves `Client.amm` (distributed.active_memory_manager; the policies are in
 * core/amm).
 */
import { ConfigError, type Config, type ConfigValue, type Message, type Value } from "@dask-ts/protocol";
import { ActiveMemoryManager } from "../core/amm/active-memory-manager.ts";
import type { AmmPolicy } from "../core/amm/policy.ts";
import { ReduceReplicas } from "../core/amm/reduce-replicas.ts";
import { RetireWorker } from "../core/amm/retire-worker.ts";
import { MEMORY_MEASURES } from "../core/rebalance.ts";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";
import { stringField } from "../server/fields.ts";

const CONFIG = "distributed.scheduler.active-memory-manager";
const BUILT_IN = "distributed.active_memory_manager.";

/** Interval of a manager that runs for the sake of a retirement only, as stock has it. */
const RETIREMENT_INTERVAL_MS = 2000;

/** A manager and its timer. */
class RunningManager {
  readonly manager: ActiveMemoryManager;
  readonly #ctx: SchedulerContext;
  readonly #intervalMs: number;
  #stop: (() => void) | undefined;

  constructor(ctx: SchedulerContext, measure: string, intervalMs: number) {
    this.#ctx = ctx;
    this.manager = new ActiveMemoryManager(ctx.core, measure);
    this.#intervalMs = intervalMs;
  }

  get running(): boolean {
    return this.#stop !== undefined;
  }

  start(): void {
    this.#stop ??= this.#ctx.every(this.#intervalMs, () => this.runOnce());
  }

  stop(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  runOnce(): void {
    this.#ctx.apply((_core, now) => this.manager.runOnce(now));
  }
}

/** What retire_workers needs of a manager. */
export interface RetirementManager {
  readonly policies: Set<AmmPolicy>;
  runOnce(): void;
  /** To be called when the retirement is over. */
  release(): void;
}

export class ActiveMemory implements SchedulerExtension {
  readonly name = "amm";
  #ctx!: SchedulerContext;
  #measure = "optimistic";
  #main!: RunningManager;

  /** The scheduler's manager. @throws {Error} where it runs without this extension. */
  static of({ extensions }: SchedulerContext): ActiveMemory {
    const found = extensions.find((extension) => extension instanceof ActiveMemory);
    if (found === undefined) throw new Error("the active memory manager is not installed");
    return found;
  }

  /** @throws {ConfigError} for a measure that there is not, or a policy that is not built in. */
  start(context: SchedulerContext): void {
    const { config } = context;
    this.#ctx = context;
    this.#measure = readMeasure(config);
    this.#main = new RunningManager(context, this.#measure, config.getMs(`${CONFIG}.interval`) ?? 2000);
    for (const policy of readPolicies(config)) this.#main.manager.policies.add(policy);
    if (config.getBoolean(`${CONFIG}.start`)) this.#main.start();
  }

  stop(): void {
    this.#main.stop();
  }

  readonly rpcHandlers = {
    amm_handler: (fields: Message): Value => {
      const method = stringField(fields, "method");
      switch (method) {
        case "start":
          this.#main.start();
          return null;
        case "stop":
          this.#main.stop();
          return null;
        case "run_once":
          this.#main.runOnce();
          return null;
        case "running":
          return this.#main.running;
        default:
          throw pythonError("ValueError", `amm_handler: no method '${method}'`);
      }
    },
  };

  /** The manager, where it runs; else one of its own for the retirement. */
  forRetirement(): RetirementManager {
    if (this.#main.running) {
      const main = this.#main;
      return { policies: main.manager.policies, runOnce: () => main.runOnce(), release: () => undefined };
    }
    const own = new RunningManager(this.#ctx, this.#measure, RETIREMENT_INTERVAL_MS);
    own.start();
    return { policies: own.manager.policies, runOnce: () => own.runOnce(), release: () => own.stop() };
  }
}

function readMeasure(config: Config): string {
  const measure = config.get(`${CONFIG}.measure`);
  if (typeof measure === "string" && MEMORY_MEASURES.includes(measure)) return measure;
  throw new ConfigError(`${CONFIG}.measure must be one of ${MEMORY_MEASURES.join(", ")}, not ${String(measure)}`);
}

function readPolicies(config: Config): AmmPolicy[] {
  const list = config.get(`${CONFIG}.policies`);
  if (list === null) return [];
  if (!Array.isArray(list)) throw new ConfigError(`${CONFIG}.policies is no list`);
  return (list as readonly ConfigValue[]).map(readPolicy);
}

function readPolicy(entry: ConfigValue): AmmPolicy {
  if (entry === null || typeof entry !== "object" || Array.isArray(entry)) {
    throw new ConfigError(`${CONFIG}.policies: ${JSON.stringify(entry)} is no mapping with a 'class'`);
  }
  const fields = new Map(Object.entries(entry));
  const name = fields.get("class");
  fields.delete("class");
  if (typeof name !== "string") throw new ConfigError(`${CONFIG}.policies: an entry without 'class'`);
  const address = fields.get("address");
  if (name === `${BUILT_IN}ReduceReplicas` && fields.size === 0) return new ReduceReplicas();
  if (name === `${BUILT_IN}RetireWorker` && fields.size === 1 && typeof address === "string") {
    return new RetireWorker(address);
  }
  if (name === `${BUILT_IN}ReduceReplicas` || name === `${BUILT_IN}RetireWorker`) {
    throw new ConfigError(
      `${CONFIG}.policies: wrong arguments for ${name}: ${[...fields.keys()].join(", ") || "none"}`,
    );
  }
  throw new ConfigError(
    `${CONFIG}.policies: '${name}' is a Python class, which this scheduler cannot run; there are ` +
      `${BUILT_IN}ReduceReplicas and ${BUILT_IN}RetireWorker`,
  );
}
