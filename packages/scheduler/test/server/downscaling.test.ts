/** One answer to how many workers there should be, whoever asks; workers that must stay are counted. */
import { afterAll, beforeAll, expect, it } from "vitest";
import { loadConfig } from "@dask-ts/protocol";
import { standardExtensions } from "../../src/extensions/index.ts";
import type { SchedulerExtension } from "../../src/server/context.ts";
import { adaptiveTarget, workersToClose } from "../../src/server/downscaling.ts";
import { addWorker } from "../http/workers.ts";
import { TestCluster } from "./cluster.ts";

let cluster: TestCluster;
let kept = false;
const shuffle: SchedulerExtension = { name: "a-shuffle", keepsWorker: () => kept };

beforeAll(async () => {
  const config = loadConfig({
    env: {},
    paths: [],
    overrides: {
      "distributed.scheduler.http.routes": ["prometheus", "json", "api"].map(
        (name) => `distributed.http.scheduler.${name}`,
      ),
    },
  });
  cluster = await TestCluster.start({ config, extensions: [...standardExtensions(), shuffle] });
  addWorker(cluster.scheduler, 1);
});
afterAll(() => cluster.stop());

async function get(path: string): Promise<string> {
  return await (await fetch(`http://127.0.0.1:${cluster.scheduler.httpPort}/${path}`)).text();
}

async function answers(): Promise<unknown[]> {
  const desired = /^dask_scheduler_desired_workers (\S+)$/m.exec(await get("metrics"))?.[1];
  return [
    await adaptiveTarget(cluster.scheduler),
    (JSON.parse(await get("api/v1/adaptive_target")) as { workers: number }).workers,
    (JSON.parse(await get("json/counts.json")) as { desired_workers: number }).desired_workers,
    Number(desired),
    (await workersToClose(cluster.scheduler, { n: 1 })).length,
  ];
}

it("lets an idle worker go, but not one that takes part in a shuffle", async () => {
  kept = false;
  expect(await answers()).toEqual([0, 0, 0, 0, 1]);
  kept = true;
  expect(await answers()).toEqual([1, 1, 1, 1, 0]);
});
