"""Policies of the active memory manager that are Python classes, from the configuration and from functions."""

from __future__ import annotations

import json
import os
import time

import pytest
from distributed import wait
from distributed.active_memory_manager import ActiveMemoryManagerPolicy, ReduceReplicas

from cluster import ROOT, Cluster, wait_until

MODULE = """
import os
import time
from distributed.active_memory_manager import ActiveMemoryManagerPolicy


class Spread(ActiveMemoryManagerPolicy):
    '''A copy of each wanted key on every worker.'''

    def __init__(self, prefix):
        self.prefix = prefix

    def run(self):
        for key, ts in self.manager.scheduler.tasks.items():
            if key.startswith(self.prefix):
                while (yield "replicate", ts):
                    pass


class DropFrom(ActiveMemoryManagerPolicy):
    '''Nothing of more than one replica stays on the worker of that name.'''

    def __init__(self, name):
        self.name = name

    def run(self):
        workers = self.manager.scheduler.workers.values()
        there = {ws for ws in workers if ws.name == self.name}
        for ws in there:
            for ts in ws.has_what:
                yield "drop", ts, there


class Faulty(ActiveMemoryManagerPolicy):
    def run(self):
        scheduler = self.manager.scheduler
        if "kill" in scheduler.tasks:
            os._exit(3)
        if "block" in scheduler.tasks:
            time.sleep(4)
        if "raise" in scheduler.tasks:
            raise KeyError("oops")
        return
        yield
"""
REDUCE = {"class": "distributed.active_memory_manager.ReduceReplicas"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("policies")
    (folder / "custom_policies.py").write_text(MODULE)
    return folder


def started(folder, *policies, start=False, workers=("stock", "ours"), **options):
    env = {
        "PYTHONPATH": f"{folder}:{ROOT / 'tests' / 'e2e'}",
        "DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__POLICIES": json.dumps(policies),
        "DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__START": str(start),
        "DASK_DISTRIBUTED__SCHEDULER__ACTIVE_MEMORY_MANAGER__INTERVAL": "100ms",
    }
    return Cluster(workers=list(workers), env=env, **options)


def holders(client, key):
    return sorted(client.who_has()[key])


def addresses(client):
    return sorted(client.scheduler_info(-1)["workers"])


def test_a_policy_replicates(folder):
    with started(folder, {"class": "custom_policies.Spread", "prefix": "x"}) as cluster, cluster.client() as client:
        x, y = client.scatter(1), client.submit(str, 1, key="y-0")
        xs = [client.submit(int, i, key=f"x-{i}") for i in range(3)]
        wait([x, y, *xs])
        assert not client.amm.running()
        client.amm.run_once()
        everywhere = addresses(client)
        assert len(everywhere) == 2
        wait_until(lambda: all(holders(client, f.key) == everywhere for f in xs), "copies everywhere")
        assert len(holders(client, "y-0")) == 1
        client.amm.run_once()
        assert client.gather(xs) == [0, 1, 2]


def test_a_policy_drops(folder):
    policy = {"class": "custom_policies.DropFrom", "name": "alice"}
    with started(folder, policy, start=True, workers=()) as cluster, cluster.client() as client:
        cluster.start_worker("stock", "--name", "alice")
        cluster.start_worker("stock", "--name", "bob")
        client.wait_for_workers(2)
        by_name = {w["name"]: a for a, w in client.scheduler_info(-1)["workers"].items()}
        alone = client.scatter("alone", workers=["alice"])
        both = client.scatter("both", broadcast=True)
        wait_until(lambda: holders(client, both.key) == [by_name["bob"]], "the replica on alice is dropped")
        assert holders(client, alone.key) == [by_name["alice"]]
        assert client.gather([alone, both]) == ["alone", "both"]


def test_a_policy_that_is_at_fault(folder):
    faulty = {"class": "custom_policies.Faulty"}
    spread = {"class": "custom_policies.Spread", "prefix": "x"}
    with started(folder, REDUCE, faulty, spread) as cluster, cluster.client() as client:
        everywhere = addresses(client)
        log = cluster.scheduler

        # raises: the client hears of it, the built-in policies and the other one go on
        data = client.scatter("data", broadcast=True)
        x = client.submit(int, 5, key="x-0")
        trigger = client.submit(int, 1, key="raise")
        wait([x, trigger])
        with pytest.raises(KeyError, match="oops"):
            client.amm.run_once()
        assert len(holders(client, data.key)) == 1
        wait_until(lambda: holders(client, x.key) == everywhere, "copies everywhere")
        line = "Active memory manager policy 'custom_policies.Faulty' failed in run: KeyError: 'oops'"
        wait_until(lambda: line in log.text, "the line about the policy")
        with pytest.raises(KeyError, match="oops"):
            client.amm.run_once()
        assert log.text.count(line) == 1
        del trigger, x
        wait_until(lambda: "raise" not in client.who_has(), "the trigger is gone")

        # blocks: everything else goes on
        trigger = client.submit(int, 1, key="block")
        wait(trigger)
        client.amm.start()
        start = time.monotonic()
        data = client.scatter("data2", broadcast=True)
        wait_until(lambda: len(holders(client, data.key)) == 1, "the built-in policy goes on")
        assert client.gather(client.map(str, range(50))) == [str(i) for i in range(50)]
        assert time.monotonic() - start < 3
        del trigger
        line = "active memory manager policy 'custom_policies.Faulty' has been in run for 3 s; scheduling goes on"
        wait_until(lambda: line in log.text, "the line about the policy")
        client.amm.stop()

        # kills its process: the policies are back afterwards; in the end it is left out
        pid = client.run_on_scheduler(os.getpid)
        trigger = client.submit(int, 1, key="kill")
        wait(trigger)
        line = (
            "the plugin host ended with code 3 while active memory manager policy 'custom_policies.Faulty' was in run"
        )
        for death in (1, 2, 3):
            client.amm.run_once()
            wait_until(lambda death=death: log.text.count(line) == death, "the line about the policy")
            assert client.run_on_scheduler(os.getpid) != pid
        assert "that policy is left out from now on" in log.text
        x = client.submit(int, 6, key="x-1")
        wait(x)
        client.amm.run_once()
        wait_until(lambda: holders(client, x.key) == everywhere, "the other policy is back")


class DropAll(ActiveMemoryManagerPolicy):
    """Once."""

    def run(self):
        for ts in self.manager.scheduler.replicated_tasks:
            while (yield "drop", ts):
                pass
        self.manager.policies.remove(self)


def test_policies_of_functions_and_plugins(folder):
    with started(folder) as cluster, cluster.client() as client:

        def look(dask_scheduler):
            amm = dask_scheduler.extensions["amm"]
            return amm.measure, amm.interval, amm.running, sorted(map(repr, amm.policies))

        assert client.run_on_scheduler(look) == ("optimistic", 0.1, False, [])
        data = client.scatter("data", broadcast=True)
        client.amm.run_once()
        assert len(holders(client, data.key)) == 2

        def add(policy, dask_scheduler):
            dask_scheduler.extensions["amm"].add_policy(policy)

        client.run_on_scheduler(add, DropAll())
        assert client.run_on_scheduler(look)[-1] == ["DropAll()"]
        # it is kept over the end of the process
        pid = client.run_on_scheduler(os.getpid)
        client.run_on_scheduler(lambda dask_scheduler: str(dask_scheduler.loop.call_later(0.1, os._exit, 1)))
        wait_until(lambda: "the plugin host ended with code 1" in cluster.scheduler.text, "the line about its end")
        assert client.run_on_scheduler(os.getpid) != pid
        client.amm.run_once()
        wait_until(lambda: len(holders(client, data.key)) == 1, "the replica is dropped")
        assert client.run_on_scheduler(look)[-1] == []

        # a built-in one goes to the scheduler itself; run_once is there for functions, too
        client.run_on_scheduler(add, ReduceReplicas())
        assert client.run_on_scheduler(look)[-1] == ["ReduceReplicas()"]
        data = client.scatter("data2", broadcast=True)
        client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.extensions["amm"].run_once())
        wait_until(lambda: len(holders(client, data.key)) == 1, "the replica is dropped")


def test_a_manager_of_ones_own(folder):
    def run(dask_scheduler, policy):
        from distributed.active_memory_manager import ActiveMemoryManagerExtension

        amm = ActiveMemoryManagerExtension(
            dask_scheduler, {policy}, measure="managed", register=False, start=False, interval=1
        )
        amm.run_once()

    with started(folder) as cluster, cluster.client() as client:
        data = client.scatter("data", broadcast=True)
        client.run_on_scheduler(run, policy=ReduceReplicas())
        wait_until(lambda: len(holders(client, data.key)) == 1, "the replica is dropped")
        assert client.gather(data) == "data"


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"class": "no_such_module.Policy"}, "No module named 'no_such_module'"),
        ({"class": "custom_policies.NoSuchClass"}, "NoSuchClass"),
        ({"class": "custom_policies.Spread"}, "prefix"),
        ({"class": "json.JSONDecoder"}, "an ActiveMemoryManagerPolicy was expected, not JSONDecoder"),
    ],
)
def test_wrong_policies_keep_the_scheduler_from_starting(folder, policy, said):
    cluster = started(folder, policy, workers=())
    with pytest.raises(AssertionError, match=f"'{policy['class']}' cannot be used: .*{said}"), cluster:
        pass
