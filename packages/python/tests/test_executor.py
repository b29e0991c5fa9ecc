from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import numpy as np
import pytest
from distributed import Reschedule, get_client, get_worker
from distributed.core import clean_exception
from distributed.protocol.serialize import to_serialize
from distributed.utils import thread_state

from dask_ts.executor_store import open_value
from executor_child import FAILURE, RESCHEDULE, SUCCESS, Child


@pytest.fixture(scope="module")
def child():
    child = Child()
    yield child
    child.kill()


def inc(x):
    return x + 1


def fail():
    raise ValueError("broken")


class MyBaseException(BaseException):
    pass


def raise_base():
    raise MyBaseException("not an Exception")


def raise_long():
    raise ValueError("x" * 100_000)


def reschedule():
    raise Reschedule()


def context():
    worker = get_worker()
    state = worker.state.tasks[thread_state.key]
    state.metadata["seen"] = True
    return (
        worker.get_current_task(),
        thread_state.execution_state["worker"] is worker,
        0 <= time.time() - thread_state.start_time < 10,
        threading.current_thread().name.rsplit("-", 2)[0],
        state.state,
        state.run_id,
        worker.executors["default"]._max_workers,
        worker.name,
        worker.status.name,
    )


def outside_of_task():
    try:
        return get_worker().http_server
    except AttributeError as e:
        return str(e)


def seconds(x):
    time.sleep(x)


async def cancellable():
    await asyncio.sleep(3600)


def nested(executor):
    return threading.current_thread().name, get_worker().name


def test_a_result(child):
    outcome = child.run("a", inc, 1)
    assert outcome[0] == SUCCESS
    assert outcome[5] == "int"
    assert outcome[6] <= outcome[7]
    assert child.value("a") == 2
    assert child.result("none", print) is None
    assert child.outcome("none")[5] == "NoneType"


def test_errors_arrive_as_stock_sends_them(child):
    outcome = child.run("f", fail)
    assert outcome[0] == FAILURE
    error = open_value(outcome[3])
    _, exc, tb = clean_exception(**error)
    assert isinstance(exc, ValueError)
    names = []
    while tb is not None:
        names.append(tb.tb_frame.f_code.co_name)
        tb = tb.tb_next
    assert names == ["fail"]


def test_base_exceptions_are_task_errors_and_long_ones_are_cut(child):
    error = open_value(child.run("base", raise_base)[3])
    assert "not an Exception" in error["exception_text"]
    error = open_value(child.run("long", raise_long)[3])
    assert len(error["exception_text"]) < 20_000
    assert child.run("r", reschedule)[0] == RESCHEDULE


def test_a_task_sees_its_worker(child):
    assert child.result("ctx", context) == (
        "ctx",
        True,
        True,
        "child-Dask-Default-Threads",
        "executing",
        1,
        2,
        "child",
        "running",
    )
    assert child.outcome("ctx")[10] == {"seen": True}


def test_what_the_facade_has_not_is_named(child):
    text = child.result("facade", outside_of_task)
    assert "no 'http_server': the worker process serves HTTP" in text


def test_a_short_task_is_reported_while_a_long_one_runs():
    child = Child(nthreads=1)
    try:
        child.execute("short", inc, 1)
        child.execute("long", seconds, 60)
        assert child.outcome("short")[0] == SUCCESS
        assert child.request("call", name="call_stack", fields={"keys": ["long"]})["value"]["long"]
        # answered while the only thread works
        assert child.call("no such op") is None
    finally:
        child.kill()


def test_tasks_that_no_thread_has_begun_are_taken_back():
    child = Child(nthreads=1)
    try:
        child.execute("long", seconds, 60)
        for i in range(3):
            child.execute(("next", i), inc, i)
        deadline = time.monotonic() + 20
        while not child.request("call", name="call_stack", fields={"keys": ["long"]})["value"]:
            assert time.monotonic() < deadline
        assert child.request("recall")["keys"] == (("next", 0), ("next", 1), ("next", 2))
        assert child.request("recall")["keys"] == ()
    finally:
        child.kill()


