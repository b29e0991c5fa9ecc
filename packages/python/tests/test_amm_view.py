"""Policies of the active memory manager beside the scheduler, against a scheduler that is made up."""

from __future__ import annotations

import logging
import pickle

import pytest
from distributed.active_memory_manager import (
    ActiveMemoryManagerExtension,
    ActiveMemoryManagerPolicy,
    ReduceReplicas,
    RetireWorker,
)

from test_plugin_host import ADDRESSES, Parent, ask, run, running_host

REDUCE = "distributed.active_memory_manager.ReduceReplicas"


class Manager(Parent):
    """The scheduler's manager: it chooses the last candidate, or the first worker."""

    def __init__(self):
        super().__init__()
        self.built_in = [(REDUCE, None)]
        self.suggested = []
        self.enacted = []
        self.running = True

    def answer(self, op, **fields):
        match op, fields:
            case "amm-begin", _:
                return {"run": 7}
            case "amm-state", _:
                return {"measure": "managed", "interval": 2.0, "running": self.running, "built_in": self.built_in}
            case "amm-control", {"method": method}:
                self.running = method == "start"
                return {}
            case "amm-built-in", {"class": name, "address": address, "add": add}:
                (self.built_in.append if add else self.built_in.remove)((name, address))
                return {}
            case "amm-memory", {"run": 7}:
                return {"workers": [(address, 100) for address in ADDRESSES]}
            case "amm-pending", {"run": 7}:
                return {"tasks": [("y", ADDRESSES[1:], ())]}
            case "amm-suggest", {"run": 7, "suggestion": suggestion, "keys": (key,), "candidates": candidates}:
                self.suggested.append((suggestion, key, candidates and sorted(candidates)))
                if key == "refused":
                    return {"worker": None, "nbytes": 0}
                return {"worker": sorted(candidates or ADDRESSES[:1])[-1], "nbytes": 8}
            case "amm-enact", {"run": 7}:
                self.enacted.append(len(self.suggested))
                return {}
        return super().answer(op, **fields)


@pytest.fixture
def host(tmp_path, monkeypatch):
    with running_host(Manager(), tmp_path, monkeypatch) as made:
        yield made


class Suggests(ActiveMemoryManagerPolicy):
    """Yields what it is given, and keeps what it is answered."""

    def __init__(self, *suggestions):
        self.suggestions = suggestions
        self.answers = []

    def run(self):
        scheduler = self.manager.scheduler
        for op, key, addresses in self.suggestions:
            candidates = addresses and {scheduler.workers[address] for address in addresses}
            ws = yield op, scheduler.tasks[key], candidates
            self.answers.append(ws and ws.address)


def added(host):
    return [message for message in host.bridge.sent if message["op"] == "amm-added"]


def add(host, policy):
    def function(policy, dask_scheduler):
        dask_scheduler.extensions["amm"].add_policy(policy)

    run(host, function, policy)
    return next(reversed(host.amm._policies.here))


def test_suggestions_are_asked_and_answered(host):
    policy = add(
        host, Suggests(("replicate", "x", None), ("drop", "x", ADDRESSES), ("drop", "x", []), ("drop", "refused", None))
    )
    assert ask(host, "amm-run", run=7) == {"failed": None}
    assert host.bridge.suggested == [
        ("replicate", "x", None),
        ("drop", "x", list(ADDRESSES)),
        ("drop", "x", ()),
        ("drop", "refused", None),
    ]
    assert policy.answers == [ADDRESSES[0], ADDRESSES[1], ADDRESSES[0], None]
    assert host.bridge.enacted == [4]


def test_what_policies_look_at(host):
    class Looks(ActiveMemoryManagerPolicy):
        def run(self):
            manager = self.manager
            x, y = (manager.scheduler.tasks[key] for key in "xy")
            a, b = (manager.scheduler.workers[address] for address in ADDRESSES)
            assert isinstance(manager, ActiveMemoryManagerExtension)
            assert (manager.measure, manager.interval, manager.running) == ("managed", 2.0, True)
            assert manager.pending == {y: ({b}, set())}
            assert manager.workers_memory == {a: 100, b: 100}
            assert (yield "replicate", x, {b}) is b
            assert (yield "drop", x, {a}) is a
            assert manager.pending == {y: ({b}, set()), x: ({b}, {a})}
            assert manager.workers_memory == {a: 92, b: 108}

    add(host, Looks())
    assert ask(host, "amm-run", run=7) == {"failed": None}
    for name in ("pending", "workers_memory"):
        with pytest.raises(AttributeError, match=f"{name}.*only while"):
            run(host, lambda name, dask_scheduler: getattr(dask_scheduler.extensions["amm"], name), name)


def test_the_manager_runs_starts_and_stops(host):
    policy = add(host, Suggests(("drop", "x", None)))

    def control(dask_scheduler):
        amm = dask_scheduler.extensions["amm"]
        amm.stop()
        stopped = amm.running
        amm.start()
        amm.run_once()
        return stopped, amm.running

    assert run(host, control) == (False, True)
    assert policy.answers == [ADDRESSES[0]] and host.bridge.enacted == [1]


