"""What goes wrong in real clusters: workers, executors and clients die, results cannot be sent."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import time

import pytest
from distributed import KilledWorker, wait

from cluster import ROOT, Cluster, wait_until


@pytest.fixture
def cluster():
    with Cluster() as cluster:
        yield cluster


def slow_square(x):
    time.sleep(0.05)
    return x * x


def test_a_worker_is_killed_in_the_middle(cluster, client):
    futures = client.map(slow_square, range(60))
    wait_until(lambda: sum(future.done() for future in futures) > 10, "some tasks are done")
    cluster.workers[0].kill()
    assert client.gather(futures) == [x * x for x in range(60)]


def test_a_lost_result_is_computed_again(cluster, client):
    first = client.submit(slow_square, 3)
    wait(first)
    [address] = client.who_has([first])[first.key]
    cluster.worker_at(address).kill()
    assert client.submit(operator.add, first, 1).result(timeout=30) == 10


def test_a_client_is_killed_in_the_middle(cluster, client):
    program = (
        "import sys, time; from distributed import Client; c = Client(sys.argv[1]);"
        "f = c.map(time.sleep, [0.2] * 200, pure=False); print('sent', flush=True); c.gather(f)"
    )
    other = subprocess.Popen([sys.executable, "-c", program, cluster.address], stdout=subprocess.PIPE)
    assert other.stdout is not None and other.stdout.readline().strip() == b"sent"
    wait_until(lambda: any(client.processing().values()), "its tasks run")
    other.kill()
    other.wait()
    wait_until(lambda: not any(client.processing().values()), "its tasks are released")
    assert client.submit(operator.neg, 1).result(timeout=10) == -1


def test_an_executor_dies_of_a_segfault(cluster, client):
    def die():
        import ctypes

        return ctypes.string_at(0)

    others = client.map(slow_square, range(20))
    with pytest.raises(KilledWorker):
        client.submit(die, pure=False).result(timeout=100)
    assert client.gather(others) == [x * x for x in range(20)]
    client.wait_for_workers(2, timeout=60)
    assert all(process.running for process in cluster.workers)


def test_a_result_that_cannot_be_pickled(cluster, client):
    future = client.submit(lambda: (i for i in range(3)), pure=False)
    wait(future)
    with pytest.raises(Exception, match=r"(?i)pickle|serialize"):
        future.result(timeout=10)
    assert client.submit(operator.neg, 1).result(timeout=10) == -1


def test_an_exception_that_cannot_be_pickled(cluster, client):
    def fail():
        class Odd(Exception):
            def __reduce__(self):
                raise RuntimeError("no")

        raise Odd("strange")

    with pytest.raises(Exception, match=r"strange|no"):
        client.submit(fail, pure=False).result(timeout=10)


def test_a_graph_that_cannot_be_opened(cluster, client):
    class Trap:
        def __reduce__(self):
            return (operator.truediv, (1, 0))

    future = client.submit(operator.neg, Trap(), pure=False)
    with pytest.raises((RuntimeError, ZeroDivisionError)):
        future.result(timeout=10)
    assert client.submit(operator.neg, 1).result(timeout=10) == -1


@pytest.mark.parametrize("role", ["scheduler", "worker"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_end(cluster, role, signum):
    process = cluster.scheduler if role == "scheduler" else cluster.workers[0]
    process.popen.send_signal(signum)
    assert process.popen.wait(15) == 0, process.text


def test_no_process_is_left(tmp_path):
    with Cluster() as cluster:
        with cluster.client() as client:
            pids = list(client.run(os.getpid).values())
        for process in cluster.workers:
            process.popen.kill()  # only the Node process: its executor must notice
        wait_until(lambda: not any(alive(pid) for pid in pids), "the executors have ended with their worker")


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_gives_up_without_a_scheduler(tmp_path):
    command = [
        str(ROOT / "bin" / "dask-worker"),
        "tcp://127.0.0.1:1",
        "--death-timeout",
        "1",
        "--python",
        sys.executable,
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=30)
    assert result.returncode == 1
