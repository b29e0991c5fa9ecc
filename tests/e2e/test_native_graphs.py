"""Graphs that the scheduler reads itself: here its Python can start no graph host, and never gets to see a graph."""

from __future__ import annotations

import operator
import sys

import numpy as np
import pytest
from distributed import get_client

from cluster import DEFAULT, Cluster


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Good enough to be found and asked for its version; it runs nothing."""
    python = tmp_path_factory.mktemp("python") / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && exec {sys.executable} "$@"\nexit 1\n')
    python.chmod(0o755)
    return str(python)


@pytest.fixture(scope="module")
def cluster(python):
    with Cluster(workers=(DEFAULT, "stock"), scheduler_flags=["--python", python]) as cluster:
        yield cluster


def test_submit_and_map(client):
    assert client.submit(operator.add, 1, 2).result(timeout=20) == 3
    assert client.gather(client.map(operator.neg, range(300))) == [-i for i in range(300)]


def test_functions_by_value(client):
    factor = np_free = 7

    def scaled(x, *, by=1):
        return x * factor * by

    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)

    assert client.gather(client.map(scaled, range(50), by=2)) == [14 * x for x in range(50)]
    assert client.submit(fib, 10).result(timeout=20) == 55
    assert client.submit(lambda x: x + np_free, [1][0]).result(timeout=20) == 8


def test_futures_are_arguments(client):
    a, b = client.map(operator.neg, [1, 2])
    assert client.submit(sum, [a, b]).result(timeout=20) == -3
    assert client.gather(client.map(sum, [[a, 10], [b, 20], (a, b)])) == [9, 18, -3]
    assert client.gather(client.map(lambda x, **k: (x, k), [a, b], extra={"b": b})) == [
        (-1, {"extra": {"b": -2}}),
        (-2, {"extra": {"b": -2}}),
    ]


def test_a_dict_is_a_graph(client):
    dsk = {"x": 1, "y": (operator.add, "x", 2), "z": (sum, ["x", "y", (operator.neg, "x")]), ("not", "wanted"): 1}
    assert client.get(dsk, ["z", "x"]) == [3, 1]
    assert client.get({("a", 0): (len, b"x" * 200_000)}, ("a", 0)) == 200_000


def test_annotations_and_resubmission(client, cluster):
    worker = next(iter(client.scheduler_info(n_workers=-1)["workers"]))
    future = client.submit(operator.neg, 5, workers=[worker], priority=10, retries=2, key="placed")
    assert future.result(timeout=20) == -5
    assert client.who_has([future])["placed"] == (worker,)
    assert client.submit(operator.neg, 5, key="placed").result(timeout=20) == -5


def test_tasks_submit_tasks(client):
    def parent(n):
        return sum(get_client().gather(get_client().map(operator.neg, range(n))))

    assert client.submit(parent, 10).result(timeout=30) == -45


def test_what_needs_python_is_an_error_for_its_client_only(client):
    future = client.submit(len, np.arange(3))
    with pytest.raises(Exception, match=r"(?i)python|graph host|ended"):
        future.result(timeout=60)
    assert client.submit(operator.neg, 1, key="still-alive").result(timeout=20) == -1


def test_messages_stay_in_order(client):
    """The release of a future comes after the graph that needs it, in one batch of the client."""
    futures = []
    for i in range(50):
        future = client.submit(operator.neg, i, pure=False)
        futures.append(client.submit(operator.neg, future, pure=False))
        del future
    assert client.gather(futures) == list(range(50))


def test_it_can_be_switched_off(python):
    env = {"DASK_DASK_TS__SCHEDULER__NATIVE_GRAPHS": "False"}
    with (
        Cluster(workers=(DEFAULT,), env=env, scheduler_flags=["--python", python]) as cluster,
        cluster.client() as client,
        pytest.raises(Exception, match=r"(?i)python|graph host|ended"),
    ):
        client.submit(operator.neg, 1).result(timeout=60)
