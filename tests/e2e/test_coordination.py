"""What clients share through the scheduler: queues, variables, locks, events, datasets."""

from __future__ import annotations

import asyncio
import operator
import subprocess
import sys
import threading

import dask
import pytest
from distributed import Event, Lock, MultiLock, Queue, Semaphore, Variable
from distributed.diagnostics import MemorySampler

from cluster import Cluster, wait_until

TIMEOUTS = (TimeoutError, asyncio.TimeoutError)


def test_queue_of_values(client):
    queue = Queue("values", maxsize=2)
    queue.put({"a": [1, (2, 3)]})
    queue.put(b"bytes")
    assert queue.qsize() == 2
    with pytest.raises(TIMEOUTS):
        queue.put("one too many", timeout=0.1)
    assert queue.get(batch=True) == [{"a": (1, (2, 3))}, b"bytes"]
    with pytest.raises(TIMEOUTS):
        queue.get(timeout=0.1)


def test_queue_wakes_who_waits(cluster, client):
    queue = Queue("waiting")
    got = []
    thread = threading.Thread(target=lambda: got.append(queue.get(timeout=20)))
    thread.start()
    with cluster.client() as other:
        Queue("waiting", client=other).put(7)
    thread.join(20)
    assert got == [7]


def test_queue_keeps_its_futures(cluster, client):
    queue = Queue("futures")
    with cluster.client() as other:
        future = other.submit(operator.neg, 5, pure=False)
        Queue("futures", client=other).put(future)
        wait_until(lambda: queue.qsize() == 1, "the future is in the queue")
        del future
    assert queue.get(timeout=10).result(timeout=10) == -5


def test_variable(cluster, client):
    variable = Variable("v")
    with pytest.raises(TIMEOUTS):
        variable.get(timeout=0.1)
    variable.set("text")
    with cluster.client() as other:
        assert Variable("v", client=other).get(timeout=10) == "text"
    future = client.submit(operator.neg, 6, pure=False)
    key = future.key
    variable.set(future)
    del future
    assert variable.get(timeout=10).result(timeout=10) == -6
    variable.set(1)
    wait_until(lambda: not any(key in held for held in client.has_what().values()), "the replaced future is released")
    variable.delete()


def test_an_erred_future_in_a_variable(client):
    variable = Variable("erred")
    variable.set(client.submit(operator.truediv, 1, 0, pure=False))
    future = variable.get(timeout=10)
    with pytest.raises(ZeroDivisionError):
        future.result(timeout=10)


def test_lock(cluster, client):
    lock = Lock("l")
    assert lock.acquire(timeout=5)
    with cluster.client():  # the newest client is the default one
        theirs = Lock("l")
        assert not theirs.acquire(timeout=0.1)
        assert lock.locked()
        lock.release()
        assert theirs.acquire(timeout=5)
        theirs.release()


def test_locks_inside_tasks(client):
    def add_one(x):
        with Lock("counter"):
            variable = Variable("count")
            variable.set(variable.get(timeout=5) + 1)
        return x

    Variable("count").set(0)
    client.gather(client.map(add_one, range(10)))
    assert Variable("count").get(timeout=5) == 10


def test_semaphore(client):
    semaphore = Semaphore(max_leases=2, name="s")
    assert semaphore.acquire(timeout=1) and semaphore.acquire(timeout=1)
    assert not semaphore.acquire(timeout=0.1)
    assert semaphore.get_value() == 2
    semaphore.release()
    wait_until(lambda: semaphore.get_value() == 1, "a lease is back")
    with pytest.raises(ValueError, match="Inconsistent max leases: 3, expected: 2"):
        Semaphore(max_leases=3, name="s").acquire(timeout=1)
    semaphore.close()


def test_multi_lock(client):
    first, second = MultiLock(["a", "b"]), MultiLock(["b", "c"])
    assert first.acquire(timeout=5)
    assert not second.acquire(timeout=0.1)
    assert MultiLock(["b", "c"]).acquire(timeout=5, num_locks=1)
    first.release()


def test_event(cluster, client):
    event = Event("e")
    assert not event.is_set() and not event.wait(timeout=0.1)
    waiting = client.submit(lambda: Event("e").wait(timeout=20), pure=False)
    event.set()
    assert waiting.result(timeout=20) and event.is_set()
    event.clear()
    assert not event.is_set()


def other_process(cluster, program: str) -> subprocess.Popen:
    """A client of its own that runs the program, once the program has said that it is there."""
    start = f"from distributed import *; c = Client({cluster.address!r})\n"
    process = subprocess.Popen([sys.executable, "-c", start + program], stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stdout.readline().strip() == b"ready"
    return process


def kill(process: subprocess.Popen) -> None:
    process.kill()
    process.wait()


def test_an_item_does_not_go_to_a_client_that_was_killed_while_it_waited(cluster, client):
    queue = Queue("killed")
    waiting = "import threading; t = threading.Timer(0.5, print, ['ready'], {'flush': True}); t.start()\n"
    kill(other_process(cluster, waiting + "Queue('killed').get()"))
    wait_until(lambda: len(clients(client)) == 1, "the scheduler has seen that it is gone")
    queue.put("item")
    assert queue.get(timeout=5) == "item"


def clients(client) -> list[str]:
    """Names of the real clients."""
    info = client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.clients))
    return [name for name in info if name.startswith("Client-") and not name.startswith("Client-worker")]


