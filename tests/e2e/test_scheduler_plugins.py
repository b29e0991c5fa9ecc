"""User code of the scheduler: run_on_scheduler, plugins, preload modules, feeds; all beside it, in the plugin host."""

from __future__ import annotations

import asyncio
import os
import time

import pytest
from distributed import Scheduler, SchedulerPlugin, WorkerPlugin
from distributed.comm import connect
from distributed.protocol.pickle import dumps
from distributed.scheduler import WorkerState

from cluster import Cluster, wait_until


def inc(x):
    return x + 1


class Recorder(SchedulerPlugin):
    """Writes down every hook that is called."""

    name = "recorder"

    def __init__(self):
        self.calls = []

    async def start(self, scheduler):
        self.scheduler = scheduler
        self.calls.append(("start", len(scheduler.workers)))

    def update_graph(self, scheduler, *, client, keys, tasks, annotations, priority, stimulus_id, **kwargs):
        self.calls.append(("update_graph", keys, tasks, annotations, priority))

    def restart(self, scheduler):
        self.calls.append(("restart",))

    def transition(self, key, start, finish, *args, stimulus_id, **kwargs):
        ts = self.scheduler.tasks[key]
        self.calls.append(("transition", key, start, finish, stimulus_id, kwargs, ts.group_key))

    def add_worker(self, scheduler, worker):
        self.calls.append(("add_worker", worker))

    async def remove_worker(self, scheduler, worker, *, stimulus_id, **kwargs):
        await asyncio.sleep(0)
        self.calls.append(("remove_worker", worker))

    def add_client(self, scheduler, client):
        self.calls.append(("add_client", client))

    def remove_client(self, scheduler, client):
        self.calls.append(("remove_client", client))

    def valid_workers_downscaling(self, scheduler, workers):
        self.calls.append(("valid_workers_downscaling", sorted(ws.address for ws in workers)))
        return [ws for ws in workers if ws.name != "kept"]

    def log_event(self, topic, msg):
        if topic == "mine":
            self.calls.append(("log_event", topic, msg))


def calls_of(client, name="recorder"):
    return client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.plugins[name].calls)


def test_the_view(cluster, client):
    future = client.submit(inc, 1, key="x-1")
    assert future.result() == 2

    def look(dask_scheduler):
        s = dask_scheduler
        ts = s.tasks["x-1"]
        (ws,) = ts.who_has
        s.foo = "bar"
        return {
            "address": s.address,
            "isinstance": isinstance(s, Scheduler) and isinstance(ws, WorkerState),
            "workers": sorted(s.workers),
            "values": sorted(w.address for w in s.workers.values()),
            "nthreads": {a: w.nthreads for a, w in s.workers.items()},
            "task": (ts.state, ts.key, ts.nbytes > 0, ts.group.name, ts.prefix.name, len(ts.group)),
            "has_what": ts in ws.has_what and ws.nbytes == ts.nbytes,
            "clients": [key in s.clients for key in (c.client_key for c in ts.who_wants)],
            "unknown": "y" in s.tasks,
            "status": (s.status.name, ws.status.name),
            "total": s.total_nthreads,
            "memory": ws.memory.process > 0,
            "loop": s.loop.asyncio_loop is asyncio.get_running_loop(),
            "rpc": type(s.rpc).__name__,
            "len": len(s.tasks),
            "service": s.get_worker_service_addr(ws.address, "dashboard") is not None,
        }

    seen = client.run_on_scheduler(look)
    info = client.scheduler_info(-1)
    addresses = sorted(info["workers"])
    assert seen == {
        "address": client.scheduler.address,
        "isinstance": True,
        "workers": addresses,
        "values": addresses,
        "nthreads": dict.fromkeys(addresses, 1),
        "task": ("memory", "x-1", True, "x", "x", 1),
        "has_what": True,
        "clients": [True],
        "unknown": False,
        "status": ("running", "running"),
        "total": 2,
        "memory": True,
        "loop": True,
        "rpc": "ConnectionPool",
        "len": 1,
        "service": True,
    }
    # The object is the same for every call.
    assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.foo) == "bar"
    workers = client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.workers)
    assert sorted(workers) == addresses and all(isinstance(ws, WorkerState) for ws in workers.values())
    for name in ["transitions", "add_worker", "http_server"]:
        with pytest.raises(AttributeError, match=name):
            client.run_on_scheduler(lambda dask_scheduler, name: getattr(dask_scheduler, name), name=name)
    with pytest.raises(AttributeError, match="no attribute 'never_was'"):
        client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.never_was)
    with pytest.raises(AttributeError, match="worker_ttl"):
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "worker_ttl", 5))
    with pytest.raises(ZeroDivisionError):
        client.run_on_scheduler(lambda: 1 / 0)


