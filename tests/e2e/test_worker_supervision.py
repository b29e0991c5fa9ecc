"""What a nanny does for its worker, and what becomes of the data when a worker goes."""

from __future__ import annotations

import operator
import os
import re
import time

import pytest
from distributed import wait

from cluster import Cluster, wait_until


@pytest.fixture
def cluster():
    # what only one worker shall hold is not to be stolen before
    with Cluster(workers=("ours",), env={"DASK_DISTRIBUTED__SCHEDULER__WORK_STEALING": "False"}) as cluster:
        yield cluster


def address_of(process) -> str:
    found = re.search(r"Start worker at: +(tcp://\S+)", process.text)
    assert found is not None, process.text
    return found[1]


def start_second(cluster, client, *flags):
    """Another worker, and five results that only it holds."""
    process = cluster.start_worker("ours", *flags)
    client.wait_for_workers(2, timeout=30)
    where = {"workers": [address_of(process)], "allow_other_workers": True, "pure": False}
    futures = [client.submit(record, cluster.folder / "runs", i, **where) for i in range(5)]
    wait(futures)
    return process, futures


def record(path, i):
    with open(path, "a") as file:
        file.write("x")
    return i + 1


def runs(cluster) -> int:
    return len((cluster.folder / "runs").read_text())


@pytest.mark.parametrize("supervised", [True, False])
def test_a_signal_hands_the_data_over(cluster, client, supervised):
    process, futures = start_second(cluster, client, *([] if supervised else ["--no-nanny"]))
    assert process.stop() == 0
    assert client.gather(futures) == [1, 2, 3, 4, 5]
    assert runs(cluster) == 5
    assert "over to other workers, within 25 s" in process.text
    assert "The data is handed over" in process.text


def test_no_grace_and_nobody_to_take_the_data(cluster, client):
    process, futures = start_second(cluster, client, "--termination-grace", "0")
    assert process.stop() == 0
    assert client.gather(futures) == [1, 2, 3, 4, 5]
    assert runs(cluster) == 10
    start = time.monotonic()
    assert cluster.workers[0].stop() == 0
    assert time.monotonic() - start < 10
    assert "No other worker can take the data" in cluster.workers[0].text


def test_a_grace_that_is_not_enough(cluster, client):
    """The scheduler does not answer: the worker goes all the same."""
    process, _ = start_second(cluster, client, "--termination-grace", "1s")
    os.kill(cluster.scheduler.popen.pid, 19)
    try:
        assert process.stop() == 0
        assert "Could not hand the data over" in process.text
    finally:
        os.kill(cluster.scheduler.popen.pid, 18)


def test_all_workers_of_a_command_go_at_once(cluster, client):
    process = cluster.start_worker("ours", "--nworkers", "2", "--name", "pair")
    client.wait_for_workers(3, timeout=30)
    pair = [a for a, w in client.scheduler_info(-1)["workers"].items() if str(w["name"]).startswith("pair")]
    futures = [
        client.submit(record, cluster.folder / "runs", i, workers=[pair[i % 2]], allow_other_workers=True, pure=False)
        for i in range(6)
    ]
    wait(futures)
    assert process.stop() == 0
    assert client.gather(futures) == [1, 2, 3, 4, 5, 6]
    assert runs(cluster) == 6


@pytest.mark.parametrize("scheduler", ["ours", "stock"])
def test_a_lifetime_ends_the_worker(scheduler):
    with Cluster(scheduler=scheduler, workers=("ours",)) as cluster, cluster.client() as client:
        flags = ["--lifetime", "5 s", "--lifetime-stagger", "100 ms"]
        process, futures = start_second(cluster, client, *flags)
        assert process.popen.wait(20) == 0
        assert client.gather(futures) == [1, 2, 3, 4, 5]
        assert runs(cluster) == 5
        assert "Reason: worker-lifetime-reached" in process.text


