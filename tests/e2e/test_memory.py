"""Memory of a worker: spilling, pausing, terminating, and no limit."""

from __future__ import annotations

import operator
import os
import time
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest
from distributed import wait

from cluster import DEFAULT, Cluster, wait_until

LIMIT = 500_000_000
# three times the limit
COUNT = 300
SIZE = 5_000_000
MEMORY_LIMIT = ["--memory-limit", str(LIMIT)]

# functions that change the executor keep what they allocate here
HELD: list = []


@pytest.fixture(scope="module")
def cluster():
    """One worker of two threads and 500 MB."""
    with Cluster(workers=[DEFAULT], nthreads=2, worker_flags=MEMORY_LIMIT) as cluster:
        yield cluster


def make(seed):
    # random bytes: nothing to compress
    return np.frombuffer(np.random.default_rng(seed).bytes(SIZE), dtype="u1")


def total(*arrays):
    return sum(int(array.sum(dtype="u8")) for array in arrays)


def hold(nbytes):
    HELD.append(np.ones(nbytes, dtype="u1"))


def fill_to(nbytes):
    """Holds what is missing: what the tests before left is not always the same."""
    hold(nbytes - psutil.Process().memory_info().rss)


def release():
    HELD.clear()


def only(info):
    (value,) = info.values()
    return value


def worker_info(client):
    return only(client.scheduler_info()["workers"])


def figures(dask_worker):
    data = dask_worker.data
    return len(data.fast), len(data.slow), data.spilled_total.disk, os.listdir(data.directory)


def worker_metrics(client):
    info = worker_info(client)
    url = f"http://{info['host']}:{info['services']['dashboard']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        lines = response.read().decode().splitlines()
    rows = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def test_a_working_set_of_three_times_the_limit(client):
    """Both threads read what the other wrote, as it comes and goes."""
    pid = only(client.run(os.getpid))
    arrays = client.map(make, range(COUNT), key=[f"array-{i}" for i in range(COUNT)])
    sums = [client.submit(total, arrays[i], arrays[i + 150]) for i in range(100)]
    wait(arrays)
    got = client.gather(sums)
    assert got == [total(make(i), make(i + 150)) for i in range(100)]

    fast, slow, disk, files = only(client.run(figures))
    assert fast + slow == COUNT + len(sums)
    # some of the sums may be on disk too
    assert disk >= (slow - len(sums)) * SIZE
    assert disk > COUNT * SIZE / 2
    assert len(files) == slow
    # as heartbeats tell it
    wait_until(lambda: worker_info(client)["metrics"]["spilled_bytes"]["disk"] > COUNT * SIZE / 2, "spilled bytes")
    metrics = worker_info(client)["metrics"]
    assert metrics["managed_bytes"] >= COUNT * SIZE
    assert metrics["spilled_bytes"]["memory"] <= metrics["managed_bytes"]
    assert metrics["memory"] < LIMIT
    # and as Prometheus sees it
    metrics = worker_metrics(client)
    assert metrics['dask_worker_memory_bytes{type="spilled"}'] > COUNT * SIZE / 2
    assert metrics['dask_worker_tasks{state="disk"}'] > COUNT / 2
    assert metrics['dask_worker_spill_bytes_total{activity="disk-write"}'] > COUNT * SIZE / 2
    assert metrics['dask_worker_spill_count_total{activity="disk-read"}'] > 0

    np.testing.assert_array_equal(arrays[0].result(), make(0))
    # more than the limit at once, most of it from disk: a stock worker reads all of it before it sends any of it
    for i, array in enumerate(client.gather(arrays[:120])):
        np.testing.assert_array_equal(array, make(i))
    assert only(client.run(os.getpid)) == pid
    del arrays, sums
    wait_until(lambda: only(client.run(figures))[1:] == (0, 0, []), "the files are deleted")


def fill_disk(dask_worker):
    """Whatever the next thousand files are called: the device is full."""
    directory = dask_worker.data.directory
    for number in range(1000):
        path = os.path.join(directory, str(number))
        if not os.path.exists(path):
            os.symlink("/dev/full", path)


def empty_disk(dask_worker):
    directory = dask_worker.data.directory
    for name in os.listdir(directory):
        path = os.path.join(directory, name)
        if os.path.islink(path):
            os.remove(path)