def test_methods_of_the_view(cluster, client):
    future = client.submit(inc, 1, key="y-1")
    assert future.result() == 2

    async def act(dask_scheduler):
        s = dask_scheduler
        s.log_event("topic", {"a": 1})
        s.client_desires_keys(keys=["y-1"], client="mine")
        wants = sorted(c.client_key for c in s.tasks["y-1"].who_wants)
        s.client_releases_keys(keys=["y-1"], client="mine", stimulus_id="test")
        answers = await s.broadcast(msg={"op": "ping"})
        worker = s.rpc(next(iter(s.workers)))
        pong = await worker.ping()
        story = await s.get_story(["y-1"])
        data = await s.gather(keys=["y-1"])
        return {
            "events": [msg for _, msg in s.get_events("topic")],
            "all": "topic" in s.get_events() and "topic" in s.events,
            "wants": "mine" in wants,
            "wants_no_more": "mine" not in s.clients or not s.clients["mine"].wants_what,
            "pings": set(answers.values()),
            "pong": pong,
            "story": [(row.start, row.finish) for row in story][-1],
            "who_has": s.get_who_has(["y-1"]).keys() == {"y-1"},
            "gathered": data["status"],
        }

    seen = client.run_on_scheduler(act)
    assert seen == {
        "events": [{"a": 1}],
        "all": True,
        "wants": True,
        "wants_no_more": True,
        "pings": {b"pong"},
        "pong": b"pong",
        "story": ("processing", "memory"),
        "who_has": True,
        "gathered": "OK",
    }
    with pytest.raises(TypeError, match="msgpack"):
        client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.log_event("topic", object()))


def test_every_hook(cluster, client):
    client.register_plugin(Recorder())
    futures = client.map(inc, range(3), key=["a-0", "a-1", "a-2"])
    total = client.submit(sum, futures, key="total", priority=3)
    assert total.result() == 6
    calls = calls_of(client)
    assert calls[0] == ("start", 2)
    graphs = [call for call in calls if call[0] == "update_graph"]
    assert {key for call in graphs for key in call[1]} == {"a-0", "a-1", "a-2", "total"}
    assert graphs[-1][3] == {"priority": {"total": 3}} or graphs[-1][3] == {}
    assert graphs[-1][4]["total"][0] == -3
    finished = {call[1]: call for call in calls if call[0] == "transition" and call[3] == "memory"}
    assert set(finished) == {"a-0", "a-1", "a-2", "total"}
    _, _, start, finish, stimulus, extra, group = finished["total"]
    assert (start, finish, group) == ("processing", "memory", "total")
    assert stimulus.startswith("task-finished") and {"worker", "nbytes", "typename", "startstops"} <= set(extra)

    client.log_event("mine", {"n": 1})
    del futures, total
    wait_until(lambda: any(call[3:4] == ("forgotten",) for call in calls_of(client)), "tasks are forgotten")
    with cluster.client() as other:
        other_id = other.id
    worker = cluster.start_worker("ours", "--name", "kept")
    client.wait_for_workers(3)
    client.sync(client.scheduler.workers_to_close, n=3)
    to_close = client.sync(client.scheduler.workers_to_close, n=3)
    assert len(to_close) == 2
    address = next(a for a, w in client.scheduler_info(-1)["workers"].items() if w["name"] == "kept")
    client.retire_workers([address])
    worker.popen.wait(30)
    client.restart(timeout=60)
    calls = calls_of(client)
    for call in [
        ("log_event", "mine", {"n": 1}),
        ("add_client", other_id),
        ("remove_client", other_id),
        ("add_worker", address),
        ("remove_worker", address),
        ("restart",),
    ]:
        assert call in calls, call
    assert any(call[0] == "valid_workers_downscaling" and len(call[1]) == 3 for call in calls)
    client.unregister_scheduler_plugin("recorder")
    with pytest.raises(ValueError, match="recorder"):
        client.unregister_scheduler_plugin("recorder")


