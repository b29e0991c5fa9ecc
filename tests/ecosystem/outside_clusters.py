"""
A pytest plugin (-p outside_clusters): `cluster()` and `gen_cluster` of distributed.utils_test start processes of ours,
so that a library's own tests run against them unchanged.

`gen_cluster` hands out stand-ins for the scheduler and the workers; they know their addresses and, for the scheduler,
which tasks there are.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable, Iterator

from distributed import Client, utils_test

from cluster import Cluster

SCHEDULER = os.environ.get("DASK_TS_ECOSYSTEM_SCHEDULER", "ours")
WORKER = os.environ.get("DASK_TS_ECOSYSTEM_WORKER", "ours")
# Tasks are functions of the tests' modules.
ENV = {"PYTHONPATH": os.environ["PYTHONPATH"]}
TEST_SECONDS = 60


class Scheduler:
    def __init__(self, cluster: Cluster, client: Client | None):
        self.address = cluster.address
        self._client = client

    @property
    def tasks(self) -> Tasks:
        return Tasks(self.address)


class Tasks:
    """Whether the scheduler knows any task; asked through a client of its own."""

    def __init__(self, address: str):
        self.address = address

    def __len__(self) -> int:
        with Client(self.address, set_as_default=False) as client:
            return client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


class Worker:
    def __init__(self, address: str):
        self.address = address


def start(nworkers: int, nthreads: int = 1) -> Cluster:
    return Cluster(scheduler=SCHEDULER, workers=(WORKER,) * nworkers, nthreads=nthreads, env=ENV)


def worker_addresses(cluster: Cluster) -> list[str]:
    with cluster.client(set_as_default=False) as client:
        return list(client.scheduler_info(n_workers=-1)["workers"])


@contextlib.contextmanager
def cluster(nworkers: int = 2, **options) -> Iterator[tuple[dict, list[dict]]]:
    if set(options) - {"nanny", "active_rpc_timeout"}:
        raise NotImplementedError(f"options of a cluster: {sorted(options)}")
    with start(nworkers) as outside:
        yield {"address": outside.address}, [{"address": address} for address in worker_addresses(outside)]


def gen_cluster(
    nthreads: tuple = (("127.0.0.1", 1), ("127.0.0.1", 2)),
    client: bool = False,
    timeout: float = TEST_SECONDS,
    **options,
) -> Callable[[Callable], Callable]:
    if options:
        raise NotImplementedError(f"options of gen_cluster: {sorted(options)}")

    def decorate(test: Callable) -> Callable:
        async def run(outside: Cluster, addresses: list[str], args: tuple, kwargs: dict):
            workers = [Worker(address) for address in addresses]
            if not client:
                return await test(Scheduler(outside, None), *workers, *args, **kwargs)
            async with Client(outside.address, asynchronous=True) as c:
                return await test(c, Scheduler(outside, c), *workers, *args, **kwargs)

        def wrapped(*args, **kwargs):
            with start(len(nthreads)) as outside:
                addresses = worker_addresses(outside)
                return asyncio.run(asyncio.wait_for(run(outside, addresses, args, kwargs), timeout))

        functools.update_wrapper(wrapped, test)
        # pytest would look for fixtures named as the test's own arguments.
        del wrapped.__wrapped__
        return wrapped

    return decorate


utils_test.cluster = cluster
utils_test.gen_cluster = gen_cluster
