"""The plugin host: hooks, functions, preload modules and feeds, against a scheduler that is made up."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager

import cloudpickle
import pytest
from distributed import Scheduler, SchedulerPlugin
from distributed.core import Status, error_message
from distributed.scheduler import WorkerState

from dask_ts import plugin_host
from dask_ts.bridge import decode_message, encode_message
from dask_ts.plugin_watch import Mark

ADDRESSES = ("tcp://10.0.0.1:1000", "tcp://10.0.0.2:1000")


def worker_facts(address):
    facts = {"name": address[-6], "nthreads": 2, "status": "running", "host": "10.0.0.1", "nbytes": 0}
    facts |= {"pid": 1, "memory_limit": 10, "local_directory": "/", "nanny": None, "server_id": "w", "extra": {}}
    facts |= {"services": {}, "_identity": {"nthreads": 2}}
    memory = {"process": 5, "unmanaged_old": 0, "managed": 1, "spilled": 0}
    return {**facts, "_memory": memory} if address in ADDRESSES else None


def task_facts(key):
    if key == "gone":
        return None
    lists = dict.fromkeys(("dependencies", "dependents", "waiting_on", "waiters", "who_wants"), ())
    return {"state": "memory", "nbytes": 8, "who_has": ADDRESSES[:1], "group": "x", "prefix": "x", **lists}


def over_the_wire(message):
    (message,) = decode_message([memoryview(bytes(f)) for f in encode_message([message])])
    return message


class Parent:
    """The other end of the bridge."""

    def __init__(self):
        self.asked = []
        self.sent = []
        self.replies = {}
        self.calls = {"log_event": None, "broadcast": {"a": "OK"}}

    def send(self, message):
        self.sent.append(message)

    def reply(self, number, **fields):
        encode_message([fields])
        self.replies[number].set_result(fields)

    def reply_error(self, number, exc, status="uncaught-error"):
        self.replies[number].set_result(error_message(exc, status=status))

    def request_sync(self, op, timeout=None, **fields):
        self.asked.append((op, fields))
        return over_the_wire(self.answer(op, **over_the_wire(fields)))

    async def request(self, op, **fields):
        return self.request_sync(op, **fields)

    def answer(self, op, **fields):
        match op, fields:
            case "view-value", {"name": name}:
                values = {"address": "tcp://10.0.0.9:8786", "status": "running"}
                return {"value": values[name]}
            case "view-facts", {"kind": kind, "keys": keys}:
                return {"facts": [(worker_facts if kind == "worker" else task_facts)(key) for key in keys]}
            case "view-count", _:
                return {"count": 2}
            case "view-scan", {"what": "workers", "cursor": None}:
                return {"keys": ADDRESSES[:1], "cursor": 7}
            case "view-scan", {"what": "workers", "cursor": 7}:
                return {"keys": ADDRESSES[1:], "cursor": None}
            case "scheduler-call", {"name": "boom"}:
                raise AssertionError
            case "scheduler-call", {"name": name}:
                if name not in self.calls:
                    return error_message(KeyError(name), status="uncaught-error")
                return {"value": self.calls[name]}
            case "uploaded", _:
                return {}
        raise AssertionError((op, fields))


@contextmanager
def running_host(parent, folder, monkeypatch):
    """A plugin host whose loop runs in a thread."""
    monkeypatch.setenv("DASK_TS_FOLDER", str(folder))
    ready = Future()

    def main():
        asyncio.set_event_loop(made.loop)
        made.start(parent)
        ready.set_result(None)
        made.loop.run_forever()

    made = plugin_host.PluginHost()
    thread = threading.Thread(target=main)
    thread.start()
    ready.result(10)
    yield made
    made.loop.call_soon_threadsafe(made.loop.stop)
    thread.join()
    made.loop.close()


@pytest.fixture
def host(tmp_path, monkeypatch):
    with running_host(Parent(), tmp_path, monkeypatch) as made:
        yield made


def ask(host, op, **fields):
    number = len(host.bridge.replies) + 1
    answer = host.bridge.replies[number] = Future()
    host.on_message({"op": op, "id": number, **fields})
    reply = answer.result(10)
    if "exception" in reply:
        raise pickle.loads(reply["exception"].data if hasattr(reply["exception"], "data") else reply["exception"])
    return reply


def run(host, function, *args, **kwargs):
    reply = ask(
        host,
        "run-function",
        function=cloudpickle.dumps(function),
        args=cloudpickle.dumps(args),
        kwargs=pickle.dumps(kwargs),
    )
    assert reply["status"] == "OK"
    header, frames = reply["result"].header, reply["result"].frames
    from distributed.protocol.serialize import deserialize

    return deserialize(header, frames)


def test_functions(host):
    assert run(host, lambda x, y: x - y, 5, y=3) == 2

    async def where(dask_scheduler):
        await asyncio.sleep(0)
        return asyncio.get_running_loop() is dask_scheduler.loop.asyncio_loop

    assert run(host, where) is True
    with pytest.raises(ZeroDivisionError):
        run(host, lambda: 1 / 0)
    with pytest.raises(AssertionError, match="Combination not supported"):
        ask(host, "run-function", function=cloudpickle.dumps(len), wait=False)


def test_the_view(host):
    def look(dask_scheduler):
        s = dask_scheduler
        ws = s.workers[ADDRESSES[0]]
        s.foo = 5
        return (
            s.address,
            s.status,
            isinstance(s, Scheduler) and isinstance(ws, WorkerState),
            list(s.workers),
            [w.name for w in s.workers.values()],
            len(s.workers),
            ws.status,
            ws.memory.process,
            "gone" in s.tasks,
            [w.address for w in s.tasks["x"].who_has],
            s.tasks["x"] == s.tasks["x"],
            s.workers.get("tcp://nowhere:1"),
        )

    assert run(host, look) == (
        "tcp://10.0.0.9:8786",
        Status.running,
        True,
        list(ADDRESSES),
        ["1", "2"],
        2,
        Status.running,
        5,
        False,
        [ADDRESSES[0]],
        True,
        None,
    )
    assert run(host, lambda dask_scheduler: dask_scheduler.foo) == 5
    assert isinstance(run(host, lambda dask_scheduler: dask_scheduler.workers)[ADDRESSES[0]], WorkerState)


def test_facts_are_asked_once_a_turn(host):
    def look(dask_scheduler):
        return [dask_scheduler.tasks["x"].nbytes + dask_scheduler.tasks["x"].get_nbytes() for _ in range(10)]

    assert run(host, look) == [16] * 10
    assert [op for op, _ in host.bridge.asked] == ["view-facts"]
    run(host, look)
    assert len(host.bridge.asked) == 2


@pytest.mark.parametrize("name", ["transition", "add_replica", "http_server", "handle_worker"])
def test_what_cannot_be_had_is_named(host, name):
    with pytest.raises(AttributeError, match=f"{name}.* cannot be had here"):
        run(host, lambda dask_scheduler, name: getattr(dask_scheduler, name), name=name)


def test_what_cannot_be_set_is_named(host):
    for name in ["worker_ttl", "workers", "status"]:
        with pytest.raises(AttributeError, match=name):
            run(host, lambda dask_scheduler, name: setattr(dask_scheduler, name, 1), name=name)


def test_methods(host):
    async def act(dask_scheduler):
        dask_scheduler.log_event("topic", {"a": 1})
        answers = await dask_scheduler.broadcast(msg={"op": "ping"}, workers=dask_scheduler.workers.keys())
        try:
            await dask_scheduler.retire_workers(workers=[dask_scheduler.workers[ADDRESSES[0]]], n=1)
        except KeyError as e:
            return answers, str(e)

    assert run(host, act) == ({"a": "OK"}, "'retire_workers'")
    asked = {fields["name"]: fields["fields"] for op, fields in host.bridge.asked if op == "scheduler-call"}
    assert asked["log_event"] == {"topic": "topic", "msg": {"a": 1}}
    assert asked["broadcast"] == {"msg": {"op": "ping"}, "workers": list(ADDRESSES)}
    assert asked["retire_workers"] == {"workers": [ADDRESSES[0]], "n": 1}
    with pytest.raises(TypeError, match="msgpack"):
        run(host, lambda dask_scheduler: dask_scheduler.log_event("topic", object()))


class Recorder(SchedulerPlugin):
    name = "recorder"

    def __init__(self):
        self.calls = []

    def transition(self, key, start, finish, *args, stimulus_id, **kwargs):
        self.calls.append((key, start, finish, stimulus_id, kwargs))

    def update_graph(self, scheduler, *, client, keys, tasks, annotations, priority, stimulus_id, **kwargs):
        self.calls.append((client, keys, tasks, annotations, priority, stimulus_id))

    def valid_workers_downscaling(self, scheduler, workers):
        return [ws for ws in workers if ws.address != ADDRESSES[0]]


def register(host, plugin, name=None, idempotent=False):
    return ask(host, "plugin-add", plugin=cloudpickle.dumps(plugin), name=name, idempotent=idempotent)["name"]


def calls_of(host):
    return run(host, lambda dask_scheduler: dask_scheduler.plugins["recorder"].calls)


def test_only_hooks_that_do_something_are_wanted(host):
    assert register(host, Recorder()) == "recorder"
    wanted = ["update_graph", "transition", "valid_workers_downscaling"]
    assert host.bridge.sent == [{"op": "hooks", "hooks": wanted}]
    register(host, SchedulerPlugin(), name="empty")
    assert len(host.bridge.sent) == 1
    ask(host, "plugin-remove", name="recorder")
    assert host.bridge.sent[1:] == [{"op": "hooks", "hooks": []}, {"op": "plugin-removed", "name": "recorder"}]
    with pytest.raises(ValueError, match="recorder"):
        ask(host, "plugin-remove", name="recorder")


def test_names(host):
    assert register(host, Recorder(), name="a") == "a"
    assert register(host, Recorder(), name="a", idempotent=True) is None
    with pytest.warns(UserWarning, match="overwriting"):
        assert register(host, Recorder(), name="a") == "a"
    with pytest.raises(TypeError, match="a SchedulerPlugin was expected, not int"):
        register(host, 5)


def test_hooks_get_what_happened(host):
    register(host, Recorder())
    rows = [
        ("update_graph_part", ("a",), ("a", "b"), ((0, 1, 0), (0, 1, 1)), (("b", {"retries": 2}),)),
        ("update_graph_part", (), (("c", 0),), ((0, 1, 2),), ()),
        ("update_graph", "client", "stimulus"),
        ("transition", "a", "processing", "memory", "s", {"worker": "w", "nbytes": 5}),
        ("transition", "a", "released", "forgotten", "s2", None, {"state": "forgotten"}),
    ]
    ask(host, "events", rows=rows)
    assert calls_of(host) == [
        (
            "client",
            {"a"},
            ["a", "b", ("c", 0)],
            {"retries": {"b": 2}},
            {"a": (0, 1, 0), "b": (0, 1, 1), ("c", 0): (0, 1, 2)},
            "stimulus",
        ),
        ("a", "processing", "memory", "s", {"worker": "w", "nbytes": 5}),
        ("a", "released", "forgotten", "s2", {}),
    ]
    valid = ask(host, "valid-workers-downscaling", workers=ADDRESSES)
    assert valid == {"workers": [ADDRESSES[1]]}


def test_tasks_of_a_batch_are_asked_for_together(host):
    class Looks(SchedulerPlugin):
        async def start(self, scheduler):
            self.scheduler = scheduler
            scheduler.seen = []

        def transition(self, key, start, finish, *args, **kwargs):
            self.scheduler.seen.append(self.scheduler.tasks[key].state)

    register(host, Looks(), name="looks")
    rows = [("transition", f"x-{i}", "waiting", "processing", "s") for i in range(100)]
    rows.append(("transition", "gone", "released", "forgotten", "s", None, {"state": "forgotten"}))
    ask(host, "events", rows=rows)
    assert [op for op, _ in host.bridge.asked] == ["view-facts"]
    assert run(host, lambda dask_scheduler: dask_scheduler.seen) == ["memory"] * 100 + ["forgotten"]


def test_a_hook_that_fails_makes_one_line(host, caplog):
    class Failing(SchedulerPlugin):
        def transition(self, key, start, finish, *args, **kwargs):
            raise KeyError("oops")

    register(host, Failing(), name="failing")
    register(host, Recorder())
    with caplog.at_level(logging.ERROR):
        ask(host, "events", rows=[("transition", "a", "waiting", "processing", "s")] * 5)
    assert len(calls_of(host)) == 5
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "Scheduler plugin 'failing' failed in transition: KeyError: 'oops'" in record.getMessage()
    assert __file__ in record.getMessage()


def test_work_is_marked(tmp_path, caplog, monkeypatch):
    path = tmp_path / "mark"
    path.write_bytes(bytes(512))
    mark = Mark(str(path))
    monkeypatch.setattr("dask_ts.plugin_watch.SLOW_SECONDS", 0.05)
    monkeypatch.setattr("dask_ts.plugin_watch.POLL_SECONDS", 0.01)
    mark.watch()
    with mark.at("scheduler plugin 'a'", "start"):
        assert path.read_bytes().startswith(b"scheduler plugin 'a'\nstart\0")
        with mark.at("scheduler plugin 'b'", "transition"):
            assert path.read_bytes().startswith(b"scheduler plugin 'b'\ntransition\0")
        assert path.read_bytes().startswith(b"scheduler plugin 'a'\nstart\0")
        deadline = time.monotonic() + 10
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)
    assert path.read_bytes()[0] == 0
    assert "scheduler plugin 'a' has been in start" in caplog.records[0].getMessage()


COMMAND = """
import click

