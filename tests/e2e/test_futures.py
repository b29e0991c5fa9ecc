"""Futures, as programs use them every day."""

from __future__ import annotations

import operator
import traceback

import pytest
from distributed import Client, as_completed, fire_and_forget, wait

from cluster import wait_until


def test_submit_map_gather(client):
    assert client.submit(operator.add, 1, 2).result(timeout=10) == 3
    assert client.gather(client.map(operator.neg, range(200))) == [-i for i in range(200)]


def test_a_future_is_an_argument(client):
    x = client.submit(operator.add, 1, 2)
    y = client.submit(operator.mul, x, 10)
    z = client.submit(sum, [x, y, {"a": 1}["a"]])
    assert z.result(timeout=10) == 34


def test_functions_of_main_travel(client):
    factor = 7
    assert client.gather(client.map(lambda x: x * factor, range(50))) == [x * 7 for x in range(50)]


def test_as_completed(client):
    futures = client.map(operator.neg, range(30))
    assert sorted(future.result() for future in as_completed(futures)) == sorted(-i for i in range(30))


def test_errors_carry_their_traceback(client):
    def broken_on_purpose(x):
        return 1 / x

    future = client.submit(broken_on_purpose, 0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        future.result(timeout=10)
    assert future.status == "error"
    assert "broken_on_purpose" in "".join(traceback.format_tb(future.traceback()))
    # A dependent fails with the same error, and says so.
    dependent = client.submit(operator.neg, future)
    with pytest.raises(ZeroDivisionError):
        dependent.result(timeout=10)


def test_retries(client, tmp_path):
    marker = tmp_path / "attempts"

    def flaky():
        attempts = int(marker.read_text()) if marker.exists() else 0
        marker.write_text(str(attempts + 1))
        if attempts < 2:
            raise RuntimeError(f"attempt {attempts}")
        return attempts

    assert client.submit(flaky, retries=5, pure=False).result(timeout=20) == 2
    marker.unlink()
    failed = client.submit(flaky, pure=False)
    with pytest.raises(RuntimeError, match="attempt 0"):
        failed.result(timeout=10)
    failed.retry()
    wait_until(lambda: marker.read_text() == "2", "the retried task has run")


def test_cancel(client):
    import time

    blocker = [client.submit(time.sleep, 0.5, pure=False) for _ in range(2)]
    futures = client.map(lambda x: x, range(100, 120))
    client.cancel(futures)
    assert all(future.cancelled() for future in futures)
    wait(blocker)
    wait_until(lambda: not any(client.processing().values()), "the cancelled tasks have left the workers")
    assert client.submit(operator.neg, 5).result(timeout=10) == -5


def test_released_futures_are_forgotten(client):
    futures = client.map(operator.neg, range(1000, 1050))
    wait(futures)
    keys = [future.key for future in futures]
    assert all(len(holders) == 1 for holders in client.who_has(futures).values())
    del futures
    wait_until(
        lambda: not any(key in held for held in client.has_what().values() for key in keys), "workers hold none of them"
    )


def test_fire_and_forget(client, tmp_path):
    target = tmp_path / "done"
    fire_and_forget(client.submit(target.write_text, "yes"))
    wait_until(target.exists, "the forgotten task has run")


@pytest.mark.parametrize(
    "key",
    ["plain", "ünïcödé-鍵", ("tuple", 1), ("nested", ("a", 2), 3.5), "with spaces and 'quotes'", "x" * 2000],
    ids=str,
)
def test_keys_of_every_kind(client, key):
    assert client.submit(operator.neg, 3, key=key).result(timeout=10) == -3
    # Numbers and tuples of them are keys of low-level graphs. (Clients refuse bytes.)
    graph = {("graph", key): 5, 17: (operator.add, ("graph", key), 1), 2.5: (operator.add, 17, 1)}
    assert client.get(graph, 2.5) == 7


def test_several_clients_share_a_key(cluster):
    with cluster.client() as first, cluster.client() as second:
        a = first.submit(operator.neg, 41, key="shared")
        assert a.result(timeout=10) == -41
        b = second.submit(operator.neg, 41, key="shared")
        assert b.result(timeout=10) == -41
        del a
        assert b.result(timeout=10) == -41
        assert second.who_has([b])[b.key]


def test_asynchronous_client(cluster):
    import asyncio

    async def program():
        async with Client(cluster.address, asynchronous=True) as client:
            futures = client.map(operator.neg, range(10))
            assert await client.gather(futures) == [-i for i in range(10)]
            assert await client.submit(operator.add, 1, 1) == 2

    asyncio.run(program())


def test_tasks_submit_tasks(client):
    def parent(n):
        from distributed import worker_client

        with worker_client() as inner:
            return sum(inner.gather(inner.map(operator.neg, range(n))))

    assert client.submit(parent, 5).result(timeout=20) == -10


def test_priorities_and_places(client):
    address = list(client.scheduler_info()["workers"])[1]
    future = client.submit(operator.neg, 99, workers=[address], priority=5)
    assert future.result(timeout=10) == -99
    assert list(client.who_has([future]).values()) == [(address,)]
