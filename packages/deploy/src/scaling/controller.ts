/**
 * Brings a service's number of workers to the scheduler's wish, look by look. Before workers go, the scheduler moves
 * what only they hold to others and gives them no more tasks.
 */
import type { LevelName } from "@dask-ts/protocol";
import { decide, NOTHING_SEEN, type ScalingLimits, type ScalingMemory } from "./decide.ts";

/** What the controller asks of a scheduler. */
export interface SchedulerView {
  adaptiveTarget(targetDurationS: number): Promise<number>;
  /** Addresses of the workers that may go so that `target` are left. */
  workersToClose(target: number): Promise<string[]>;
  /** Moves data away; with `close` the workers end. */
  retire(workers: readonly string[], close: boolean): Promise<void>;
}

/** What the controller asks of whatever runs the workers. */
export interface WorkerService {
  /** How many workers are to run. */
  desired(): Promise<number>;
  setDesired(count: number): Promise<void>;
}

export interface ControllerOptions {
  readonly scheduler: SchedulerView;
  readonly service: WorkerService;
  readonly limits: ScalingLimits;
  readonly targetDurationS: number;
  readonly log: (level: LevelName, message: string) => void;
}

export class Controller {
  readonly #options: ControllerOptions;
  #memory: ScalingMemory = NOTHING_SEEN;
  #trouble: string | undefined;

  constructor(options: ControllerOptions) {
    this.#options = options;
  }

  /** One look. A scheduler or a service that does not answer changes nothing; it is logged once per cause. */
  async look(): Promise<void> {
    try {
      await this.#look();
      if (this.#trouble !== undefined) this.#options.log("INFO", "The scheduler and the service answer again");
      this.#trouble = undefined;
    } catch (error) {
      this.#memory = NOTHING_SEEN;
      const text = error instanceof Error ? error.message : String(error);
      if (text !== this.#trouble) this.#options.log("WARNING", `The number of workers stays: ${text}`);
      this.#trouble = text;
    }
  }

  async #look(): Promise<void> {
    const { scheduler, service, limits, targetDurationS, log } = this.#options;
    const [wish, desired] = await Promise.all([scheduler.adaptiveTarget(targetDurationS), service.desired()]);
    const { decision, memory } = decide({ wish, desired }, limits, this.#memory);
    this.#memory = memory;
    if (decision.kind === "stay") return;
    log("INFO", `Workers: ${desired} -> ${decision.desired} (the scheduler wishes for ${wish})`);
    if (decision.kind === "grow") await service.setDesired(decision.desired);
    else await this.#shrink(decision.desired);
  }

  /**
   * Data first, while the workers stay; then the number, then their end at once. In this order the service neither
   * replaces workers that have just ended nor, but for a moment, picks others than those that are free of data.
   */
  async #shrink(desired: number): Promise<void> {
    const { scheduler, service, log } = this.#options;
    const workers = await scheduler.workersToClose(desired);
    if (workers.length > 0) {
      log("INFO", `Retiring ${workers.length} workers: ${workers.join(", ")}`);
      await scheduler.retire(workers, false);
    }
    try {
      await service.setDesired(desired);
    } finally {
      // Also where the number could not be set: retired workers get no tasks, those that replace them do.
      if (workers.length > 0) await scheduler.retire(workers, true);
    }
  }
}