@pytest.mark.parametrize("scheduler", ["ours", "stock"])
def test_a_lifetime_and_another(scheduler):
    with Cluster(scheduler=scheduler, workers=("ours",)) as cluster, cluster.client() as client:
        process, futures = start_second(cluster, client, "--lifetime", "5 s", "--lifetime-restart")
        first = address_of(process)
        wait_until(lambda: process.text.count("Registered to:") >= 2, "a second life")
        assert client.gather(futures) == [1, 2, 3, 4, 5]
        assert runs(cluster) == 5
        wait_until(lambda: first not in client.scheduler_info(-1)["workers"], "the first address is gone")
        assert process.stop() == 0


def environment(names):
    return {name: os.environ.get(name) for name in names}


def test_the_environment_of_executors(tmp_path):
    (tmp_path / "dask.yaml").write_text(
        "distributed:\n  nanny:\n"
        "    pre-spawn-environ: {A_EARLY: 1, OMP_NUM_THREADS: null}\n"
        "    environ: {A_LATE: true, A_GIVEN: no one}\n"
    )
    env = {"DASK_CONFIG": str(tmp_path), "A_GIVEN": "by the caller"}
    with Cluster(workers=("ours",), env=env) as cluster, cluster.client() as client:
        [found] = client.run(
            environment, ["A_EARLY", "A_LATE", "A_GIVEN", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED"]
        ).values()
    assert found == {
        "A_EARLY": "1",
        "A_LATE": "True",
        "A_GIVEN": "by the caller",
        "OMP_NUM_THREADS": None,
        "MKL_NUM_THREADS": "1",
        "PYTHONHASHSEED": "6640",
    }


PRELOAD = """
import os
from distributed import Nanny

def dask_setup(nanny):
    assert isinstance(nanny, Nanny)
    nanny.env["A_PRELOADED"] = nanny.env["MKL_NUM_THREADS"] + nanny.scheduler_addr
    nanny.seen = os.getpid()

async def dask_teardown(nanny):
    open({path!r}, "w").write("torn down")
"""


def test_preload_modules_and_functions_of_the_nanny(cluster, client):
    module = cluster.folder / "preloaded.py"
    module.write_text(PRELOAD.format(path=str(cluster.folder / "end")))
    process = cluster.start_worker("ours", "--preload-nanny", str(module))
    client.wait_for_workers(2, timeout=30)
    address = address_of(process)
    assert client.run(environment, ["A_PRELOADED"], workers=[address])[address] == {
        "A_PRELOADED": "1" + cluster.address
    }
    pids = client.run(lambda dask_worker: (dask_worker.seen, os.getpid()), workers=[address], nanny=True)[address]
    assert pids[0] == pids[1] != client.run(os.getpid, workers=[address])[address]
    with pytest.raises(ZeroDivisionError):
        client.run(lambda: 1 / 0, workers=[address], nanny=True)

    def say():
        import logging

        logging.getLogger("distributed.nanny").warning("said in the nanny")

    client.run(say, workers=[address], nanny=True)
    assert "said in the nanny" in str(client.get_worker_logs(workers=[address], nanny=True))
    assert process.stop() == 0
    assert (cluster.folder / "end").read_text() == "torn down"


def test_a_preload_module_that_is_not_there(cluster):
    process = cluster.start_worker("ours", "--preload-nanny", "no_such_module")
    assert process.popen.wait(30) == 1
    assert "no_such_module" in process.text


def test_scratch_directories(cluster, client):
    space = cluster.folder / "dask-scratch-space"
    client.run(operator.neg, 1, nanny=True)  # the nanny has a folder as well
    assert sorted({name.name.split("-")[0] for name in space.iterdir()}) == ["nanny", "worker"]
    [folder] = client.run(lambda dask_worker: dask_worker.local_directory).values()

    def leave():
        from distributed import get_worker

        with open(os.path.join(get_worker().local_directory, "left"), "w") as file:
            file.write("x")

    client.submit(leave, pure=False).result()
    cluster.workers[0].kill()
    assert os.path.exists(os.path.join(folder, "left"))
    process = cluster.start_worker("ours")
    wait_until(lambda: "Registered to:" in process.text, "another worker")
    assert not os.path.exists(folder)
    assert process.stop() == 0
    assert list(space.iterdir()) == []
