"""What a client of any release does on a cluster; prints one JSON object: check -> "ok" or the error's last line.

Runs in the environment of the release that is tested: imports nothing but dask and distributed.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable

from dask import delayed
from distributed import (
    Actor,
    Client,
    Event,
    Lock,
    Queue,
    Semaphore,
    Variable,
    Worker,
    WorkerPlugin,
    as_completed,
    get_client,
    secede,
    wait,
)

TIMEOUT = 20


def inc(x: int) -> int:
    return x + 1


def fail() -> None:
    raise ZeroDivisionError("on purpose")


def nested(n: int) -> int:
    client = get_client()
    futures = client.map(inc, range(n))
    # Without this, a worker of one thread would wait for itself.
    secede()
    return sum(client.gather(futures))


class Counter:
    def __init__(self) -> None:
        self.n = 0

    def add(self, x: int) -> int:
        self.n += x
        return self.n


class Marker(WorkerPlugin):
    def setup(self, worker: Worker) -> None:
        worker.skew_marker = True


def has_marker(dask_worker: Worker) -> bool:
    return getattr(dask_worker, "skew_marker", False)


def uploaded_value() -> int:
    import skew_uploaded

    return skew_uploaded.VALUE


def check_submit(client: Client) -> None:
    assert client.submit(inc, 1).result(TIMEOUT) == 2
    # Functions of a notebook or a script travel by value.
    assert client.submit(lambda x: x * 2, 4).result(TIMEOUT) == 8


def check_map(client: Client) -> None:
    futures = client.map(inc, range(50))
    assert client.gather(futures) == list(range(1, 51))
    assert sum(future.result() for future in as_completed(futures)) == sum(range(1, 51))


def check_graph(client: Client) -> None:
    values = [delayed(inc)(i) for i in range(20)]
    total = delayed(sum)(values)
    assert total.compute(scheduler=client) == 210
    assert client.get({"a": 1, "b": (inc, "a"), "c": (sum, ["a", "b"])}, "c") == 3
    persisted = client.persist(total)
    assert client.compute(persisted).result(TIMEOUT) == 210


def check_error(client: Client) -> None:
    future = client.submit(fail, retries=1)
    try:
        future.result(TIMEOUT)
    except ZeroDivisionError as error:
        assert str(error) == "on purpose"
    else:
        raise AssertionError("no error came back")


def check_scatter(client: Client) -> None:
    [future] = client.scatter([b"x" * 1_000_000])
    assert client.submit(len, future).result(TIMEOUT) == 1_000_000
    assert client.who_has(future)


def check_shared(client: Client) -> None:
    variable, queue = Variable("skew-v", client=client), Queue("skew-q", client=client)
    variable.set(client.submit(inc, 10))
    assert variable.get(timeout=TIMEOUT).result(TIMEOUT) == 11
    queue.put({"a": 1})
    assert queue.get(timeout=TIMEOUT) == {"a": 1}
    event = Event("skew-e", client=client)
    event.set()
    assert event.wait(timeout=TIMEOUT)
    with Lock("skew-l"):
        pass
    with Semaphore(max_leases=1, name="skew-s"):
        pass


def check_publish(client: Client) -> None:
    client.publish_dataset(numbers=[1, 2, 3], future=client.submit(inc, 1))
    assert client.get_dataset("numbers") == [1, 2, 3]
    assert client.get_dataset("future").result(TIMEOUT) == 2
    assert set(client.list_datasets()) == {"numbers", "future"}
    assert client.get_dataset("no such", default=None) is None
    client.unpublish_dataset("numbers")
    client.unpublish_dataset("future")
    assert not client.list_datasets()


def check_actor(client: Client) -> None:
    counter: Actor = client.submit(Counter, actor=True).result(TIMEOUT)
    assert counter.add(2).result() == 2
    assert counter.add(3).result() == 5


def check_nested(client: Client) -> None:
    assert client.submit(nested, 5).result(TIMEOUT) == 15


def check_run(client: Client) -> None:
    assert set(client.run(inc, 1).values()) == {2}
    assert client.run_on_scheduler(inc, 1) == 2


def check_cancel(client: Client) -> None:
    future = client.submit(inc, 99)
    wait(future, timeout=TIMEOUT)
    client.cancel(future)
    assert future.cancelled()


def check_facts(client: Client) -> None:
    assert client.scheduler_info()["workers"]
    versions = client.get_versions(check=False)
    assert versions["scheduler"] and versions["workers"]
    assert client.nthreads() and client.has_what()
    assert client.story(client.submit(inc, 1).key) is not None


def check_replicate(client: Client) -> None:
    future = client.submit(inc, 123)
    wait(future, timeout=TIMEOUT)
    client.replicate(future)
    client.rebalance()


def check_events(client: Client) -> None:
    client.log_event("skew", {"a": 1})
    deadline = time.monotonic() + TIMEOUT
    while not client.get_events("skew"):
        assert time.monotonic() < deadline
    client.set_metadata(["skew", "x"], 1)
    assert client.get_metadata(["skew", "x"]) == 1
    client.get_task_stream()
    client.profile()


def check_plugin(client: Client) -> None:
    client.register_plugin(Marker(), name="skew-marker")
    assert all(client.run(has_marker).values())
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "skew_uploaded.py")
        with open(path, "w") as file:
            file.write("VALUE = 7\n")
        client.upload_file(path)
    assert client.submit(uploaded_value).result(TIMEOUT) == 7


def check_retry(client: Client) -> None:
    future = client.submit(fail)
    wait(future, timeout=TIMEOUT)
    client.retry(future)
    wait(future, timeout=TIMEOUT)
    assert future.status == "error"


def check_restart(client: Client) -> None:
    client.restart(timeout=60)
    assert client.submit(inc, 5).result(TIMEOUT) == 6


def check_retire(client: Client) -> None:
    workers = list(client.scheduler_info()["workers"])
    assert client.retire_workers([workers[0]])
    assert client.submit(inc, 6).result(TIMEOUT) == 7


CHECKS: list[Callable[[Client], None]] = [
    check_submit,
    check_map,
    check_graph,
    check_error,
    check_scatter,
    check_shared,
    check_publish,
    check_actor,
    check_nested,
    check_run,
    check_cancel,
    check_facts,
    check_replicate,
    check_events,
    check_plugin,
    check_retry,
    check_restart,
    check_retire,
]


def main(address: str) -> dict[str, str]:
    results: dict[str, str] = {}
    try:
        client = Client(address, timeout=TIMEOUT)
    except Exception as error:
        return {"connect": last_line(error)}
    results["connect"] = "ok"
    with client:
        for check in CHECKS:
            name = check.__name__.removeprefix("check_")
            try:
                check(client)
                results[name] = "ok"
            except Exception as error:
                results[name] = last_line(error)
    return results


def last_line(error: BaseException) -> str:
    return traceback.format_exception_only(type(error), error)[-1].strip()[:300]


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
