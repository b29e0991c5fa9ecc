"""Work stealing, the active memory manager and retirement, as stock clients see them."""

from __future__ import annotations

import operator
import time

import pytest
from distributed import wait

from cluster import Cluster, wait_until


def slow(x, seconds=0.05):
    time.sleep(seconds)
    return x


class Counter:
    n = 0

    def increment(self):
        self.n += 1
        return self.n


@pytest.fixture(scope="module", params=["ours", "stock"])
def cluster(request):
    """Our scheduler and three workers, ours or stock."""
    with Cluster("ours", [request.param] * 3) as cluster:
        yield cluster


def test_a_skewed_load_is_balanced(client):
    addresses = list(client.scheduler_info()["workers"])
    wait(client.submit(slow, -1, pure=False), timeout=10)
    futures = client.map(slow, range(60), pure=False, workers=addresses[0], allow_other_workers=True)
    wait(futures, timeout=60)
    counts = {address: len(client.has_what()[address]) for address in addresses}
    assert min(counts.values()) >= 5, counts
    actions = {event[0] for _, event in client.get_events("stealing")}
    assert {"request", "confirm"} <= actions
    assert sorted(client.gather(futures)) == list(range(60))


def test_what_must_stay_is_not_stolen(client):
    first, *_ = client.scheduler_info()["workers"]
    futures = client.map(slow, range(30), pure=False, workers=first)
    wait(futures, timeout=60)
    assert set(client.who_has(futures).values()) == {(first,)}


def test_replicas_that_nobody_needs_are_dropped(client):
    assert client.amm.running()
    client.amm.stop()
    assert not client.amm.running()
    future = client.submit(slow, 1, 0, key="x")
    client.replicate([future], n=3)
    assert len(client.who_has([future])["x"]) == 3
    client.amm.run_once()
    wait_until(lambda: len(client.who_has([future])["x"]) == 1, "one replica is left")
    client.amm.start()
    assert client.amm.running()
    # The same with the timer.
    client.replicate([future], n=2)
    wait_until(lambda: len(client.who_has([future])["x"]) == 1, "one replica is left")
    assert client.submit(operator.add, future, 1).result(timeout=10) == 2
    with pytest.raises(AssertionError, match="no method 'explode'"):
        client.sync(client.scheduler.amm_handler, method="explode")


def test_an_actors_worker_is_not_retired(client):
    counter = client.submit(Counter, actor=True)
    actor = counter.result(timeout=10)
    ((address,),) = client.who_has([counter]).values()
    assert client.retire_workers([address]) == {}
    wait_until(lambda: client.scheduler_info()["workers"][address]["status"] == "running", "the worker runs again")
    assert actor.increment().result() == 1


def test_retirement_moves_what_only_the_worker_holds(client):
    """The last test of the module: it takes workers away."""
    addresses = list(client.scheduler_info()["workers"])
    leaving, staying = addresses[0], addresses[1:]
    futures = client.map(slow, range(20), seconds=0, pure=False, workers=[leaving])
    wait(futures, timeout=10)
    assert set(client.who_has(futures).values()) == {(leaving,)}
    retired = client.retire_workers([leaving], close_workers=True)
    assert list(retired) == [leaving]
    held = {address for holders in client.who_has(futures).values() for address in holders}
    assert held <= set(staying)
    assert client.gather(futures) == list(range(20))
    stories = [event for _, event in client.get_events("all") if event.get("action") == "retire-workers"]
    assert list(stories[-1]["retired"]) == [leaving]
    # Nobody is left who could take the data: who has any stays.
    assert held.isdisjoint(client.retire_workers(staying))
    wait_until(
        lambda: all(worker["status"] == "running" for worker in client.scheduler_info()["workers"].values()),
        "the workers run again",
    )
    assert client.gather(futures) == list(range(20))