def test_a_policy_that_raises(host, caplog):
    class Raises(ActiveMemoryManagerPolicy):
        def run(self):
            yield "drop", self.manager.scheduler.tasks["x"]
            raise KeyError("oops")

    class NoGenerator(ActiveMemoryManagerPolicy):
        def run(self):
            return None

    class UnknownOp(Suggests):
        pass

    add(host, Raises())
    add(host, NoGenerator())
    add(host, UnknownOp(("keep", "x", None)))
    after = add(host, Suggests(("drop", "x", None)))
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            failed = ask(host, "amm-run", run=7)["failed"]
            assert isinstance(pickle.loads(failed["exception"].data), KeyError)
    lines = [r.getMessage() for r in caplog.records if "policy" in r.getMessage()]
    assert len(lines) == 3
    assert lines[0].startswith("Active memory manager policy 'Raises()' failed in run: KeyError: 'oops' (")
    assert "ValueError: Unknown op: keep" in lines[2]
    # the others go on, and what was accepted is enacted
    assert after.answers == [ADDRESSES[0]] * 2 and len(host.bridge.enacted) == 2


def test_policies_come_and_go(host):
    class Once(Suggests):
        def run(self):
            yield from super().run()
            self.manager.policies.remove(self)

    policy = add(host, Once(("drop", "x", None)))
    (message,) = added(host)
    assert message["label"] == "active memory manager policy 'Once()'"
    ask(host, "amm-run", run=7)
    ask(host, "amm-run", run=7)
    assert policy.answers == [ADDRESSES[0]]
    assert {"op": "amm-removed", "policy_id": message["policy_id"]} in host.bridge.sent

    def refuse(dask_scheduler):
        dask_scheduler.extensions["amm"].add_policy("drop it all")

    with pytest.raises(TypeError, match="Expected ActiveMemoryManagerPolicy"):
        run(host, refuse)


def test_the_built_in_policies_stay_with_the_scheduler(host):
    def exchange(dask_scheduler):
        policies = dask_scheduler.extensions["amm"].policies
        (reduce,) = policies
        assert isinstance(reduce, ReduceReplicas) and reduce in policies
        policies.add(RetireWorker("tcp://10.0.0.1:1000"))
        policies.discard(reduce)
        return repr(policies)

    assert run(host, exchange) == "{RetireWorker('tcp://10.0.0.1:1000')}"
    assert host.bridge.built_in == [("distributed.active_memory_manager.RetireWorker", "tcp://10.0.0.1:1000")]
    assert added(host) == []


def test_policies_are_brought_back(host):
    add(host, Suggests(("drop", "x", None)))
    (message,) = added(host)
    host.amm._policies.here.clear()
    ask(host, **{**message, "op": "amm-add"})
    ask(host, "amm-run", run=7)
    assert host.bridge.suggested == [("drop", "x", None)]

    # what a plugin adds is added again by the plugin; what cannot be pickled is lost, with a line
    class Stuck(Suggests):
        def __reduce__(self):
            raise TypeError("stays here")

    def function(cls, dask_scheduler):
        dask_scheduler.extensions["amm"].add_policy(cls())

    run(host, function, Stuck)
    assert added(host)[-1]["policy"] is None


def test_policies_of_the_configuration(host, tmp_path, monkeypatch):
    (tmp_path / "my_policies.py").write_text(
        "from distributed.active_memory_manager import ActiveMemoryManagerPolicy\n"
        "class Mine(ActiveMemoryManagerPolicy):\n"
        "    def __init__(self, key):\n        self.key = key\n"
        "    def run(self):\n        yield 'drop', self.manager.scheduler.tasks[self.key]\n"
        "class Other:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = {"policy_id": "configured-0", "label": "policy 'my_policies.Mine'"}
    ask(host, "amm-add", **entry, **{"class": "my_policies.Mine"}, kwargs='{"key": "x"}')
    ask(host, "amm-run", run=7)
    assert host.bridge.suggested == [("drop", "x", None)]
    for name, kwargs, error in [
        ("my_policies.Mine", "{}", TypeError),
        ("my_policies.Other", "{}", TypeError),
        ("my_policies.Never", "{}", AttributeError),
        ("never_heard_of.Policy", "{}", ImportError),
    ]:
        with pytest.raises(error):
            ask(host, "amm-add", **entry, **{"class": name}, kwargs=kwargs)


def test_a_policy_is_marked(host):
    class Looks(ActiveMemoryManagerPolicy):
        def run(self):
            mark = self.manager._host.mark
            assert mark.current[:2] == ("active memory manager policy 'Looks()'", "run")
            yield from ()

    add(host, Looks())
    assert ask(host, "amm-run", run=7) == {"failed": None}
