/**
 * Memory of an executor: a model of what its process uses and what it spills (`executor_spill.py`,
 * `executor_spill_monitor.py`), looked at by what pauses and ends real workers.
 */
import { type MemoryLimits, pauseOrGoOn, TerminationPolicy } from "../../packages/worker/src/core/index.ts";

/** `distributed.worker.memory.*` */
const TARGET = 0.6;
const SPILL = 0.7;
const PAUSE = 0.8;
const TERMINATE = 0.95;
/** `distributed.worker.memory.monitor-interval`, seconds. */
export const MONITOR_S = 0.1;

/** Of one worker, in all its lives. */
export interface MemorySettings extends MemoryLimits {
  /** False: what does not fit stays in memory, as where there is no disk. */
  spills: boolean;
}

export function noLimit(): MemorySettings {
  return { limit: null, pause: PAUSE, spills: true };
}

export class ExecutorMemory {
  readonly #settings: MemorySettings;
  /** Bytes of values in memory, those first that were not used for longest. */
  readonly #held: Map<string, number> = new Map();
  readonly #spilled: Map<string, number> = new Map();
  /** Bytes that runs are at work on, by task. */
  readonly #working: Map<string, number> = new Map();
  #termination: TerminationPolicy | undefined;

  constructor(settings: MemorySettings) {
    this.#settings = settings;
  }

  get resident(): number {
    let bytes = 0;
    for (const size of this.#held.values()) bytes += size;
    for (const size of this.#working.values()) bytes += size;
    return bytes;
  }

  hold(id: string, nbytes: number): void {
    this.drop(id);
    this.#held.set(id, nbytes);
    this.#spillTo(TARGET);
  }

  drop(id: string): void {
    this.#held.delete(id);
    this.#spilled.delete(id);
  }

  /** A value is used: it is in memory then. */
  read(id: string): void {
    const nbytes = this.#held.get(id) ?? this.#spilled.get(id);
    if (nbytes !== undefined) this.hold(id, nbytes);
  }

  /** A run begins, which has this in hand until it ends. */
  begin(id: string, nbytes: number): void {
    this.#working.set(id, nbytes);
  }

  end(id: string): void {
    this.#working.delete(id);
  }

  /** What a look at it, every `MONITOR_S`, comes to. */
  look(status: string): "running" | "paused" | "SIGTERM" | "SIGKILL" | undefined {
    const { limit } = this.#settings;
    if (limit === null) return undefined;
    if (this.resident > SPILL * limit) this.#spillTo(TARGET);
    const memory = this.resident;
    this.#termination ??= new TerminationPolicy(limit, TERMINATE);
    return this.#termination.look(1, memory) ?? pauseOrGoOn(memory, this.#settings, status);
  }

  #spillTo(fraction: number): void {
    const { limit, spills } = this.#settings;
    if (limit === null || !spills) return;
    let excess = this.resident - fraction * limit;
    for (const [id, nbytes] of this.#held) {
      if (excess <= 0) return;
      this.#held.delete(id);
      this.#spilled.set(id, nbytes);
      excess -= nbytes;
    }
  }
}
