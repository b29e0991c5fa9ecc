import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Shuffle } from "../../src/extensions/shuffle.ts";
import { TestCluster, until } from "../server/cluster.ts";

const TIMEOUT = 180_000;

const IMPORTS = `
import dask, numpy as np, pandas as pd
import dask.array as da, dask.dataframe as dd
dask.config.set({"dataframe.shuffle.method": "p2p", "array.rechunk.method": "p2p"})
`;

describe("P2P shuffles with stock workers", () => {
  let cluster: TestCluster;
  beforeEach(async () => {
    cluster = await TestCluster.start();
  });
  afterEach(async () => {
    await cluster.stop();
  });

  const shuffle = (): Shuffle => {
    const found = cluster.scheduler.extensions.find((extension) => extension instanceof Shuffle);
    if (found === undefined) throw new Error("no shuffle extension");
    return found;
  };

  test("shuffle, set_index, merge and rechunk give what pandas and numpy give", { timeout: TIMEOUT }, async () => {
    await Promise.all([cluster.worker(), cluster.worker()]);
    const facts = await cluster.client(`
      ${IMPORTS.trim().split("\n").join("\n      ")}
      a = pd.DataFrame({"x": np.arange(1000) % 37, "y": np.arange(1000)})
      b = pd.DataFrame({"x": np.arange(37), "z": np.arange(37) * 2})
      left, right = dd.from_pandas(a, npartitions=7), dd.from_pandas(b, npartitions=3)
      report(
          shuffled=sorted(left.shuffle("x").compute().y) == list(range(1000)),
          indexed=left.set_index("x").compute().index.is_monotonic_increasing,
          merged=left.merge(right, on="x").compute().sort_values("y").reset_index(drop=True).equals(a.merge(b, on="x")),
      )
      array = np.arange(400 * 40).reshape(400, 40)
      rechunked = da.from_array(array, chunks=(20, 40)).rechunk((400, 4))
      report(rechunked=bool((rechunked.compute() == array).all()))
    `);
    expect(facts).toEqual({ shuffled: true, indexed: true, merged: true, rechunked: true });
    await until(() => cluster.scheduler.core.state.tasks.size === 0, "the tasks to be forgotten");
    expect(shuffle().active.size).toBe(0);
    expect(cluster.lines("ERROR")).toEqual([]);
  });

  test("a shuffle survives the loss of a worker in the middle", { timeout: TIMEOUT }, async () => {
    const [victim] = await Promise.all([cluster.worker(), cluster.worker(), cluster.worker()]);
    const result = cluster.client(`
      ${IMPORTS.trim().split("\n").join("\n      ")}
      def slow(df):
          time.sleep(0.2)
          return df
      a = pd.DataFrame({"x": np.arange(3000) % 37, "y": np.arange(3000)})
      df = dd.from_pandas(a, npartitions=30).map_partitions(slow).shuffle("x").map_partitions(slow)
      report(right=sorted(df.compute().y) == list(range(3000)))
    `);
    await until(() => {
      const [run] = shuffle().active.values();
      return run !== undefined && run.barrier.waitingOn.size < 25;
    }, "a shuffle at work");
    victim.kill("SIGKILL");
    expect(await result).toEqual({ right: true });
    expect(cluster.lines("WARNING").filter((line) => line.includes("restarted due to stimulus"))).not.toEqual([]);
  });

  test("a stale or unknown run is refused, and only to its sender", { timeout: TIMEOUT }, async () => {
    await cluster.worker();
    const facts = await cluster.client(`
      from distributed.core import clean_exception
      worker = next(iter(c.scheduler_info()["workers"]))
      def ask(op, **fields):
          reply = c.sync(getattr(c.scheduler, op), **fields)
          _, exc, _ = clean_exception(**reply)
          return [reply["status"], type(exc).__name__, str(exc)]
      report(
          get=ask("shuffle_get", id="no", worker=worker),
          stranger=ask("shuffle_get", id="no", worker="tcp://1.2.3.4:5"),
          create=ask("shuffle_get_or_create", shuffle_id="no", key="x", worker=worker),
          barrier=raises(lambda: c.sync(c.scheduler.shuffle_barrier, id="no", run_id=1, consistent=True)),
          restrict=raises(lambda: c.sync(c.scheduler.shuffle_restrict_task, id="no", run_id=1, key="x", worker=worker)),
          alive=c.submit(inc, 1).result(),
      )
    `);
    expect(facts).toEqual({
      get: ["error", "P2PConsistencyError", "No active shuffle with id='no' found"],
      stranger: ["error", "P2PConsistencyError", "Scheduler is unaware of this worker 'tcp://1.2.3.4:5'"],
      create: ["error", "P2PConsistencyError", expect.stringContaining("'shuffle-barrier-no' does not exist")],
      barrier: "KeyError: 'no'",
      restrict: "KeyError: 'no'",
      alive: 2,
    });
  });

  test("a task that fails ends its shuffle", { timeout: TIMEOUT }, async () => {
    await Promise.all([cluster.worker(), cluster.worker()]);
    const facts = await cluster.client(`
      ${IMPORTS.trim().split("\n").join("\n      ")}
      def bad(df, partition_info=None):
          if partition_info and partition_info["number"] == 5:
              time.sleep(0.5)
              raise ValueError("on purpose")
          return df
      a = pd.DataFrame({"x": np.arange(300), "y": np.arange(300)})
      df = dd.from_pandas(a, npartitions=6).map_partitions(bad, meta=a).shuffle("x")
      report(error=raises(df.compute), alive=c.submit(inc, 1).result())
    `);
    expect(facts["error"]).toContain("on purpose");
    await until(() => shuffle().active.size === 0, "the shuffle to end");
    expect(facts["alive"]).toBe(2);
  });
});