def test_names_and_idempotence(client):
    class Plain(SchedulerPlugin):
        def __init__(self, value):
            self.value = value

    class Idempotent(Plain):
        idempotent = True

    def value(dask_scheduler, name):
        return dask_scheduler.plugins[name].value

    client.register_plugin(Plain(1), name="p")
    client.register_plugin(Plain(2), name="p")
    assert client.run_on_scheduler(value, name="p") == 2
    client.register_plugin(Idempotent(1), name="q")
    client.register_plugin(Idempotent(2), name="q")
    assert client.run_on_scheduler(value, name="q") == 1
    client.register_plugin(Plain(3))
    names = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.plugins))
    assert any(name.startswith("Plain-") for name in names)

    class Bad(SchedulerPlugin):
        async def start(self, scheduler):
            raise ValueError("does not start")

    with pytest.raises(ValueError, match="does not start"):
        client.register_plugin(Bad(), name="bad")
    assert "bad" not in client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.plugins))


def test_a_worker_plugin_reaches_all(client):
    class Mark(WorkerPlugin):
        name = "mark"

        def setup(self, worker):
            worker.marked = True

    client.register_plugin(Mark())
    assert set(client.run(lambda dask_worker: dask_worker.marked).values()) == {True}


class Failing(SchedulerPlugin):
    name = "failing"

    def transition(self, key, start, finish, *args, **kwargs):
        raise KeyError("oops")


class Blocking(SchedulerPlugin):
    name = "blocking"

    def transition(self, key, start, finish, *args, **kwargs):
        if key == "block" and finish == "waiting":
            time.sleep(10)


class Killing(SchedulerPlugin):
    name = "killing"

    def transition(self, key, start, finish, *args, **kwargs):
        if key == "kill" and finish == "memory":
            os.kill(os.getpid(), 9)


def test_a_plugin_that_raises(cluster, client):
    client.register_plugin(Failing())
    assert client.submit(inc, 1, key="fail").result() == 2
    line = "Scheduler plugin 'failing' failed in transition: KeyError: 'oops'"
    wait_until(lambda: line in cluster.scheduler.text, "the line about the plugin")
    assert cluster.scheduler.text.count(line) == 1
    client.unregister_scheduler_plugin("failing")


def test_a_plugin_that_blocks(cluster, client):
    client.register_plugin(Blocking())
    start = time.monotonic()
    assert client.submit(inc, 1, key="block").result() == 2
    assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
    assert time.monotonic() - start < 5
    line = "scheduler plugin 'blocking' has been in transition for 3 s"
    wait_until(lambda: line in cluster.scheduler.text, "the line about the plugin")
    client.unregister_scheduler_plugin("blocking")
    assert cluster.scheduler.text.count(line) == 1


def test_a_plugin_that_kills_its_process(cluster, client, tmp_path):
    path = tmp_path / "uploaded_module.py"
    path.write_text("value = 5\n")
    client.upload_file(str(path))
    client.register_plugin(Recorder())
    client.register_plugin(Killing())
    pid = client.run_on_scheduler(os.getpid)
    assert client.submit(inc, 1, key="kill").result() == 2
    line = "the plugin host ended by SIGKILL while scheduler plugin 'killing' was in transition"
    wait_until(lambda: line in cluster.scheduler.text, "the line about the plugin")
    assert client.submit(inc, 5, key="after").result() == 6
    assert client.run_on_scheduler(os.getpid) != pid

    def look(dask_scheduler):
        import uploaded_module

        return sorted(dask_scheduler.plugins), uploaded_module.value

    names, value = client.run_on_scheduler(look)
    assert {"recorder", "killing"} <= set(names) and any("uploaded_module" in name for name in names)
    assert value == 5
    assert calls_of(client)[0] == ("start", 2)
    client.unregister_scheduler_plugin("recorder")
    client.unregister_scheduler_plugin("killing")


