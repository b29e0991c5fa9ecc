/**
 * CPU of one round of work stealing: many tasks on some workers, few of them idle. `stuck`: no thief gains from any.
 *
 *     npx tsx --conditions=source benchmarks/src/core-balance.ts [workers] [tasks] [thieves]
 */
import type { Value } from "@dask-ts/protocol";
import { DEFAULT_CORE_CONFIG, SchedulerCore, WorkStealing } from "@dask-ts/scheduler/internal";
import { benchGraph } from "./core-graphs.ts";
import { addBenchWorker, benchRequest } from "./core-worker.ts";

const workers = Number(process.argv[2] ?? 1000);
const tasks = Number(process.argv[3] ?? 100_000);
const thieves = Number(process.argv[4] ?? 10);

for (const stuck of [false, true]) {
  const now = 1000;
  const core = new SchedulerCore(
    { ...DEFAULT_CORE_CONFIG, workerSaturation: Number.POSITIVE_INFINITY, makeException: () => null },
    now,
  );
  const stealing = new WorkStealing(core);
  core.stealing = stealing;
  core.addClient("c", now);
  for (let i = 0; i < workers - thieves; i++) addBenchWorker(core, String(i).padStart(5, "0"), 2, now);
  const steps = core.updateGraph(benchRequest(benchGraph("map", tasks, "a", 100)), now);
  while (!steps.next(now).done) core.outbox.clear();
  core.outbox.clear();
  for (let i = 0; i < thieves; i++) addBenchWorker(core, `9${String(i).padStart(5, "0")}`, 2, now);
  if (stuck) {
    for (const ts of core.state.tasks.values()) {
      core.setRestrictions(new Map([[ts.key, ts.processingOn === null ? null : [ts.processingOn.address]]]));
    }
  }
  const times: string[] = [];
  for (let round = 0; round < 8; round++) {
    core.outbox.clear();
    const start = process.cpuUsage();
    stealing.balance(now + round);
    const used = process.cpuUsage(start);
    const requests = core.outbox.events.flatMap(([, event]) => (event as Value[][])[1] ?? []).length;
    times.push(`${((used.user + used.system) / 1000).toFixed(1)} ms (${requests})`);
  }
  const what = `${workers} workers, ${tasks} tasks, ${thieves} thieves${stuck ? ", stuck" : ""}`;
  console.log(`${what}: a round takes ${times.join(", ")}`);
}
