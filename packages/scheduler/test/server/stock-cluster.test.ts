/** Stock clients and stock workers on this scheduler. */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { TestCluster } from "./cluster.ts";

let cluster: TestCluster;

beforeAll(async () => {
  cluster = await TestCluster.start();
  await Promise.all([cluster.worker("--name", "alice"), cluster.worker("--name", "bob")]);
});
afterAll(() => cluster.stop());

describe("tasks", () => {
  test("submit, map, dependencies, errors, delayed", async () => {
    const facts = await cluster.client(`
      a = c.submit(inc, 1)
      b = c.submit(operator.add, a, 10, key=("tuple", 1))
      report(b=b.result(), sum=sum(c.gather(c.map(inc, range(50)))))
      report(error=raises(lambda: c.submit(operator.truediv, 1, 0).result()))
      bad = c.submit(operator.truediv, 1, 0)
      report(blamed=raises(lambda: c.submit(inc, bad).result()))
      from dask import delayed
      report(delayed=delayed(sum)([delayed(inc)(i) for i in range(10)]).compute())
    `);
    expect(facts).toEqual({
      b: 12,
      sum: 1275,
      error: "ZeroDivisionError: division by zero",
      blamed: "ZeroDivisionError: division by zero",
      delayed: 55,
    });
  });

  test("a graph that cannot be opened fails its own futures, and nothing else", async () => {
    const facts = await cluster.client(`
      class Bad:
          def __reduce__(self):
              return operator.truediv, (1, 0)
      report(error=raises(lambda: c.submit(inc, Bad()).result()), after=c.submit(inc, 41).result())
    `);
    expect(String(facts["error"])).toMatch(/^RuntimeError: Error during deserialization of the task graph/);
    expect(facts["after"]).toBe(42);
  });

  test("cancel and retry", async () => {
    const facts = await cluster.client(`
      slow = c.submit(time.sleep, 0.5)
      child = c.submit(lambda x: x, slow)
      c.cancel(slow)
      report(cancelled=slow.status, child=raises(child.result).split(":")[0])
      bad = c.submit(operator.truediv, 1, 0)
      wait(bad)
      bad.retry()
      wait(bad)
      report(retried=bad.status)
    `);
    expect(facts).toEqual({ cancelled: "cancelled", child: "FutureCancelledError", retried: "error" });
  });

  test("progress bars are answered", async () => {
    const facts = await cluster.client(`
      from distributed.diagnostics.progressbar import TextProgressBar, MultiProgressBar
      import io, contextlib
      fs = c.map(lambda x: time.sleep(0.05), range(6), pure=False)
      with contextlib.redirect_stdout(io.StringIO()):
          bar = TextProgressBar(fs, interval="20ms")
      report(last={k: bar._last_response[k] for k in ("all", "remaining", "status")})
      f = c.submit(inc, 100, key="m-1")
      multi = MultiProgressBar([f], interval="20ms", complete=True)
      multi._draw_bar = multi._draw_stop = lambda **kw: None
      c.sync(multi.listen)
      report(multi={k: multi._last_response[k] for k in ("all", "remaining", "status")})
      # What it was made from is released by now, and will not be computed again.
      from dask import delayed
      from distributed import futures_of
      chain = delayed(inc)(delayed(inc)(1)).persist()
      wait(chain)
      with contextlib.redirect_stdout(io.StringIO()):
          bar = TextProgressBar(futures_of(chain), interval="20ms")
      report(finished={k: bar._last_response[k] for k in ("all", "remaining", "status")})
    `);
    expect(facts).toEqual({
      last: { all: 6, remaining: 0, status: "finished" },
      multi: { all: { m: 1 }, remaining: { m: 0 }, status: "finished" },
      finished: { all: 2, remaining: 0, status: "finished" },
    });
  });
});

describe("data", () => {
  test("scatter, who_has, replicate, rebalance, gather of what is gone", async () => {
    const facts = await cluster.client(`
      d = c.scatter({"x": 1, "y": 2})
      report(gathered=c.gather(d))
      everywhere = c.scatter(b"z" * 100, broadcast=True)
      report(copies=len(c.who_has(everywhere)[everywhere.key]), missing=c.sync(c.scheduler.who_has, keys=["nope"])["nope"])
      f = c.submit(inc, 7)
      wait(f)
      c.replicate(f, n=2)
      report(replicas=len(c.who_has(f)[f.key]))
      c.replicate(f, n=1)
      report(again=len(c.who_has(f)[f.key]))
      c.rebalance()
      report(reply=c.sync(c.scheduler.gather, keys=["nope"]))
    `);
    expect(facts).toMatchObject({
      gathered: { x: 1, y: 2 },
      copies: 2,
      missing: [],
      replicas: 2,
      again: 1,
      reply: { status: "error", keys: ["nope"] },
    });
  });
});

test("a broadcast while one of its workers leaves goes to the rest", async () => {
  const pair = await TestCluster.start();
  try {
    await pair.worker();
    await pair.worker();
    // Whichever gets the value first ends the other before it answers.
    const facts = await pair.client(`
      from distributed.core import rpc
      def patch(dask_worker):
          store = dask_worker.handlers["update_data"]
          async def workers():
              return (await dask_worker.scheduler.identity())["workers"]
          async def update_data(**kwargs):
              [other] = set(await workers()) - {dask_worker.address}
              async with rpc(other) as peer:
                  try:
                      await peer.terminate(reason="test")
                  except OSError:
                      pass  # it is gone before it has answered
              while other in await workers():
                  await asyncio.sleep(0.01)
              return store(**kwargs)
          dask_worker.handlers["update_data"] = update_data
      c.run(patch)
      x = c.scatter(5, broadcast=True)
      report(value=x.result(), copies=len(c.who_has(x)[x.key]))
    `);
    expect(facts).toEqual({ value: 5, copies: 1 });
  } finally {
    await pair.stop();
  }
});

