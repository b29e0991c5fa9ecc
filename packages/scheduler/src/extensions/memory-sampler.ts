/** `distributed.MemorySampler` (distributed.diagnostics.memory_sampler.MemorySamplerExtension). */
import { randomUUID } from "node:crypto";
import { float, type Message, type Value } from "@dask-ts/protocol";
import { workerMemory } from "../core/queries.ts";
import { memoryMeasure } from "../core/rebalance.ts";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";
import { pythonError } from "../server/exceptions.ts";
import { optionalNumber, stringField } from "../server/fields.ts";

interface Sampler {
  /** (unix time, bytes) */
  readonly samples: Value[];
  readonly stop: () => void;
}

/** A sampler that nobody stops keeps this many samples at most. */
const MAX_SAMPLES = 1_000_000;

export class MemorySampler implements SchedulerExtension {
  readonly name = "memory_sampler";
  readonly #samplers: Map<string, Sampler> = new Map();
  #context!: SchedulerContext;

  start(context: SchedulerContext): void {
    this.#context = context;
  }

  readonly rpcHandlers = {
    memory_sampler_start: (fields: Message): Value => this.#start(fields),
    memory_sampler_stop: (fields: Message): Value => this.#stop(stringField(fields, "key")),
  };

  #start(fields: Message): Value {
    const client = stringField(fields, "client");
    const measure = stringField(fields, "measure");
    const interval = optionalNumber(fields, "interval") ?? 0.5;
    const key = randomUUID();
    const samples: Value[] = [];
    const sample = (): void => {
      if (this.#context.core.state.clients.has(client) && samples.length < MAX_SAMPLES) {
        samples.push([float(this.#context.now()), this.#clusterMemory(measure)]);
      } else {
        this.#samplers.get(key)?.stop();
      }
    };
    // The first one at once: there is always a sample, and a wrong measure is told to the caller.
    sample();
    this.#samplers.set(key, { samples, stop: this.#context.every(interval * 1000, sample) });
    return key;
  }

  #stop(key: string): Value {
    const sampler = this.#samplers.get(key);
    if (sampler === undefined) throw pythonError("KeyError", key);
    this.#samplers.delete(key);
    sampler.stop();
    return sampler.samples;
  }

  #clusterMemory(measure: string): number {
    let nbytes = memoryMeasure({ process: 0, managed: 0, spilled: 0, unmanagedOld: 0 }, measure);
    for (const ws of this.#context.core.state.workers.values()) nbytes += memoryMeasure(workerMemory(ws), measure);
    return nbytes;
  }
}