def test_locks_are_not_kept_for_a_client_that_was_killed_while_it_waited(cluster, client):
    held = MultiLock(["x", "y"])
    assert held.acquire(timeout=5)
    waiting = "import threading; t = threading.Timer(0.5, print, ['ready'], {'flush': True}); t.start()\n"
    kill(other_process(cluster, waiting + "MultiLock(['x', 'y']).acquire()"))
    wait_until(lambda: len(clients(client)) == 1, "the scheduler has seen that it is gone")
    held.release()
    assert MultiLock(["x", "y"]).acquire(timeout=5)


def test_a_deleted_variable_keeps_its_future_for_who_is_reading_it(client):
    variable = Variable("deleted")
    future = client.submit(operator.neg, 8, pure=False)
    key = future.key
    variable.set(future)
    reply = client.sync(client.scheduler.variable_get, name="deleted", client=client.id, timeout=5)
    future.release()
    variable.delete()
    assert client.submit(operator.neg, 1, pure=False).result(timeout=10) == -1
    assert held_keys(client) & {key}
    confirm = {"op": "variable-future-received-confirm", "name": "deleted", "key": key, "token": reply["token"]}
    client._send_to_scheduler(confirm)
    client._send_to_scheduler({"op": "client-releases-keys", "keys": [key], "client": client.id})
    wait_until(lambda: key not in held_keys(client), "the future is released")


def held_keys(client) -> set:
    return {key for keys in client.has_what().values() for key in keys}


def test_the_lease_of_a_killed_holder_runs_out():
    locks = "DASK_DISTRIBUTED__SCHEDULER__LOCKS__"
    with (
        Cluster(workers=(), env={f"{locks}LEASE_VALIDATION_INTERVAL": "100ms"}) as cluster,
        cluster.client(),
        dask.config.set({"distributed.scheduler.locks.lease-timeout": "1s"}),
    ):
        holder = (
            "import dask, time; dask.config.set({'distributed.scheduler.locks.lease-timeout': '1s'})\n"
            "Lock('l').acquire(); print('ready', flush=True); time.sleep(60)"
        )
        process = other_process(cluster, holder)
        mine = Lock("l")
        assert not mine.acquire(timeout=1.5), "it is refreshed while its holder lives"
        kill(process)
        assert mine.acquire(timeout=10)
        mine.release()


def test_a_closed_semaphore_wakes_who_waits_for_it(client):
    semaphore = Semaphore(max_leases=1, name="closing")
    assert semaphore.acquire(timeout=5)
    waiting = client.submit(lambda: Semaphore(max_leases=1, name="closing").acquire(timeout=20), pure=False)
    wait_until(lambda: any(client.processing().values()), "a task waits for it")
    semaphore.close()
    # Either it was waiting already, or it makes the semaphore anew.
    try:
        assert waiting.result(timeout=20)
    except RuntimeError as error:
        assert "not known" in str(error)


def test_datasets(cluster, client):
    total = dask.delayed(sum)([1, 2, 3]).persist()
    client.publish_dataset(total=total, number=5)
    with pytest.raises(KeyError, match="already exists"):
        client.publish_dataset(total=total)
    del total
    with cluster.client() as other:
        assert sorted(other.list_datasets()) == ["number", "total"]
        assert other.get_dataset("total").compute() == 6
        other.unpublish_dataset("total")
        other.unpublish_dataset("number")
        assert other.list_datasets() == ()


def test_memory_sampler(client):
    sampler = MemorySampler()
    with sampler.sample("process", measure="process", interval=0.05):
        client.submit(operator.neg, 1, pure=False).result(timeout=10)
    assert len(sampler.samples["process"]) >= 1
    assert all(nbytes > 0 for _, nbytes in sampler.samples["process"])


def test_events_and_metadata(client):
    client.log_event("topic", {"x": 1})
    assert client.get_events("topic")[-1][1] == {"x": 1}
    client.set_metadata(["a", "b"], 1)
    assert client.get_metadata(["a"]) == {"b": 1}
    assert client.get_metadata("missing", default=None) is None


def test_what_the_scheduler_does_not_show_says_so(client):
    assert client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.address) == client.scheduler.address
    with pytest.raises(AttributeError, match="no_such_thing"):
        client.run_on_scheduler(lambda dask_scheduler: dask_scheduler.no_such_thing)
    client.set_metadata("leaf", 1)
    with pytest.raises(TypeError):
        client.get_metadata(["leaf", "below"])
