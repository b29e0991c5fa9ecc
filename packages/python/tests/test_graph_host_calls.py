"""The ops of the graph host besides ``open-graph``."""

from __future__ import annotations

import itertools
import pickle
from types import SimpleNamespace

import cloudpickle
import pytest
from distributed.protocol.serialize import ToPickle

from dask_ts import graph_host_calls as calls
from dask_ts.bridge import decode_message, encode_message

WORKERS = {
    "tcp://10.0.0.1:1000": {"name": "a", "nthreads": 2, "status": "running", "memory_limit": 1000},
    "tcp://10.0.0.2:1000": {"name": "b", "nthreads": 1, "status": "paused", "memory_limit": 2000},
}


@pytest.fixture
def host():
    return SimpleNamespace()


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
