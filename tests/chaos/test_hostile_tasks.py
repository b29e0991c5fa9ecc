"""Every task of ``hostile`` once, on one cluster: each ends as it must, and the workers go on as if nothing were."""

from __future__ import annotations

import operator
import time

import hostile
import leaks
import pytest
from distributed import KilledWorker, wait
from surroundings import PYTHONPATH

from cluster import DEFAULT, Cluster, wait_until

DIES = "dies"
#: Clients cannot raise it.
ERRS = "errs"
#: What is expected of each: the end of the process, an error (type, text), a result that cannot be had, or a result.
TABLE = [
    (hostile.exits_at_once, DIES),
    (hostile.exits, DIES),
    (hostile.interrupts, DIES),
    (hostile.is_killed, DIES),
    (hostile.terminates_itself, DIES),
    (hostile.segfaults, DIES),
    (hostile.aborts, DIES),
    (hostile.closes_all_descriptors, DIES),
    (hostile.stops_the_loop, "stopped"),
    (hostile.raises_what_does_not_pickle, (Exception, "no pickle of this|odd")),
    (hostile.raises_what_cannot_be_read, (Exception, "")),
    (hostile.raises_what_has_no_text, (Exception, "")),
    (hostile.raises_a_large_error, (Exception, "")),
    (hostile.raises_a_chain, (ValueError, "2999")),
    (hostile.raises_stop_iteration, (Exception, "")),
    (hostile.raises_cancelled, ERRS),
    (hostile.raises_generator_exit, ERRS),
    (hostile.recurses, (RecursionError, "")),
    (hostile.asks_for_too_much, (MemoryError, "")),
    (hostile.returns_what_refuses, (Exception, "travel|serialize")),
    (hostile.returns_what_recurses, (Exception, "recursion|serialize")),
    (hostile.returns_what_cannot_be_opened, (Exception, "not a number|invalid literal|deserialize")),
    (hostile.returns_a_deep_list, (Exception, "recursion|serialize")),
    (hostile.returns_a_lock, (Exception, "pickle|serialize")),
    (hostile.returns_a_generator, (Exception, "pickle|serialize")),
    (hostile.returns_no_size, hostile.Immeasurable),
    (hostile.returns_a_huge_size, hostile.Monstrous),
    (hostile.returns_a_negative_size, hostile.Negative),
    (hostile.prints_much, "printed"),
    (hostile.prints_one_long_line, "printed"),
    (hostile.prints_bytes, "printed"),
    (hostile.logs_much, "logged"),
    (hostile.changes_directory, "changed"),
    (hostile.closes_its_output, (OSError, "Bad file descriptor")),
    (hostile.takes_all_descriptors, True),
    (hostile.removes_its_folder, "removed"),
    (hostile.empties_the_environment, "empty"),
    (hostile.starts_threads_that_never_end, "started"),
    (hostile.ignores_signals, "refused"),
    (hostile.forks, 7),
    (hostile.forks_and_both_return, "parent"),
    (hostile.forks_and_the_child_raises, "parent"),
    (hostile.uses_a_pool_of_processes, 20),
    (hostile.leaves_a_child_behind, "left"),
    (hostile.holds_the_gil, "held"),
    (hostile.blocks_the_loop, "blocked"),
]


@pytest.fixture(scope="module")
def cluster():
    # One death is enough: four of each kind would show nothing more.
    env = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "PYTHONPATH": PYTHONPATH}
    shared = leaks.shared_memory()
    with Cluster(nthreads=2, env=env) as cluster:
        yield cluster
        sessions = [process.popen.pid for process in cluster.processes]
        for process in cluster.workers:
            assert process.stop() == 0, process.text[-3000:]
        alive = leaks.members(sessions[1:])
        assert {pid: name for pid, name in alive.items() if "sleep" not in name} == {}
        assert leaks.shared_memory() <= shared
        assert not [name for name in leaks.files_below(cluster.folder) if "scratch" in name]


@pytest.fixture
def client(cluster):
    with cluster.client() as client:
        yield client


def assert_well(cluster, client, count=2):
    """All workers are there and work, in the processes that they were started with."""
    assert all(process.running for process in cluster.processes), "a process has ended"

    def work():
        addresses = list(client.scheduler_info(-1)["workers"])
        if len(addresses) != count:
            return False
        futures = [client.submit(operator.neg, 1, workers=[address], pure=False) for address in addresses]
        try:
            return client.gather(futures) == [-1] * count
        except KilledWorker:
            return False

    wait_until(work, "every worker works", 60)


@pytest.mark.parametrize(("task", "expected"), TABLE, ids=[task.__name__ for task, _ in TABLE])
def test_hostile(cluster, client, task, expected):
    future = client.submit(task, key=f"{task.__name__}-{time.time()}")
    if expected == DIES:
        with pytest.raises(KilledWorker):
            future.result(timeout=60)
    elif expected == ERRS:
        wait(future, timeout=60)
        assert future.status == "error"
    elif isinstance(expected, tuple):
        kind, text = expected
        with pytest.raises(kind, match=f"(?is){text}"):
            future.result(timeout=60)
    elif isinstance(expected, type):
        assert type(future.result(timeout=60)) is expected
    else:
        assert future.result(timeout=60) == expected
    assert_well(cluster, client)


@pytest.mark.parametrize(
    "task",
    [hostile.returns_what_refuses, hostile.returns_what_cannot_be_opened, hostile.returns_what_recurses],
    ids=lambda task: task.__name__,
)
def test_a_result_that_does_not_reach_its_dependent(cluster, client, task):
    """The other worker cannot have the value: the task that needs it errs, and nothing waits for ever."""
    first, second = client.scheduler_info(-1)["workers"]
    value = client.submit(task, key=f"{task.__name__}-{time.time()}", workers=[first])
    wait(value, timeout=30)
    needs = client.submit(type, value, key=f"needs-{time.time()}", workers=[second])
    with pytest.raises(Exception, match=r"(?is)travel|serialize|invalid literal|recursion"):
        needs.result(timeout=60)
    assert_well(cluster, client)


@pytest.mark.skipif(DEFAULT == "stock", reason="stock's heartbeats need the GIL")
def test_the_worker_answers_while_a_task_holds_the_gil(cluster, client):
    [address, *_] = client.scheduler_info(-1)["workers"]
    future = client.submit(hostile.holds_the_gil, key=f"gil-{time.time()}", workers=[address])
    wait_until(lambda: client.processing()[address], "it runs")
    time.sleep(0.3)

    async def ask():
        async with client.rpc(address) as worker:
            return await worker.identity()

    took = []
    while not future.done() and len(took) < 20:
        start = time.monotonic()
        client.sync(ask)
        took.append(time.monotonic() - start)
    assert len(took) == 20, "it has ended too soon"
    assert sorted(took)[10] < 0.5
    assert future.result(timeout=30) == "held"


def test_many_at_once(cluster, client):
    """Innocent tasks beside hostile ones: right, whatever happens around them."""
    deadly = [hostile.exits_at_once, hostile.segfaults, hostile.closes_all_descriptors]
    harmless = [hostile.forks, hostile.forks_and_both_return, hostile.prints_bytes, hostile.raises_what_has_no_text]
    for task in [*deadly, *harmless]:
        client.submit(task, key=f"{task.__name__}-{time.time()}", priority=1)
    # a death with allowed-failures of 0 takes innocent neighbours along: they may try again
    squares = client.map(slow_square, range(40), pure=False, retries=20)
    assert client.gather(squares) == [x * x for x in range(40)]
    assert_well(cluster, client)


def slow_square(x):
    time.sleep(0.02)
    return x * x