describe("control", () => {
  test("run on workers and beside the scheduler, with errors", async () => {
    const facts = await cluster.client(`
      report(names=sorted(c.run(lambda dask_worker: dask_worker.name).values()))
      report(bad=raises(lambda: c.run(lambda: 1 / 0)))
      report(beside=c.run_on_scheduler(lambda dask_scheduler: dask_scheduler.address) == c.scheduler.address)
      report(badder=raises(lambda: c.run_on_scheduler(lambda: 1 / 0)))
    `);
    expect(facts).toEqual({
      names: ["alice", "bob"],
      bad: "ZeroDivisionError: division by zero",
      beside: true,
      badder: "ZeroDivisionError: division by zero",
    });
  });

  test("worker plugins reach the workers and later ones", async () => {
    const facts = await cluster.client(`
      from distributed import WorkerPlugin
      class Mark(WorkerPlugin):
          name = "mark"
          def setup(self, worker):
              worker.mark = 5
      c.register_plugin(Mark())
      report(marks=list(c.run(lambda dask_worker: dask_worker.mark).values()))
      c.unregister_worker_plugin("mark")
      report(again=raises(lambda: c.unregister_worker_plugin("mark")))
    `);
    expect(facts).toEqual({ marks: [5, 5], again: "ValueError: The worker plugin mark does not exist" });
  });

  test("events, metadata, logs, story, task stream", async () => {
    const facts = await cluster.client(`
      got = []
      c.subscribe_topic("news", got.append)
      async def published():
          while not got:
              await c.log_event("news", {"n": 1})
              await asyncio.sleep(0.05)
      c.sync(published)
      report(event=got[0][1], kept=c.get_events("news")[0][1])
      c.set_metadata(["a", "b"], 3)
      report(metadata=c.get_metadata("a"), absent=c.get_metadata("nope", 0), error=raises(lambda: c.get_metadata("nope")))
      report(logs=any("Receive client connection" in line for _, line in c.get_scheduler_logs()))
      c.get_task_stream()
      f = c.submit(inc, 1234)
      wait(f)
      report(stream=[(r["key"] == f.key, r["status"]) for r in c.get_task_stream()])
      report(story=[t[1:3] for t in c.sync(c.scheduler.get_story, keys_or_stimuli=[f.key])])
    `);
    expect(facts).toEqual({
      event: { n: 1 },
      kept: { n: 1 },
      metadata: { b: 3 },
      absent: 0,
      error: "KeyError: 'nope'",
      logs: true,
      stream: [[true, "OK"]],
      story: [
        ["released", "waiting"],
        ["waiting", "processing"],
        ["processing", "memory"],
      ],
    });
  });

  test("cluster managers hear of workers; versions match without a warning", async () => {
    const facts = await cluster.client(`
      async def subscribe():
          from distributed.core import connect
          comm = await connect(c.scheduler.address)
          await comm.write({"op": "subscribe_worker_status"})
          reply = await comm.read()
          await comm.close()
          return reply
      reply = c.sync(subscribe)
      async def register():
          from distributed.core import connect
          from distributed.versions import get_versions
          comm = await connect(c.scheduler.address)
          await comm.write({"op": "register-client", "client": "Client-x", "reply": False, "versions": get_versions()})
          same = await comm.read()
          await comm.write([{"op": "close-stream"}])
          comm = await connect(c.scheduler.address)
          odd = {"packages": {**get_versions()["packages"], "dask": "1.2.3"}}
          await comm.write({"op": "register-client", "client": "Client-y", "reply": False, "versions": odd})
          other = await comm.read()
          await comm.close()
          return same, other
      same, other = c.sync(register)
      report(same=same, other=other[0]["warning"].split("\\n")[0])
      report(type=reply["type"], fields=["metrics" in w for w in reply["workers"].values()])
      report(versions=sorted(c.get_versions(check=True)))
      report(target=c.sync(c.scheduler.adaptive_target) <= 1, close=len(c.sync(c.scheduler.workers_to_close, n=1)))
    `);
    expect(facts).toEqual({
      same: [{ op: "stream-start", warning: "", error: "" }],
      other: "Mismatched versions found",
      type: "Scheduler",
      fields: [false, false],
      versions: ["client", "scheduler", "workers"],
      target: true,
      close: 1,
    });
  });

  test("what is not there says so", async () => {
    const facts = await cluster.client(`
      report(unknown=raises(lambda: c.sync(c.scheduler.nonsense)))
      report(field=raises(lambda: c.sync(c.scheduler.who_has, keyz=[])))
    `);
    expect(facts).toMatchObject({ unknown: "ValueError: No handler 'nonsense' found in Scheduler" });
    expect(String(facts["field"])).toMatch(/^TypeError: .*keyz/);
  });

  test("retiring a worker keeps its data", async () => {
    const facts = await cluster.client(`
      fs = c.map(inc, range(20))
      wait(fs)
      # SpecCluster sends names as addresses, also of workers that have gone.
      report(unknown=c.sync(c.scheduler.retire_workers, workers=[0, "nobody", "tcp://127.0.0.1:1"]))
      retired = c.retire_workers(names=["bob"], close_workers=True)
      report(retired=[w["name"] for w in retired.values()], sum=sum(c.gather(fs)))
      report(left=[w["name"] for w in c.scheduler_info(n_workers=-1)["workers"].values()])
    `);
    expect(facts).toEqual({ unknown: {}, retired: ["bob"], sum: 210, left: ["alice"] });
  });
});