@click.command()
@click.option("--passthrough", default="default")
def dask_setup(scheduler, passthrough):
    scheduler.passthrough = passthrough
"""


def test_preload_modules(host, tmp_path):
    path = tmp_path / "preload_with_command.py"
    path.write_text(COMMAND)
    text = "def dask_setup(scheduler):\n    scheduler.address_seen = scheduler.address"
    names = (str(path), text)
    assert ask(host, "preload", preload=names, preload_argv=("--passthrough", "x"), check=True) == {}
    ask(host, "preload-start")
    seen = run(host, lambda dask_scheduler: (dask_scheduler.passthrough, dask_scheduler.address_seen))
    assert seen == ("x", "tcp://10.0.0.9:8786")
    usage = ask(host, "preload", preload=names, preload_argv=("--wrong", "x"), check=True)["usage"]
    assert "--wrong" in usage
    assert "click-configurable" in ask(host, "preload", preload=(text,), preload_argv=("x",), check=True)["usage"]
    with pytest.raises(ModuleNotFoundError):
        ask(host, "preload", preload=("no_such_module",), preload_argv=(), check=True)


def test_feeds(host):
    def setup(scheduler):
        return {"n": 0}

    def function(scheduler, state):
        state["n"] += 1
        return state["n"]

    def teardown(scheduler, state):
        scheduler.fed = state["n"]

    functions = {name: cloudpickle.dumps(f) for name, f in [("function", function), ("setup", setup)]}
    ask(host, "feed-open", feed=1, teardown=cloudpickle.dumps(teardown), **functions)
    assert [ask(host, "feed-next", feed=1)["value"] for _ in range(3)] == [1, 2, 3]
    ask(host, "feed-close", feed=1)
    assert run(host, lambda dask_scheduler: dask_scheduler.fed) == 3


def test_upload_file(host, tmp_path):
    async def upload(dask_scheduler):
        await dask_scheduler.upload_file("uploaded_to_host.py", "value = 7\n")
        import uploaded_to_host

        return uploaded_to_host.value

    assert run(host, upload) == 7
    assert ("uploaded", {"path": str(tmp_path / "uploaded_to_host.py"), "load": True}) in host.bridge.asked


def test_plugins_that_functions_add_are_kept_by_the_parent(host):

    def add(dask_scheduler):
        dask_scheduler.add_plugin(SchedulerPlugin(), name="added")

    run(host, add)
    (stored,) = [message for message in host.bridge.sent if message["op"] == "plugin-stored"]
    assert stored["name"] == "added" and type(pickle.loads(stored["plugin"])) is SchedulerPlugin
    register(host, Recorder())
    assert len([message for message in host.bridge.sent if message["op"] == "plugin-stored"]) == 1


def test_handlers_of_user_code(host):
    def install(dask_scheduler):
        async def echo(comm, value):
            return value

        dask_scheduler.handlers["my_echo"] = echo

    run(host, install)
    assert {"op": "handlers", "handlers": ["my_echo"], "stream_handlers": []} in host.bridge.sent
    assert ask(host, "handle", name="my_echo", fields={"value": 5}) == {"value": 5}
