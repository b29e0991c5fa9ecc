import { listen, type RpcHandlers, serveComm } from "@dask-ts/protocol";
import { expect, test } from "vitest";
import { RemoteScheduler } from "../../src/scaling/scheduler.ts";

test("asks as distributed's Adaptive does", async () => {
  const asked: [string, unknown][] = [];
  const handlers: RpcHandlers = {
    adaptive_target: (fields) => {
      asked.push(["adaptive_target", fields["target_duration"]]);
      return 7;
    },
    workers_to_close: (fields) => {
      asked.push(["workers_to_close", fields["target"]]);
      return ["tcp://127.0.0.1:1"];
    },
    retire_workers: (fields) => {
      asked.push(["retire_workers", [fields["workers"], fields["close_workers"], fields["remove"]]]);
      return new Map();
    },
  };
  const listener = await listen("tcp://127.0.0.1:0", {
    onComm: (comm) => void serveComm(comm, handlers, { name: "Scheduler" }),
  });
  const scheduler = new RemoteScheduler(listener.contactAddress, {});
  expect(await scheduler.adaptiveTarget(60)).toBe(7);
  expect(await scheduler.workersToClose(2)).toEqual(["tcp://127.0.0.1:1"]);
  await scheduler.retire(["tcp://127.0.0.1:1"], true);
  expect(asked.map(([op]) => op)).toEqual(["adaptive_target", "workers_to_close", "retire_workers"]);
  expect(Number(asked[0]![1])).toBe(60);
  expect(asked.slice(1)).toEqual([
    ["workers_to_close", 2],
    ["retire_workers", [["tcp://127.0.0.1:1"], true, true]],
  ]);
  await scheduler.close();
  listener.close();
});