def test_async_tasks_are_cancelled(child):
    child.execute("c", cancellable)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        child.bridge.send({"op": "cancel", "key": "c"})
        if child.wait_for(
            lambda messages: any(item[1] == "c" for m in messages if m["op"] == "outcomes" for item in m["items"]),
            timeout=0.05,
        ):
            break
    assert child.outcome("c")[0] == RESCHEDULE


def test_executors_by_annotation(child):
    thread, name = child.result("off", nested, 1, annotations={"executor": "offload"})
    assert name == "child"
    assert "Offload" in thread
    outcome = child.run("unknown", inc, 1, annotations={"executor": "nobody"})
    assert "Invalid executor 'nobody'" in outcome[3]["exception_text"]


def test_values_are_taken_and_given(child):
    reply = child.request("put", entries=[["arr", to_serialize(np.arange(10))], ["plain", 5]])
    assert [r[2] for r in reply["results"]] == ["numpy.ndarray", "int"]
    assert child.result("sum", np.sum, np.arange(4)) == 6
    child.bridge.send({"op": "drop", "keys": ["arr"]})
    assert child.request("get", keys=["arr", "plain"], serializers=["pickle"])["items"][0][0] == ("plain")


def test_values_spill(tmp_path):
    child = Child(memory_limit=5_000_000, local_directory=str(tmp_path))
    try:
        for i in range(5):
            child.run(("big", i), bytes, 1_000_000)
        metrics = child.wait_for(
            lambda ms: next(
                (m["figures"] for m in ms if m["op"] == "metrics" and m["figures"]["spilled_bytes.memory"] > 1_000_000),
                None,
            )
        )
        assert metrics["managed_bytes"] < 4_000_000
        assert child.value(("big", 0)) == bytes(1_000_000)
    finally:
        assert child.close() == 0
    assert not list(tmp_path.glob("dask-scratch-space/worker-*"))


def test_closing_from_inside_asks_the_worker_process(child):
    async def close(dask_worker):
        await dask_worker.close(reason="because")
        dask_worker.batched_stream.send({"op": "custom", "x": 1})

    from distributed.protocol import pickle

    child.call("run", function=pickle.dumps(close))
    message = child.wait_for_op("request", name="close")
    assert message["fields"]["reason"] == "because"
    assert child.wait_for_op("request", name="batched-send")["fields"]["msg"]["x"] == 1


def test_the_child_follows_its_parent():
    child = Child()
    child.execute("busy", seconds, 3600)
    child.bridge.close()
    assert child.process.wait(20) == 0


def test_sigterm_ends_it():
    child = Child()
    os.kill(child.process.pid, signal.SIGTERM)
    assert child.process.wait(20) != 0


def uses_a_client(x):
    return get_client().submit(inc, x).result()


def uses_primitives():
    from distributed import Event, Lock, Queue, Semaphore, Variable

    with Lock("l"), Semaphore(1, "s"):
        Queue("q").put(1)
        Variable("v").set(2)
        Event("e").set()
        return Queue("q").get(), Variable("v").get(), Event("e").is_set()


def in_worker_client(x):
    from distributed import worker_client

    with worker_client() as client:
        return sum(client.gather(client.map(inc, range(x))))


def speaks():
    import distributed

    distributed.print("hello")
    distributed.worker.warn("careful")


def test_clients_inside_tasks():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1,
        processes=False,
        dashboard_address=None,
        protocol="tcp",
        host="127.0.0.1",
        threads_per_worker=2,
    ) as cluster:
        child = Child(scheduler=cluster.scheduler_address)
        try:
            assert child.result("gc", uses_a_client, 1) == 2
            assert child.result("wc", in_worker_client, 3) == 6
            assert child.wait_for_op("seceded", key="wc")["duration"] >= 0
            assert child.result("prim", uses_primitives) == (1, 2, True)
            child.run("speak", speaks)
            assert child.wait_for_op("log-event", topic="print")["msg"]["args"] == ("hello",)
            assert "category" in child.wait_for_op("log-event", topic="warn")["msg"]
            assert child.close() == 0
        finally:
            child.kill()
