"""Processes that are killed, stopped or cut off, peers that misbehave, resources that run out."""

from __future__ import annotations

import contextlib
import json
import operator
import os
import resource
import signal
import socket
import subprocess
import sys
import time

import leaks
import pytest
from distributed import KilledWorker, get_worker, wait
from surroundings import PYTHONPATH, Network, is_root, place, send_rubbish, small_disk

from cluster import COMMANDS, ROOT, Cluster, Process, wait_until

needs_root = pytest.mark.skipif(not is_root(), reason="mounts and network namespaces need root")
TTL = 4


@pytest.fixture
def cluster():
    env = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{TTL}s", "PYTHONPATH": PYTHONPATH}
    with Cluster(nthreads=2, env=env) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with cluster.client() as client:
        yield client


def square(x, seconds=0.05):
    time.sleep(seconds)
    return x * x


SQUARES = [x * x for x in range(60)]


def tree(pid: int) -> list[int]:
    return list(leaks.members([pid]))


def stop_all(pids, signum):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signum)


def test_a_worker_is_stopped_for_longer_than_its_ttl(cluster, client):
    futures = client.map(square, range(60))
    wait_until(lambda: sum(future.done() for future in futures) > 5, "some are done")
    victim = cluster.workers[0]
    pids = tree(victim.popen.pid)
    stop_all(pids, signal.SIGSTOP)
    try:
        assert client.gather(futures) == SQUARES
        wait_until(lambda: len(client.scheduler_info(-1)["workers"]) == 1, "the scheduler gives it up")
    finally:
        stop_all(pids, signal.SIGCONT)
    # it learns that it was given up, and begins anew
    wait_until(lambda: len(client.scheduler_info(-1)["workers"]) == 2 or not victim.running, "it has found out")
    assert client.gather(client.map(square, range(60), pure=False)) == SQUARES


def test_an_executor_is_stopped_for_longer_than_the_ttl(cluster, client):
    pids = client.run(os.getpid)
    address = next(iter(pids))
    stuck = client.submit(square, 7, 0.5, workers=[address], pure=False)
    wait_until(lambda: client.processing()[address], "it runs")
    os.kill(pids[address], signal.SIGSTOP)
    assert stuck.result(timeout=60) == 49
    assert "has been stopped for" in cluster.logs()
    assert client.gather(client.map(square, range(60))) == SQUARES


def test_rubbish_on_every_port(cluster, client):
    futures = client.map(square, range(60))
    info = client.scheduler_info(-1)["workers"]
    addresses = [cluster.address, *info, *(worker["nanny"] for worker in info.values())]
    before = [sum(leaks.descriptors(process.popen.pid).values()) for process in cluster.processes]
    for seed, address in enumerate(addresses * 3):
        send_rubbish(address, seed)
    assert client.gather(futures) == SQUARES

    def closed():
        after = [sum(leaks.descriptors(process.popen.pid).values()) for process in cluster.processes]
        return all(a <= b + 8 for a, b in zip(after, before, strict=True))

    wait_until(closed, "the connections are closed")


def test_a_peer_that_does_not_read(cluster, client):
    """It asks for a large value and takes nothing: others are served, and what it held up is freed when it goes."""
    value = client.submit(bytes, 200_000_000, pure=False)
    wait(value)
    [address] = client.who_has([value])[value.key]
    program = (
        "import asyncio, sys; from distributed.core import connect\n"
        "async def ask():\n"
        "    comm = await connect(sys.argv[1])\n"
        "    await comm.write({'op': 'get_data', 'keys': [sys.argv[2]], 'who': None, 'reply': True})\n"
        "    comm.stream.set_nodelay(True)\n"
        "    print('asked', flush=True)\n"
        "    import time; time.sleep(1000)\n"
        "asyncio.run(ask())\n"
    )
    slow = [
        subprocess.Popen([sys.executable, "-c", program, address, value.key], stdout=subprocess.PIPE) for _ in range(3)
    ]
    try:
        for process in slow:
            assert process.stdout is not None and process.stdout.readline() == b"asked\n"
        assert client.gather(client.map(square, range(60))) == SQUARES
        others = [a for a in client.scheduler_info(-1)["workers"] if a != address]
        assert client.submit(len, value, workers=others).result(timeout=60) == 200_000_000
    finally:
        for process in slow:
            process.kill()
            process.wait()

    def outgoing():
        return client.scheduler_info(-1)["workers"][address]["metrics"]["transfer"]["outgoing_count"]

    wait_until(lambda: outgoing() == 0, "its slots are free")
    assert client.gather(client.map(square, range(60), pure=False)) == SQUARES


