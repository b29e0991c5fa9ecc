/** Runs work stealing (distributed.stealing.WorkStealing; the policy is core/stealing). */
import { WorkStealing } from "../core/stealing/work-stealing.ts";
import type { SchedulerContext, SchedulerExtension } from "../server/context.ts";

const CONFIG = "distributed.scheduler";

export class Stealing implements SchedulerExtension {
  readonly name = "stealing";
  #stop: () => void = () => undefined;

  start(context: SchedulerContext): void {
    const { config, core } = context;
    if (!config.getBoolean(`${CONFIG}.work-stealing`)) return;
    const intervalMs = config.getMs(`${CONFIG}.work-stealing-interval`, "ms") ?? 1000;
    const stealing = new WorkStealing(core);
    core.stealing = stealing;
    this.#stop = context.every(intervalMs, () => context.apply((_core, now) => stealing.balance(now)));
  }

  stop(): void {
    this.#stop();
  }
}
