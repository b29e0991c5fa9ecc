"""Ops of the graph host besides ``open-graph``: users' functions and library classes."""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import TYPE_CHECKING, Any

from dask.utils import funcname
from distributed.core import error_message
from distributed.protocol import pickle
from distributed.protocol.serialize import ToPickle, to_serialize
from distributed.utils import has_arg, iscoroutinefunction

from dask_ts.bridge import Message, encode_message
from dask_ts.graph_host_scheduler import SchedulerView, WorkerView
from dask_ts.graph_open import open_pickled

if TYPE_CHECKING:
    from dask_ts.graph_host import GraphHost

logger = logging.getLogger("dask_ts.graph_host")


def run_function(
    host: GraphHost,
    _number: int,
    *,
    function: Any,
    args: Any = (),
    kwargs: Any = None,
    wait: bool = True,
) -> Message:
    """``distributed.worker.run`` with a view of the scheduler for ``dask_scheduler=``."""
    call = _loads(function)
    is_coroutine = iscoroutinefunction(call)
    if not (wait or is_coroutine):
        raise AssertionError("Combination not supported")
    positional = _loads(args) if args else ()
    keywords = dict(_loads(kwargs)) if kwargs else {}
    if has_arg(call, "dask_scheduler"):
        keywords["dask_scheduler"] = SchedulerView(host)
    if has_arg(call, "dask_worker"):
        raise TypeError("a function that runs on the scheduler gets no dask_worker")
    logger.info("Run out-of-band function %r", funcname(call))
    try:
        if not is_coroutine:
            result = call(*positional, **keywords)
        else:
            future = asyncio.run_coroutine_threadsafe(call(*positional, **keywords), host.loop)
            result = future.result() if wait else None
        return {"status": "OK", "result": to_serialize(result)}
    except Exception as e:
        logger.warning("Run Failed\nFunction: %s", str(funcname(call))[:1000], exc_info=True)
        return dict(error_message(e))


def _loads(value: Any) -> Any:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return pickle.loads(value)
    return open_pickled(value)


def open_pickle_plain(_host: GraphHost, _number: int, *, data: Any) -> Message:
    """The value of a pickle that is plain data; TypeError where msgpack has no word for it."""
    value = _loads(data)
    encode_message([{"value": value}])
    return {"value": value}


def evaluate_key(_host: GraphHost, _number: int, *, function: Any, workers: Any) -> Message:
    """Calls ``key(ws)`` for each worker (Scheduler.workers_to_close).

    ``workers`` are identity maps with ``address``. Replies ``groups``, per worker the number of its
    group in order of first appearance, and ``values``, what the function said where it is plain.
    """
    key = _loads(function)
    numbers: dict[Any, int] = {}
    groups, values = [], []
    for identity in workers:
        value = key(WorkerView(identity["address"], identity))
        groups.append(numbers.setdefault(value, len(numbers)))
        try:
            encode_message([{"value": value}])
        except Exception:
            value = repr(value)
        values.append(value)
    return {"groups": groups, "values": values}


def shuffle_run_spec(
    _host: GraphHost,
    _number: int,
    *,
    run_spec: Any,
    run_id: int,
    span_id: str | None,
    workers: Any,
    existing: Any = (),
) -> Message:
    """A new run of a P2P shuffle (ShuffleSchedulerPlugin._create, _calculate_worker_for).

    ``run_spec`` is the pickled barrier task, ``workers`` the candidates in the order to pick from
    (already shifted), ``existing`` pairs (partition, worker) of shuffles that share output tasks.
    Replies the pickled ShuffleRunSpec and all pairs as ``worker_for``.
    """
    from distributed.shuffle._core import P2PBarrierTask, ShuffleRunSpec

    barrier = open_pickled(run_spec)
    if not isinstance(barrier, P2PBarrierTask):
        raise TypeError(f"a P2P barrier task was expected, not {type(barrier).__name__}")
    spec = barrier.spec
    known = dict(existing)
    worker_for = {}
    for partition in spec.output_partitions:
        worker = known.get(partition)
        worker_for[partition] = spec.pick_worker(partition, workers) if worker is None else worker
    made: ShuffleRunSpec = ShuffleRunSpec(spec=spec, worker_for=worker_for, span_id=span_id)
    # the scheduler counts runs; the class would count those of this process
    object.__setattr__(made, "run_id", run_id)
    return {
        "shuffle_id": spec.id,
        "run_spec": ToPickle(made),
        "worker_for": list(worker_for.items()),
    }


def error_pickle(_host: GraphHost, _number: int, *, module: str, name: str, args: Any = ()) -> Message:
    """The pickle of ``module.name(*args)``, an exception."""
    kind = getattr(importlib.import_module(module), name)
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        raise TypeError(f"{module}.{name} is no exception")
    exc = kind(*[open_pickled(arg) for arg in args])
    return {"exception": pickle.dumps(exc), "exception_text": repr(exc)}


def versions(_host: GraphHost, _number: int, *, packages: Any = ()) -> Message:
    """``get_versions`` with more packages than the usual."""
    from distributed.versions import get_versions

    return {"versions": get_versions(packages=list(packages or ()))}
