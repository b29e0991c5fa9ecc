/**
 * Runs the active memory manager and serves `Client.amm` (distributed.active_memory_manager). The built-in policies
 * are in core/amm; those that are Python classes run in the plugin host, after the built-in ones have been enacted.
 */
import {
  ConfigError,
  type Config,
  type ConfigValue,
  float,
  type Message,
  RemoteError,
  type Value,
} from "@dask-ts/protocol";
import { ActiveMemoryManager } from "../core/amm/active-memory-manager.ts";
import type { AmmPolicy } from "../core/amm/policy.ts";
import { ReduceReplicas } from "../core/amm/reduce-replicas.ts";
import { RetireWorker } from "../core/amm/retire-worker.ts";
import type { Suggestions } from "../core/amm/suggestions.ts";
import { MEMORY_MEASURES } from "../core/rebalance.ts";
import type { TaskState } from "../core/task-state.ts";
import type { WorkerState } from "../core/worker-state.ts";
import { addressesOf, type ConfiguredPolicy } from "../plugin-host/python-policies.ts";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";
import { flagField, keysField, optionalList, optionalNumber, optionalString, stringField } from "../server/fields.ts";

const CONFIG = "distributed.scheduler.active-memory-manager";
const BUILT_IN = "distributed.active_memory_manager.";

