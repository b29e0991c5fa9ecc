"""Stock and ours in every combination: the same small program must give the same results."""

from __future__ import annotations

import operator

import dask.array as da
import numpy as np
import pytest
from distributed import Lock, Queue, Variable, wait

from cluster import Cluster

MATRIX = [
    ("ours", ["stock", "stock"]),
    ("stock", ["ours", "ours"]),
    ("ours", ["ours", "stock"]),
    ("stock", ["ours", "stock"]),
]


@pytest.fixture(scope="module", params=MATRIX, ids=lambda cell: f"{cell[0]}-scheduler-{'-'.join(cell[1])}")
def cluster(request):
    scheduler, workers = request.param
    with Cluster(scheduler, workers) as cluster:
        yield cluster


def test_tasks(client):
    futures = client.map(operator.neg, range(300))
    assert client.gather(futures) == [-i for i in range(300)]
    assert client.submit(sum, futures).result(timeout=20) == -sum(range(300))


def test_transfers_both_ways(client):
    first, second = client.scheduler_info()["workers"]
    for source, target in [(first, second), (second, first)]:
        data = client.submit(np.arange, 3_000_000, workers=[source], key=f"data-{source}")
        assert client.submit(np.sum, data, workers=[target], pure=False).result(timeout=30) == sum(range(3_000_000))


def test_errors(client):
    with pytest.raises(ZeroDivisionError):
        client.submit(operator.truediv, 1, 0).result(timeout=10)


def test_array(client):
    x = da.arange(100_000, chunks=10_000)
    assert (x + x[::-1]).sum().compute() == 100_000 * 99_999


def test_scatter_and_run(client):
    assert client.submit(operator.add, client.scatter(4), 5).result(timeout=10) == 9
    assert len(client.run(lambda: 1)) == 2
    assert sorted(client.run(lambda dask_worker: dask_worker.address).values()) == sorted(
        client.scheduler_info()["workers"]
    )


def test_coordination(client):
    queue, variable = Queue("q"), Variable("v")
    queue.put(5)
    variable.set({"a": 1})
    assert queue.get(timeout=10) == 5
    assert variable.get(timeout=10) == {"a": 1}
    with Lock("l"):
        pass


def test_released(client):
    futures = client.map(operator.neg, range(50, 90))
    wait(futures)
    del futures