@pytest.mark.skipif(DEFAULT == "stock", reason="a stock worker pauses for ever")
def test_a_full_disk_is_the_error_of_a_task_and_loses_nothing(client):
    client.run(fill_disk)
    futures = client.map(make, range(1000, 1090))
    wait(futures)
    failed = [future for future in futures if future.status == "error"]
    assert 0 < len(failed) < len(futures)
    with pytest.raises(OSError, match=r"No space left on device: the result of .* has no place in memory"):
        failed[0].result()
    held = [seed for seed, future in enumerate(futures, 1000) if future.status == "finished"]
    for seed in held[::10]:
        np.testing.assert_array_equal(futures[seed - 1000].result(), make(seed))
    client.run(empty_disk)
    client.retry(failed)
    wait(futures)
    assert {future.status for future in futures} == {"finished"}
    np.testing.assert_array_equal(failed[-1].result(), make(1000 + futures.index(failed[-1])))


def unmanaged_recent(dask_scheduler):
    return dask_scheduler.memory.unmanaged_recent


def test_pause_and_resume(client, cluster):
    client.run(fill_to, int(0.87 * LIMIT))
    wait_until(lambda: worker_info(client)["status"] == "paused", "paused")
    # it came a moment ago, and no value of the store explains it
    wait_until(lambda: client.run_on_scheduler(unmanaged_recent) > 0.5 * LIMIT, "recently unmanaged memory")
    future = client.submit(time.time, pure=False)
    # it has arrived, behind what is sent to the worker before it
    client.run(len, [])
    assert not future.done()
    released = time.time()
    client.run(release)
    assert future.result(timeout=20) > released
    wait_until(lambda: worker_info(client)["status"] == "running", "running")
    log = "\n".join(text for _, text in only(client.get_worker_logs()))
    assert "memory usage. Pausing worker." in log
    assert "memory usage. Resuming worker." in log


def test_thresholds_may_be_changed_where_programs_change_them(client):
    def set_pause(fraction, dask_worker):
        before = dask_worker.memory_manager.memory_pause_fraction
        dask_worker.memory_manager.memory_pause_fraction = fraction
        return before, dask_worker.memory_manager.memory_limit

    assert only(client.run(set_pause, 0.01)) == (0.8, LIMIT)
    wait_until(lambda: worker_info(client)["status"] == "paused", "paused")
    assert only(client.run(set_pause, 0.8)) == (0.01, LIMIT)
    wait_until(lambda: worker_info(client)["status"] == "running", "running")


def eat_once(marker, x):
    """Takes more than there is the first time."""
    path = Path(marker)
    if path.exists():
        return x + 1
    path.touch()
    while True:
        hold(LIMIT // 10)
        time.sleep(0.05)


def test_terminate_restarts_the_executor_and_the_graph_completes(client, cluster):
    address, pid = next(iter(client.run(os.getpid).items()))
    lost = client.submit(operator.add, 1, 2)
    assert lost.result() == 3
    future = client.submit(eat_once, str(cluster.folder / "eaten"), lost)
    assert future.result(timeout=40) == 4
    assert lost.result(timeout=10) == 3
    after = client.run(os.getpid)
    assert list(after) == [address] or DEFAULT == "stock"
    assert only(after) != pid
    events = [event for _, event in client.get_events("worker-restart-memory")]
    assert [event["pid"] for event in events] == [pid]
    assert events[0]["rss"] > 0.95 * LIMIT
    log = "\n".join(text for _, text in only(client.get_worker_logs(nanny=True)))
    assert "exceeded 95% memory budget. Restarting..." in log
    if DEFAULT == "ours":
        # of the life before
        log = "\n".join(text for _, text in only(client.get_worker_logs()))
        assert "memory usage. Pausing worker." in log
    assert not only(client.run(figures))[3]


def test_no_limit():
    with (
        Cluster(workers=[DEFAULT], worker_flags=["--memory-limit", "0", "--no-nanny"]) as cluster,
        cluster.client() as client,
    ):
        assert not worker_info(client)["memory_limit"]

        def look(dask_worker):
            return type(dask_worker.data), dask_worker.memory_manager.memory_limit

        assert only(client.run(look)) == (dict, None)
        assert client.submit(make, 1).result().nbytes == SIZE
