/**
 * Bugs put in on purpose, to see that the simulation finds them. They wrap messages and what the cores call; the
 * product's code is untouched.
 */
import type { Message } from "../../packages/protocol/src/index.ts";
import { State } from "../../packages/scheduler/src/core/index.ts";
import type { Cluster } from "./cluster.ts";
import type { Random } from "./random.ts";

type Plant = (cluster: Cluster, random: Random) => void;

export const BUGS: ReadonlyMap<string, Plant> = new Map<string, Plant>([
  ["drop-message", dropMessage],
  ["duplicate-message", duplicateMessage],
  ["skip-transition", skipTransition],
  ["forget-dependent", forgetDependent],
  ["wrong-run-id", wrongRunId],
  ["leak-waiter", leakWaiter],
  ["lose-value", loseValue],
]);

/** Every so often one message of a stream does not arrive. */
function dropMessage({ network }: Cluster, random: Random): void {
  network.tamper = (_from, _to, message) => (random.chance(1 / 200) ? [] : [message]);
}

/** … or arrives twice. */
function duplicateMessage({ network }: Cluster, random: Random): void {
  network.tamper = (_from, _to, message) => (random.chance(1 / 200) ? [message, { ...message }] : [message]);
}

/** The scheduler recommends a transition, and does not follow. */
function skipTransition({ scheduler }: Cluster, random: Random): void {
  const { recs } = scheduler.core;
  const pop = recs.pop.bind(recs);
  recs.pop = () => {
    const ts = pop();
    if (ts === undefined || !random.chance(1 / 200)) return ts;
    ts.recommended = -1;
    return pop();
  };
}

/** A task of the scheduler forgets one that depends on it. */
function forgetDependent({ scheduler }: Cluster, random: Random): void {
  scheduler.core.listeners.transition.push((ts, _start, finish) => {
    if (finish !== State.waiting || !random.chance(1 / 50)) return;
    for (const dts of ts.dependencies) dts.dependents.delete(ts);
  });
}

/** A worker reports a run under the id of another. */
function wrongRunId({ network }: Cluster, random: Random): void {
  let last = 0;
  network.tamper = (_from, _to, message) => {
    if (message["op"] !== "task-finished") return [message];
    const runId = message["run_id"] as number;
    const wrong: Message = { ...message, run_id: last };
    last = runId;
    return [random.chance(1 / 20) ? wrong : message];
  };
}

/** A task that is done stays among those that wait for its dependencies. */
function leakWaiter({ scheduler }: Cluster, random: Random): void {
  scheduler.core.listeners.transition.push((ts, _start, finish) => {
    if (finish !== State.memory || !random.chance(1 / 50)) return;
    for (const dts of ts.dependencies) if (dts.code === State.memory) dts.waiters = dts.waiters.plus(ts);
  });
}

/** A value vanishes from an executor. */
function loseValue({ workers, world }: Cluster, random: Random): void {
  const again = (): void => {
    const store = random.pick(workers).session?.executor.store;
    const [first] = store?.keys() ?? [];
    if (first !== undefined) store?.delete(first);
    world.after(random.between(0.2, 2), again, true);
  };
  world.after(1, again, true);
}
