"""Data on the move: scatter, gather, transfers between workers, collections."""

from __future__ import annotations

import operator

import dask
import dask.array as da
import dask.bag as db
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from distributed import wait


def test_scatter(client):
    future = client.scatter({"x": 1})["x"]
    assert client.submit(operator.add, future, 1).result(timeout=10) == 2
    futures = client.scatter([10, 20, 30])
    assert client.gather(futures) == [10, 20, 30]


def test_broadcast(client):
    future = client.scatter(np.arange(1000), broadcast=True)
    assert len(client.who_has([future])[future.key]) == 2
    assert client.submit(np.sum, future).result(timeout=10) == 499500


def test_scatter_direct(client):
    future = client.scatter(b"x" * 100_000, direct=True)
    assert client.gather(future, direct=True) == b"x" * 100_000


def test_200_megabytes_between_two_workers(client):
    first, second = client.scheduler_info()["workers"]
    array = client.submit(np.ones, 25_000_000, workers=[first], key="big")
    total = client.submit(np.sum, array, workers=[second])
    assert total.result(timeout=60) == 25_000_000
    wait(array)
    assert len(client.who_has([array])["big"]) == 2


def test_many_small_results(client):
    futures = client.map(lambda i: {"i": i, "square": i * i}, range(2000))
    results = client.gather(futures)
    assert [result["square"] for result in results] == [i * i for i in range(2000)]


def test_delayed(client):
    @dask.delayed
    def add(a, b):
        return a + b

    total = add(1, 2)
    for i in range(50):
        total = add(total, i)
    assert total.compute() == 3 + sum(range(50))
    assert dask.compute(add(1, 1), add(2, 2)) == (2, 4)
    assert dask.delayed({"a": add(1, 1), "b": [add(2, 2)]}).compute() == {"a": 2, "b": [4]}


def test_array(client):
    x = da.random.default_rng(0).random((400, 400), chunks=(100, 100))
    expected = x.compute(scheduler="sync")
    np.testing.assert_allclose((x @ x.T).sum(axis=0).compute(), (expected @ expected.T).sum(axis=0))
    persisted = x.persist()
    np.testing.assert_allclose(persisted.mean().compute(), expected.mean())


def test_array_from_numpy(client):
    source = np.arange(1_000_000, dtype="float64").reshape(1000, 1000)
    np.testing.assert_allclose(da.from_array(source, chunks=250).sum(axis=1).compute(), source.sum(axis=1))


def test_dataframe(client):
    frame = pd.DataFrame({"name": list("abcdef") * 200, "x": range(1200), "y": np.linspace(0, 1, 1200)})
    lazy = dd.from_pandas(frame, npartitions=6)
    pd.testing.assert_frame_equal(
        lazy.groupby("name")[["x", "y"]].mean().compute().sort_index(),
        frame.groupby("name")[["x", "y"]].mean(),
        check_index_type=False,
    )
    with dask.config.set({"dataframe.shuffle.method": "tasks"}):
        joined = lazy.merge(lazy[["name", "x"]].rename(columns={"x": "z"}), left_on="x", right_on="z").compute()
        indexed = lazy.set_index("y").compute()
    assert len(joined) == 1200
    assert indexed.index.is_monotonic_increasing


def test_bag(client):
    bag = db.from_sequence(range(100), npartitions=7)
    assert bag.filter(lambda x: x % 2).map(lambda x: x * x).sum().compute() == sum(x * x for x in range(100) if x % 2)
    assert dict(bag.frequencies().compute()) == dict.fromkeys(range(100), 1)


def test_results_of_many_types(client):
    values = [
        None,
        1,
        2.5,
        "text",
        b"bytes",
        (1, 2),
        [1, [2]],
        {"a": 1},
        {1, 2},
        np.float32(1),
        np.arange(3),
        pd.Series([1, 2]),
        operator.neg,
    ]
    for value in values:
        result = client.submit(lambda v: v, value, pure=False).result(timeout=10)
        assert type(result) is type(value)
        assert repr(result) == repr(value)


@pytest.mark.parametrize("direct", [True, False])
def test_gather_directly_and_through_the_scheduler(client, direct):
    futures = client.map(lambda n: np.full(n, n), range(1, 20))
    for n, result in enumerate(client.gather(futures, direct=direct), 1):
        np.testing.assert_array_equal(result, np.full(n, n))
