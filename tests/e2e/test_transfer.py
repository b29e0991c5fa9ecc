"""Large values that go past the worker process, small ones that need no executor, and a task that holds the GIL."""

from __future__ import annotations

import collections
import ctypes
import os
import time

import numpy as np
import pytest
from distributed import wait
from distributed.worker import get_worker

from cluster import Cluster

#: More than what goes through the worker process.
LARGE = 400_000

Point = collections.namedtuple("Point", "x y")


def count_sends():
    """Counts from here on what the executor writes to peers by itself, on sockets lent to it."""
    from dask_ts import executor

    write_all, executor.sends = executor.write_all, 0

    def counting(sock, views):
        executor.sends += 1
        write_all(sock, views)

    executor.write_all = counting


def sends():
    from dask_ts import executor

    return executor.sends


def test_large_values_between_workers(client):
    first, second = client.scheduler_info()["workers"]
    arrays = [client.submit(np.arange, n, n + LARGE, workers=[first]) for n in range(5)]
    sums = client.submit(lambda xs: [int(x.sum()) for x in xs], arrays, workers=[second])
    assert sums.result(timeout=30) == [sum(range(n, n + LARGE)) for n in range(5)]
    back = client.submit(lambda x, y: int(x[0]) + len(y), arrays[0], sums, workers=[first], pure=False)
    assert back.result(timeout=30) == 5


def test_large_values_that_a_peer_cannot_give(client):
    first, second = client.scheduler_info()["workers"]

    class Locked:
        nbytes = LARGE * 8

        def __sizeof__(self):
            return LARGE * 8

        def __reduce__(self):
            raise RuntimeError("not to be pickled")

    value = client.submit(Locked, workers=[first], pure=False)
    wait(value)
    use = client.submit(type, value, workers=[second], pure=False)
    with pytest.raises(Exception, match=r"not to be pickled|serialize"):
        use.result(timeout=30)


def test_a_client_that_talks_to_the_workers_directly(cluster):
    with cluster.client(direct_to_workers=True) as client:
        small = client.scatter([1, "two", (3, 4.0)])
        assert client.gather(small) == [1, "two", (3, 4.0)]
        large = client.scatter(np.arange(LARGE))
        assert client.submit(np.sum, large).result(timeout=30) == sum(range(LARGE))
        np.testing.assert_array_equal(client.gather(large), np.arange(LARGE))
        squares = client.map(lambda n: np.full(LARGE, n), range(4))
        assert [int(array[-1]) for array in client.gather(squares)] == [0, 1, 2, 3]


def test_the_executors_of_one_command(cluster):
    with Cluster("ours", []) as cluster:
        cluster.start_worker("ours", "--nworkers", "2", "--nthreads", "1")
        with cluster.client() as client:
            client.wait_for_workers(2, timeout=60)
            first, second = client.scheduler_info()["workers"]
            client.run(count_sends)
            array = client.submit(np.arange, LARGE, workers=[first])
            assert client.submit(np.sum, array, workers=[second]).result(timeout=30) == sum(range(LARGE))
            assert client.run(sends) == {first: 1, second: 0}
            np.testing.assert_array_equal(client.gather(array, direct=True), np.arange(LARGE))
            # both have it by now
            assert sum(client.run(sends).values()) == 2


@pytest.mark.parametrize("direct", [True, False])
def test_plain_results_keep_their_types(client, direct):
    values = [None, True, 0, -1, 2**63, 2**64, -(2**63), 1.0, -0.0, float("inf"), "ä", "\ud800", b"x", "x" * 100]
    values += [(), (1,), (1, (2, (3, (4, (5,))))), (1, [2]), Point(1, 2.0), {"a": (1,)}, {1}, np.float64(1)]
    results = client.gather([client.submit(lambda v: v, v, pure=False) for v in values], direct=direct)
    assert [(type(r), repr(r)) for r in results] == [(type(v), repr(v)) for v in values]


def test_a_result_that_is_replaced(client):
    """What the worker process holds of a small result is the last value of its key."""
    future = client.submit(lambda: 1, key="replaced")
    assert future.result(timeout=10) == 1
    client.scatter({"replaced": 2})
    assert client.gather(future) in (1, 2)
    del future
    again = client.submit(lambda: 3, key="replaced-again")
    assert again.result(timeout=10) == 3


def hold_the_gil(seconds):
    return ctypes.PyDLL(None).sleep(seconds)


def test_values_while_a_task_holds_the_gil(client):
    first, second = client.scheduler_info()["workers"]
    small = client.submit(lambda: (1, "x"), workers=[first], pure=False)
    large = client.submit(np.arange, LARGE, workers=[first])
    wait([small, large])
    held = client.submit(hold_the_gil, 4, workers=[first], pure=False)
    while not client.processing()[first]:
        time.sleep(0.05)
    time.sleep(0.5)
    start = time.monotonic()
    for _ in range(3):
        assert client.gather(small, direct=True) == (1, "x")
    assert client.submit(lambda v: v[0], small, workers=[second], pure=False).result(timeout=10) == 1
    assert not held.done()
    assert time.monotonic() - start < 3
    # one that only the executor has comes when it can
    assert client.gather(large, direct=True)[-1] == LARGE - 1
    assert held.done() or held.result(timeout=10) == 0


def test_children_of_tasks_have_no_channel(client):
    """A Node process that a task starts must not find the one of the executor."""
    environment = client.submit(lambda: [name for name in os.environ if name.startswith("NODE_CHANNEL")], pure=False)
    assert environment.result(timeout=10) == []
    assert client.submit(lambda: get_worker().address, pure=False).result(timeout=10)