def test_a_worker_without_descriptors(cluster, client):
    victim = cluster.workers[0]
    address = next(a for a in client.scheduler_info(-1)["workers"] if cluster.worker_at(a) is victim)
    held = sum(leaks.descriptors(victim.popen.pid).values())
    limits = resource.prlimit(victim.popen.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(victim.popen.pid, resource.RLIMIT_NOFILE, (held + 5, limits[1]))
    connections = []
    try:
        for _ in range(40):
            with contextlib.suppress(OSError):
                connections.append(socket.create_connection(place(address), timeout=2))
        futures = client.map(square, range(60))
        wait(futures, timeout=30)
    finally:
        for connection in connections:
            connection.close()
        resource.prlimit(victim.popen.pid, resource.RLIMIT_NOFILE, limits)
    assert victim.running
    assert client.gather(futures) == SQUARES
    there = client.submit(operator.neg, 1, workers=[address], pure=False)
    here = [a for a in client.scheduler_info(-1)["workers"] if a != address]
    assert client.submit(operator.neg, there, workers=here).result(timeout=30) == 1


@needs_root
def test_a_full_disk(cluster, client, tmp_path):
    def fill():
        with open(os.path.join(get_worker().local_directory, "large"), "wb") as file:
            file.write(bytes(64_000_000))

    with small_disk(tmp_path / "disk", 8) as folder:
        process = cluster.start_worker("ours", "--local-directory", str(folder), "--name", "small")
        client.wait_for_workers(3, timeout=30)
        address = next(a for a, w in client.scheduler_info(-1)["workers"].items() if w["name"] == "small")
        with pytest.raises(OSError, match="No space left"):
            client.submit(fill, workers=[address], pure=False).result(timeout=30)
        assert client.submit(square, 3, workers=[address], pure=False).result(timeout=30) == 9
        # an executor that starts with a full disk
        with pytest.raises(KilledWorker):
            client.submit(os._exit, 1, workers=[address], pure=False).result(timeout=60)
        assert client.submit(square, 4, workers=[address], pure=False).result(timeout=30) == 16
        assert client.gather(client.map(square, range(60))) == SQUARES
        assert process.stop() == 0
        (folder / "ballast").write_bytes(b"")
        with contextlib.suppress(OSError), open(folder / "ballast", "wb") as file:
            while True:
                file.write(bytes(100_000))
        process = cluster.start_worker("ours", "--local-directory", str(folder), "--name", "late")
        wait_until(lambda: not process.running or "Registered to:" in process.text, "it starts, or says why not")
        if not process.running:
            assert "ENOSPC" in process.text
        process.kill()


PROGRAM = """
import sys, time, operator
from distributed import Client

def square(x):
    time.sleep(0.05)
    return x * x

with Client(sys.argv[1], timeout=30) as client:
    client.wait_for_workers(2, timeout=60)
    first = client.map(square, range(40), key="early")
    pairs = client.map(operator.add, first, first[::-1])
    print("begun", flush=True)
    assert client.gather(first) == [x * x for x in range(40)]
    assert client.gather(pairs) == [x * x + (39 - x) ** 2 for x in range(40)]
    print("right", flush=True)
    sys.stdin.readline()
    client.wait_for_workers(2, timeout=60)
    assert client.gather(client.map(square, range(40, 80))) == [x * x for x in range(40, 80)]
    print("mended", flush=True)
"""


@needs_root
def test_a_network_that_is_cut(tmp_path):
    """Scheduler and client on one host, two workers on two others; one worker's cable is pulled, then put back."""
    env = {
        "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{TTL}s",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "3s",
        "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "3s",
    }
    processes: list[Process] = []
    with Network(3) as network, contextlib.ExitStack() as stack:
        stack.callback(lambda: [process.kill() for process in processes])

        def start(host, name, *command):
            process = Process(name, network.command(host, *command), tmp_path, env)
            processes.append(process)
            return process

        python = ["--python", sys.executable]
        address = f"tcp://{network.address(0)}:8786"
        file = tmp_path / "scheduler.json"
        where = ["--host", network.address(0), "--scheduler-file", str(file)]
        start(0, "scheduler", *COMMANDS["ours"]["scheduler"], *python, *where)
        wait_until(file.exists, "the scheduler")
        assert json.loads(file.read_text())["address"] == address
        command = [*COMMANDS["ours"]["worker"], address, *python, "--nthreads", "2"]
        workers = [start(host, f"worker-{host}", *command) for host in (1, 2)]
        program = tmp_path / "program.py"
        program.write_text(PROGRAM)
        client = subprocess.Popen(
            network.command(0, sys.executable, str(program), address),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        stack.callback(client.kill)
        assert client.stdin is not None and client.stdout is not None
        assert client.stdout.readline() == "begun\n"
        network.cut(2)
        assert client.stdout.readline() == "right\n", "\n".join(process.text[-2000:] for process in processes)
        network.mend(2)
        # as stock's it ends, with its nanny: whoever started it starts it again
        assert workers[1].popen.wait(60) == 0
        start(2, "worker-3", *command)
        client.stdin.write("\n")
        client.stdin.flush()
        assert client.stdout.readline() == "mended\n", "\n".join(process.text[-2000:] for process in processes)
        assert client.wait(30) == 0


def test_the_scheduler_is_stopped_for_a_while(cluster, client):
    futures = client.map(square, range(60))
    os.kill(cluster.scheduler.popen.pid, signal.SIGSTOP)
    time.sleep(TTL + 2)
    os.kill(cluster.scheduler.popen.pid, signal.SIGCONT)
    assert client.gather(futures) == SQUARES
    wait_until(lambda: len(client.scheduler_info(-1)["workers"]) == 2, "both are there")


def test_executors_are_killed_again_and_again(cluster, client):
    futures = client.map(square, range(60), seconds=0.2, retries=5)
    for _ in range(4):
        time.sleep(0.5)
        for pid in client.run(os.getpid, on_error="ignore").values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            break
    assert client.gather(futures) == SQUARES
    assert all(process.running for process in cluster.processes)