/** Interval of a manager that runs for the sake of a retirement only, as stock has it. */
const RETIREMENT_INTERVAL_MS = 2000;
/** `Client.amm.run_once` waits this long for policies in Python. */
const RUN_ONCE_MS = 10_000;
/** Runs that user code has begun and not ended; the oldest is given up for another. */
const MAX_RUNS = 8;

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

  start(runOnce: () => void = () => void this.runOnce()): void {
    this.#stop ??= this.#ctx.every(this.#intervalMs, runOnce);
  }

  stop(): void {
    this.#stop?.();
    this.#stop = undefined;
  }

  runOnce(): Suggestions {
    return this.#ctx.apply((_core, now) => this.manager.runOnce(now));
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
  #intervalMs = 2000;
  #main!: RunningManager;
  /** Runs in which policies in Python still make suggestions. */
  readonly #runs: Map<number, Suggestions> = new Map();
  #lastRun = 0;
  #pythonRun: Promise<RemoteError | undefined> | undefined;

  /** The scheduler's manager. @throws {Error} where it runs without this extension. */
  static of({ extensions }: SchedulerContext): ActiveMemory {
    const found = extensions.find((extension) => extension instanceof ActiveMemory);
    if (found === undefined) throw new Error("the active memory manager is not installed");
    return found;
  }

  /** @throws {ConfigError} for a measure that there is not, or a policy that cannot be made. */
  async start(context: SchedulerContext): Promise<void> {
    const { config } = context;
    this.#ctx = context;
    this.#measure = readMeasure(config);
    this.#intervalMs = config.getMs(`${CONFIG}.interval`) ?? 2000;
    this.#main = new RunningManager(context, this.#measure, this.#intervalMs);
    const { policies } = context.pluginHost;
    policies.serve((op, fields) => this.#answer(op, fields));
    let python = 0;
    for (const policy of readPolicies(config)) {
      if ("run" in policy) this.#main.manager.policies.add(policy);
      else await makePythonPolicy(context, `configured-${python++}`, policy);
    }
    if (config.getBoolean(`${CONFIG}.start`)) this.#startMain();
  }

  stop(): void {
    this.#main.stop();
  }

  readonly rpcHandlers = {
    amm_handler: (fields: Message): Value | Promise<Value> => {
      const method = stringField(fields, "method");
      switch (method) {
        case "start":
        case "stop":
          return this.#control(method);
        case "run_once":
          return this.#runForClient();
        case "running":
          return this.#main.running;
        default:
          throw pythonError("AssertionError", `amm_handler: no method '${method}'`);
      }
    },
  };

  #control(method: "start" | "stop"): null {
    if (method === "start") this.#startMain();
    else this.#main.stop();
    return null;
  }

  #startMain(): void {
    this.#main.start(() => this.#runOnce());
  }

  /** The built-in policies at once, then those in Python, unless they are still at the run before. */
  #runOnce(): void {
    const suggestions = this.#main.runOnce();
    const { policies } = this.#ctx.pluginHost;
    if (!policies.any || this.#pythonRun !== undefined) return;
    const run = this.#open(suggestions);
    this.#pythonRun = policies.run(run).finally(() => {
      this.#runs.delete(run);
      this.#pythonRun = undefined;
    });
  }

  /** Resolves when the policies in Python are done as well. @throws {RemoteError} what one of them has raised. */
  async #runForClient(): Promise<null> {
    const before = this.#pythonRun;
    this.#runOnce();
    const all = async (): Promise<RemoteError | undefined> => {
      if (before !== undefined) {
        await before;
        this.#runOnce();
      }
      return await this.#pythonRun;
    };
    let cancel: () => void = () => undefined;
    const late = new Promise<undefined>((resolve) => {
      cancel = this.#ctx.after(RUN_ONCE_MS, () => {
        this.#ctx.log.warning(
          `Policies of the active memory manager take more than ${RUN_ONCE_MS / 1000} s: amm.run_once does not wait`,
        );
        resolve(undefined);
      });
    });
    const failure = await Promise.race([all(), late]);
    cancel();
    if (failure !== undefined) throw failure;
    return null;
  }

  /** The manager, where it runs; else one of its own for the retirement. */
  forRetirement(): RetirementManager {
    if (this.#main.running) {
      return { policies: this.#main.manager.policies, runOnce: () => this.#runOnce(), release: () => undefined };
    }
    const own = new RunningManager(this.#ctx, this.#measure, RETIREMENT_INTERVAL_MS);
    own.start();
    return { policies: own.manager.policies, runOnce: () => void own.runOnce(), release: () => own.stop() };
  }

  #open(suggestions: Suggestions): number {
    const run = ++this.#lastRun;
    this.#runs.set(run, suggestions);
    if (this.#runs.size > MAX_RUNS) this.#runs.delete(this.#runs.keys().next().value as number);
    return run;
  }

  /** What policies in Python ask (dask_ts.amm_view). */
  #answer(op: string, fields: Message): Message {
    switch (op) {
      case "amm-begin":
        return { run: this.#open(this.#main.runOnce()) };
      case "amm-suggest":
        return this.#suggest(fields);
      case "amm-pending":
        return { tasks: Array.from(this.#suggestions(fields).pending(), pendingRow) };
      case "amm-memory":
        return { workers: Array.from(this.#suggestions(fields).memory(), ([ws, nbytes]) => [ws.address, nbytes]) };
      case "amm-enact": {
        const suggestions = this.#suggestions(fields);
        this.#runs.delete(optionalNumber(fields, "run") ?? 0);
        this.#ctx.apply((_core, now) => this.#main.manager.enact(suggestions, now));
        return {};
      }
      case "amm-state":
        return {
          measure: this.#measure,
          interval: float(this.#intervalMs / 1000),
          running: this.#main.running,
          built_in: Array.from(this.#main.manager.policies, builtInRow),
        };
      case "amm-control":
        this.#control(stringField(fields, "method") === "start" ? "start" : "stop");
        return {};
      case "amm-built-in":
        this.#setBuiltIn(
          stringField(fields, "class"),
          optionalString(fields, "address"),
          flagField(fields, "add", true),
        );
        return {};
      default:
        throw new RangeError(`the active memory manager has no answer to ${op}`);
    }
  }

  #suggestions(fields: Message): Suggestions {
    const found = this.#runs.get(optionalNumber(fields, "run") ?? 0);
    if (found === undefined) throw new Error("this run of the active memory manager has ended");
    return found;
  }

  #suggest(fields: Message): Message {
    const suggestions = this.#suggestions(fields);
    const { state } = this.#ctx.core;
    const ts = state.taskOf(keysField(fields, "keys")[0] ?? "");
    if (ts === undefined) return { worker: null, nbytes: 0 };
    const addresses = optionalList(fields, "candidates");
    let candidates: Set<WorkerState> | undefined;
    if (addresses !== null) {
      candidates = new Set();
      for (const address of addresses) {
        const ws = state.workers.get(String(address));
        if (ws !== undefined) candidates.add(ws);
      }
    }
    const choice =
      stringField(fields, "suggestion") === "replicate"
        ? suggestions.replicate(ts, candidates)
        : suggestions.drop(ts, candidates && ((ws): boolean => candidates.has(ws)));
    return { worker: choice?.address ?? null, nbytes: ts.nbytes };
  }

  #setBuiltIn(name: string, address: string | null, add: boolean): void {
    const { policies } = this.#main.manager;
    const policy = builtIn(name, address === null ? {} : { address });
    if (policy === undefined) throw new RangeError(`'${name}' is no built-in policy`);
    if (add) {
      policies.add(policy);
      return;
    }
    for (const present of policies) if (present.name === policy.name) policies.delete(present);
  }
}

function pendingRow({
  ts,
  replicate,
  drop,
}: {
  ts: TaskState;
  replicate: ReadonlySet<WorkerState>;
  drop: ReadonlySet<WorkerState>;
}): Value {
  return [ts.key, addressesOf(replicate), addressesOf(drop)];
}

function builtInRow(policy: AmmPolicy): Value {
  return policy instanceof RetireWorker
    ? [`${BUILT_IN}RetireWorker`, policy.address]
    : [`${BUILT_IN}ReduceReplicas`, null];
}

function readMeasure(config: Config): string {
  const measure = config.get(`${CONFIG}.measure`);
  if (typeof measure === "string" && MEMORY_MEASURES.includes(measure)) return measure;
  throw new ConfigError(`${CONFIG}.measure must be one of ${MEMORY_MEASURES.join(", ")}, not ${String(measure)}`);
}

function readPolicies(config: Config): (AmmPolicy | ConfiguredPolicy)[] {
  const list = config.get(`${CONFIG}.policies`);
  if (list === null) return [];
  if (!Array.isArray(list)) throw new ConfigError(`${CONFIG}.policies is no list`);
  return (list as readonly ConfigValue[]).map(readPolicy);
}

function readPolicy(entry: ConfigValue): AmmPolicy | ConfiguredPolicy {
  if (entry === null || typeof entry !== "object" || Array.isArray(entry)) {
    throw new ConfigError(`${CONFIG}.policies: ${JSON.stringify(entry)} is no mapping with a 'class'`);
  }
  const { class: name, ...kwargs } = entry;
  if (typeof name !== "string") throw new ConfigError(`${CONFIG}.policies: an entry without 'class'`);
  const policy = builtIn(name, kwargs);
  if (policy !== undefined) return policy;
  if (name.startsWith(BUILT_IN) && /\.(ReduceReplicas|RetireWorker)$/.test(name)) {
    throw new ConfigError(
      `${CONFIG}.policies: wrong arguments for ${name}: ${Object.keys(kwargs).join(", ") || "none"}`,
    );
  }
  return { class: name, kwargs: JSON.stringify(kwargs) };
}

/** Undefined where it is none, or its arguments are wrong. */
function builtIn(name: string, kwargs: Readonly<Record<string, ConfigValue>>): AmmPolicy | undefined {
  const { address, ...others } = kwargs;
  if (Object.keys(others).length > 0) return undefined;
  if (name === `${BUILT_IN}ReduceReplicas` && address === undefined) return new ReduceReplicas();
  return name === `${BUILT_IN}RetireWorker` && typeof address === "string" ? new RetireWorker(address) : undefined;
}

async function makePythonPolicy({ pluginHost }: SchedulerContext, id: string, policy: ConfiguredPolicy): Promise<void> {
  try {
    await pluginHost.policies.configure(id, policy);
  } catch (error) {
    const text = error instanceof RemoteError ? error.exceptionText : (error as Error).message;
    throw new ConfigError(`${CONFIG}.policies: '${policy.class}' cannot be used: ${text}`, { cause: error });
  }
}