def test_a_graph_that_needs_what_the_scheduler_was_given(client):
    def install():
        import sys
        import types

        module = types.ModuleType("only_on_the_scheduler")
        exec("class Thing:\n    def __reduce__(self):\n        return int, ('7',)\n", module.__dict__)
        sys.modules["only_on_the_scheduler"] = module

    client.run_on_scheduler(install)
    client.run(install)
    install()
    import only_on_the_scheduler  # type: ignore[import-not-found]

    class Late:
        def __reduce__(self):
            return getattr, (only_on_the_scheduler, "__name__")

    future = client.submit(len, Late(), key="late")
    assert future.result() == len("only_on_the_scheduler")


def test_feed(client):
    def setup(scheduler):
        scheduler.fed = []
        return {"n": 0}

    def function(scheduler, state):
        state["n"] += 1
        return {"n": state["n"], "workers": len(scheduler.workers)}

    def teardown(scheduler, state):
        scheduler.fed.append(state["n"])

    async def read():
        comm = await connect(client.scheduler.address)
        await comm.write(
            {
                "op": "feed",
                "setup": dumps(setup),
                "function": dumps(function),
                "teardown": dumps(teardown),
                "interval": 0.01,
            }
        )
        messages = [await comm.read() for _ in range(3)]
        await comm.close()
        return messages

    messages = asyncio.run(read())
    assert [message["n"] for message in messages] == [1, 2, 3]
    assert messages[0]["workers"] == 2
    wait_until(lambda: client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.fed), "the teardown")


def test_handlers_of_plugins(client):
    class Echo(SchedulerPlugin):
        name = "echo"

        async def start(self, scheduler):
            self.scheduler = scheduler
            scheduler.handlers["my_echo"] = self.echo

        async def echo(self, comm, value=None):
            return {"value": value, "workers": len(self.scheduler.workers)}

    client.register_plugin(Echo())
    assert client.sync(client.scheduler.my_echo, value=5) == {"value": 5, "workers": 2}


PRELOAD = """
import sys
calls = []

def dask_setup(scheduler):
    calls.append(("setup", scheduler.address))
    scheduler.foo = "bar"

async def dask_teardown(scheduler):
    print("torn down at", scheduler.address, flush=True)
"""

COMMAND = """
import click

@click.command()
@click.option("--passthrough", default="default")
def dask_setup(scheduler, passthrough):
    scheduler.passthrough = passthrough
"""


def test_preload_modules(tmp_path):
    file = tmp_path / "preload_file.py"
    file.write_text(PRELOAD)
    command = tmp_path / "preload_command.py"
    command.write_text(COMMAND)
    flags = ["--preload", str(file), "--preload", str(command), "--passthrough", "foobar"]
    with Cluster(workers=["ours"], scheduler_flags=flags) as cluster, cluster.client() as client:

        def look(dask_scheduler):
            import preload_file

            return preload_file.calls, dask_scheduler.foo, dask_scheduler.passthrough

        assert client.run_on_scheduler(look) == ([("setup", cluster.address)], "bar", "foobar")
        pid = client.run_on_scheduler(os.getpid)
        client.run_on_scheduler(lambda dask_scheduler: str(dask_scheduler.loop.call_later(0.1, os._exit, 1)))
        wait_until(lambda: "the plugin host ended with code 1" in cluster.scheduler.text, "the line about its end")
        assert client.run_on_scheduler(look) == ([("setup", cluster.address)], "bar", "foobar")
        assert client.run_on_scheduler(os.getpid) != pid
        assert client.submit(inc, 1).result() == 2
        cluster.scheduler.stop()
        assert f"torn down at {cluster.address}" in cluster.scheduler.text


def test_wrong_arguments_of_a_preload_module(tmp_path):
    command = tmp_path / "preload_command.py"
    command.write_text(COMMAND)
    cluster = Cluster(workers=[], scheduler_flags=["--preload", str(command), "--wrong", "x"])
    with pytest.raises(AssertionError, match=r"No such option.*--wrong"), cluster:
        pass
