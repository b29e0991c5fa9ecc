"""What tasks print, on its way to a reader that is slow, and processes that tasks leave behind."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

from cluster import COMMANDS, DEFAULT, ROOT, Cluster, wait_until

pytestmark = pytest.mark.skipif(DEFAULT != "ours", reason="a stock worker waits for who reads its log")
LINE = "x" * 999
LINES = 30_000


def prints():
    for _ in range(LINES):
        print(LINE)
    return LINES


def fails():
    raise ValueError("y" * 20_000)


def leaves_a_child():
    subprocess.Popen(["sleep", "100"])
    return os.getpid()


def resident(pid):
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_nobody_reads_the_output():
    """The task that prints waits; the worker does not, nor does it keep what is printed."""
    with Cluster(workers=[]) as cluster, cluster.client() as client:
        command = [*COMMANDS["ours"]["worker"], cluster.address, *cluster.python("worker", "ours"), "--nthreads", "2"]
        command += ["--host", "127.0.0.1", "--local-directory", str(cluster.folder), "--dashboard-address", ":0"]
        env = {**os.environ, "PYTHONPATH": str(ROOT / "tests" / "e2e")}
        worker = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, start_new_session=True
        )
        try:
            client.wait_for_workers(1, timeout=60)
            before = resident(worker.pid)
            printing = client.submit(prints)
            # all of them in the log that nobody reads
            errors = [client.submit(fails, pure=False) for _ in range(20)]
            for future in errors:
                assert isinstance(future.exception(timeout=30), ValueError)
            assert list(client.run(lambda: 7).values()) == [7]
            assert printing.status == "pending"
            assert resident(worker.pid) < before + 50_000_000
            lines = []
            assert worker.stdout is not None
            reader = threading.Thread(target=lambda out: lines.extend(out), args=(worker.stdout,))
            reader.start()
            assert printing.result(timeout=60) == LINES
            worker.terminate()
            assert worker.wait(30) == 0
            reader.join(30)
            assert lines.count(f"{LINE}\n".encode()) == LINES
            assert lines[-1].rstrip().endswith((b"End worker", b'End worker"}'))
        finally:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)


def test_an_executor_dies_whose_child_lives_on_with_its_output():
    with Cluster(workers=[DEFAULT]) as cluster, cluster.client() as client:
        pid = client.submit(leaves_a_child).result(timeout=30)
        os.kill(pid, signal.SIGKILL)
        start = time.monotonic()
        wait_until(lambda: "was killed by signal SIGKILL" in cluster.workers[0].text, "the worker sees it", 20)
        assert time.monotonic() - start < 20
        assert client.submit(int, "5", pure=False).result(timeout=60) == 5
