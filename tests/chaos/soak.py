"""Work with known results while things break, for CHAOS_MINUTES (default 2): nothing is lost, nothing is left over.

Not collected by itself: ``node scripts/chaos.mjs --minutes 30``. CHAOS_SEED repeats the order of what happens.
"""

from __future__ import annotations

import contextlib
import operator
import os
import random
import re
import signal
import threading
import time
from collections import Counter

import dask
import dask.array as da
import hostile
import leaks
from distributed import Client
from distributed.client import CancelledError
from surroundings import PYTHONPATH, send_rubbish

from cluster import Cluster, wait_until

MINUTES = float(os.environ.get("CHAOS_MINUTES", "2"))
SEED = int(os.environ.get("CHAOS_SEED", str(int(time.time()))))
WORKERS = 3
TTL = 5


def square(x):
    time.sleep(0.01)
    return x * x


def tree_of_sums(client, round_number):
    """Layers that need each other's data, on all workers."""
    layer = client.map(square, range(64), key=f"soak-{round_number}", retries=10)
    total = sum(x * x for x in range(64))
    tasks = len(layer)
    while len(layer) > 1:
        layer = client.map(operator.add, layer[::2], layer[1::2], pure=False, retries=10)
        tasks += len(layer)
    assert layer[0].result(timeout=240) == total
    return tasks


def large_values(client, round_number):
    values = client.map(bytes, [5_000_000 + i for i in range(12)], pure=False, retries=10)
    sizes = client.map(len, values, pure=False, retries=10)
    assert client.gather(sizes) == [5_000_000 + i for i in range(12)]
    return len(values) + len(sizes)


def rechunked(client, round_number):
    array = da.arange(400_000, chunks=20_000).reshape(4000, 100).rechunk((-1, 5), method="p2p")
    total = array.sum()
    assert client.compute(total, retries=10).result(timeout=240) == 400_000 * 399_999 // 2
    (optimized,) = dask.optimize(total)
    return len(optimized.dask)


def scattered(client, round_number):
    """What nobody can compute again. Where its holders die, while it is handed out or all of them later, its owner is
    told, as by stock's scheduler, and hands it out once more; what must not be is a wrong sum, or none."""
    for attempt in range(1, 21):
        try:
            [future] = client.scatter([list(range(1000))], broadcast=True, hash=False)
            assert client.submit(sum, future, pure=False, retries=10).result(timeout=240) == 499_500
        except (OSError, CancelledError) as e:
            print(f"round {round_number}: scattered once more, {e!r}"[:200])
        else:
            return attempt
    raise AssertionError("20 scatters met a dying worker each")


WORK = [tree_of_sums, large_values, rechunked, scattered]
HARMLESS = [
    hostile.prints_bytes,
    hostile.forks,
    hostile.forks_and_both_return,
    hostile.raises_what_does_not_pickle,
    hostile.returns_what_recurses,
    hostile.changes_directory,
    hostile.blocks_the_loop,
    hostile.holds_the_gil,
]
DEADLY = [hostile.exits_at_once, hostile.segfaults, hostile.closes_all_descriptors, hostile.interrupts]


