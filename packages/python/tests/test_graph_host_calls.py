"""The ops of the graph host besides ``open-graph``."""

from __future__ import annotations

import asyncio
import itertools
import pickle
import threading
from types import SimpleNamespace

import cloudpickle
import pytest
from distributed.core import Status
from distributed.protocol.serialize import Serialize, ToPickle

from dask_ts import graph_host_calls as calls
from dask_ts.bridge import decode_message, encode_message

WORKERS = {
    "tcp://10.0.0.1:1000": {"name": "a", "nthreads": 2, "status": "running", "memory_limit": 1000},
    "tcp://10.0.0.2:1000": {"name": "b", "nthreads": 1, "status": "paused", "memory_limit": 2000},
}


class FakeBridge:
    asked: list

    def __init__(self) -> None:
        self.asked = []

    def request_sync(self, op, timeout, fields):
        assert op == "scheduler-view"
        self.asked.extend(fields)
        facts = {"address": "tcp://10.0.0.9:8786", "workers": WORKERS, "clients": ("c1",)}
        facts["tasks"] = {"x": "memory", ("y", 0): "erred"}
        return {name: facts[name] for name in fields}


@pytest.fixture
def host():
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield SimpleNamespace(bridge=FakeBridge(), loop=loop)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def run(host, function, *args, wait=True, **kwargs):
    reply = calls.run_function(
        host,
        1,
        function=cloudpickle.dumps(function),
        args=pickle.dumps(args),
        kwargs=pickle.dumps(kwargs),
        wait=wait,
    )
    if reply["status"] == "OK":
        assert isinstance(reply["result"], Serialize)
        return reply["result"].data
    return reply


def test_run_function(host):
    assert run(host, lambda x, y: x - y, 5, y=3) == 2
    assert run(host, lambda x: ZeroDivisionError, 5) is ZeroDivisionError
    failed = run(host, lambda: 1 / 0)
    assert failed["status"] == "error" and failed["exception_text"].startswith("ZeroDivisionError")


def test_run_coroutine_function(host):
    async def where(dask_scheduler):
        await asyncio.sleep(0)
        return asyncio.get_running_loop() is dask_scheduler.loop.asyncio_loop

    assert run(host, where) is True
    assert run(host, where, wait=False) is None
    with pytest.raises(AssertionError, match="Combination not supported"):
        run(host, lambda: 1, wait=False)


def test_the_view_of_the_scheduler(host):
    def look(dask_scheduler):
        workers = dask_scheduler.workers
        first = workers["tcp://10.0.0.1:1000"]
        return (
            dask_scheduler.address,
            sorted(ws.name for ws in workers.values()),
            first.host,
            first.status,
            sum(ws.nthreads for ws in workers.values()),
            dask_scheduler.tasks["x"].state,
            ("y", 0) in dask_scheduler.tasks,
            list(dask_scheduler.clients),
            dask_scheduler.plugins,
        )

    assert run(host, look) == (
        "tcp://10.0.0.9:8786",
        ["a", "b"],
        "10.0.0.1",
        Status.running,
        3,
        "memory",
        True,
        ["c1"],
        {},
    )
    for name in ["transition_log", "handlers", "close"]:
        failed = run(host, lambda name, dask_scheduler: getattr(dask_scheduler, name), name)
        assert "AttributeError" in failed["exception_text"] and name in failed["exception_text"]
        assert isinstance(pickle.loads(failed["exception"].data), AttributeError)
    assert host.bridge.asked.count("workers") == 1


def test_evaluate_key(host):
    workers = [{"address": a, **w} for a, w in WORKERS.items()]
    by_size = cloudpickle.dumps(lambda ws: ws.memory_limit > 500)
    reply = calls.evaluate_key(host, 1, function=by_size, workers=workers)
    assert reply == {"groups": [0, 0], "values": [True, True]}
    by_object = cloudpickle.dumps(lambda ws: frozenset([ws.name]))
    reply = calls.evaluate_key(host, 1, function=by_object, workers=workers)
    assert reply["groups"] == [0, 1]


def test_open_pickle_plain(host):
    assert calls.open_pickle_plain(host, 1, data=pickle.dumps({"a": 1.5})) == {"value": {"a": 1.5}}
    with pytest.raises(TypeError):
        calls.open_pickle_plain(host, 1, data=pickle.dumps(len))


def test_error_pickle(host):
    reply = calls.error_pickle(host, 1, module="distributed.scheduler", name="NoWorkerError", args=("x", 1.0))
    assert type(pickle.loads(reply["exception"])).__name__ == "NoWorkerError"
    with pytest.raises(TypeError, match="no exception"):
        calls.error_pickle(host, 1, module="os", name="getpid")


def over_the_wire(fields):
    (out,) = decode_message([memoryview(bytes(f)) for f in encode_message([fields])])
    return out


def stock_worker_for(spec, workers, existing):
    """ShuffleSchedulerPlugin._calculate_worker_for for a barrier that shares no outputs."""
    from distributed.shuffle._core import barrier_key
    from distributed.shuffle._scheduler_plugin import ShuffleSchedulerPlugin

    class Barrier:
        worker_restrictions = None
        dependents = ()

    barrier = Barrier()
    scheduler = SimpleNamespace(tasks={barrier_key(spec.id): barrier}, workers=workers)
    plugin = SimpleNamespace(scheduler=scheduler, _shift_counter=itertools.count())
    return {**ShuffleSchedulerPlugin._calculate_worker_for(plugin, spec), **existing}


def barriers():
    import dask
    import dask.array as da

    from graphs import compute_expression, flat_keys, stock

    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    pytest.importorskip("pyarrow")
    df = dd.from_pandas(pd.DataFrame({"a": range(100)}), npartitions=5)
    with dask.config.set({"dataframe.shuffle.method": "p2p", "array.rechunk.method": "p2p"}):
        shuffle = compute_expression(df.shuffle("a"))
        rechunk = compute_expression(da.ones((20, 20), chunks=(20, 2)).rechunk((2, 20)))
    for expr in [shuffle, rechunk]:
        dsk, _ = stock(expr, flat_keys(expr))
        found = [node for key, node in dsk.items() if "barrier" in str(key)]
        assert found
        yield from found


def test_shuffle_run_spec(host):
    workers = list(WORKERS)
    for barrier in barriers():
        partitions = list(barrier.spec.output_partitions)
        for existing in [{}, {partitions[0]: "tcp://elsewhere:1"}]:
            fields = over_the_wire(
                {
                    "run_spec": ToPickle(barrier),
                    "run_id": 77,
                    "span_id": "s",
                    "workers": workers,
                    "existing": list(existing.items()),
                }
            )
            reply = calls.shuffle_run_spec(host, 1, **fields)
            made = reply["run_spec"].data
            assert (made.run_id, made.id, made.span_id) == (77, barrier.spec.id, "s")
            assert made.worker_for == stock_worker_for(barrier.spec, workers, existing)
            assert dict(reply["worker_for"]) == made.worker_for
            assert pickle.loads(pickle.dumps(made)).run_id == 77
    with pytest.raises(TypeError, match="barrier"):
        calls.shuffle_run_spec(host, 1, run_spec=5, run_id=1, span_id=None, workers=workers)