class Chaos:
    """Breaks one thing after the other, in an order that the seed decides."""

    def __init__(self, cluster: Cluster, seed: int):
        self.cluster = cluster
        self.random = random.Random(seed)
        self.done: list[str] = []

    def step(self, client: Client) -> None:
        action = self.random.choice(
            [
                self.kill_executor,
                self.kill_worker,
                self.end_worker,
                self.stop_worker,
                self.stop_scheduler,
                self.rubbish,
                self.hostile_task,
                self.deadly_task,
            ]
        )
        self.done.append(action.__name__)
        action(client)

    def living(self):
        return [process for process in self.cluster.workers if process.running]

    def kill_executor(self, client):
        found = leaks.members([process.popen.pid for process in self.living()])
        pids = [pid for pid, command in found.items() if "dask_ts." in command]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.random.choice(pids), signal.SIGKILL)

    def kill_worker(self, client):
        self.random.choice(self.living()).kill()
        self.cluster.start_worker("ours")

    def end_worker(self, client):
        # one that has not come as far as to look for signals ends by them, as any process does
        started = [process for process in self.living() if "Start worker at" in process.text]
        if not started:
            return
        process = self.random.choice(started)
        self.cluster.start_worker("ours")
        assert process.stop(90) == 0, process.text[-3000:]

    def stop_worker(self, client):
        process = self.random.choice(self.living())
        pids = list(leaks.members([process.popen.pid]))
        for signum in (signal.SIGSTOP, signal.SIGCONT):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)
            if signum == signal.SIGSTOP:
                time.sleep(self.random.choice([1, TTL + 3]))
        time.sleep(1)
        if not process.running:
            self.cluster.start_worker("ours")

    def stop_scheduler(self, client):
        pid = self.cluster.scheduler.popen.pid
        os.kill(pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.5, 3))
        os.kill(pid, signal.SIGCONT)

    def rubbish(self, client):
        addresses = [self.cluster.address, *client.scheduler_info(-1)["workers"]]
        for address in addresses:
            send_rubbish(address, self.random.randrange(10**9), connections=5)

    def hostile_task(self, client):
        task = self.random.choice(HARMLESS)
        with contextlib.suppress(Exception):
            client.submit(task, key=f"{task.__name__}-{time.time()}").result(timeout=60)

    def deadly_task(self, client):
        task = self.random.choice(DEADLY)
        # until it is taken back it goes from worker to worker
        future = client.submit(task, key=f"{task.__name__}-{time.time()}")
        time.sleep(self.random.uniform(1, 4))
        future.cancel()


def tell_stories(client: Client, error: BaseException) -> None:
    """What scheduler and workers know of the tasks that a failure names."""
    shuffles = {f"shuffle-barrier-{found}" for found in re.findall(r"\b[0-9a-f]{32}\b", repr(error))}
    with contextlib.suppress(Exception):
        for line in client.story(*shuffles, on_error="ignore") if shuffles else ():
            print(str(line)[:500])


def test_soak():
    shared = leaks.shared_memory()
    env = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": f"{TTL}s", "PYTHONPATH": PYTHONPATH}
    env |= {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "100"}  # innocent neighbours count too
    print(f"seed {SEED}, {MINUTES} minutes")
    with Cluster(workers=("ours",) * WORKERS, nthreads=2, env=env) as cluster:
        chaos = Chaos(cluster, SEED)
        end = time.monotonic() + MINUTES * 60
        failures: list[BaseException] = []

        def breaking():
            try:
                with cluster.client(set_as_default=False) as client:
                    while time.monotonic() < end and not failures:
                        chaos.step(client)
                        time.sleep(chaos.random.uniform(0, 3))
            except BaseException as e:
                failures.append(e)

        breaker = threading.Thread(target=breaking)
        rounds = tasks = 0
        with cluster.client() as client:
            scheduler_pid = cluster.scheduler.popen.pid
            tree_of_sums(client, "first")
            before = sum(leaks.descriptors(scheduler_pid).values())
            breaker.start()
            try:
                while time.monotonic() < end and not failures:
                    tasks += WORK[rounds % len(WORK)](client, rounds)
                    rounds += 1
            except BaseException as e:
                failures.append(e)
            breaker.join()
            print(f"{rounds} rounds of work, {tasks} tasks; {len(chaos.done)} faults: {dict(Counter(chaos.done))}")
            print(f"in this order: {chaos.done}")
            if failures:
                tell_stories(client, failures[0])
                print(cluster.logs())
                raise failures[0]
            # all is mended: it comes to rest, and holds nothing
            for _ in range(WORKERS - len(chaos.living())):
                cluster.start_worker("ours")
            wait_until(
                lambda: len(client.scheduler_info(-1)["workers"]) == len(chaos.living()), "all workers are there", 60
            )
            tree_of_sums(client, "last")
            wait_until(lambda: not any(client.has_what().values()), "all data is released")
            assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0
            wait_until(
                lambda: sum(leaks.descriptors(scheduler_pid).values()) <= before + 30, "descriptors are closed", 60
            )
        for process in chaos.living():
            assert process.stop(30) == 0, process.text[-3000:]
        left = leaks.members([process.popen.pid for process in cluster.workers])
        assert left == {}, left
        scratch = cluster.folder / "dask-scratch-space"
        # a killed worker's folder goes when the next one starts: what is left is of those killed after the last start
        process = cluster.start_worker("ours")
        wait_until(lambda: "Registered to:" in process.text, "one more worker")
        assert process.stop(30) == 0
        assert leaks.files_below(scratch) == set()
        assert leaks.shared_memory() <= shared
