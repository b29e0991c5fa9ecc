"""Ops of the graph host besides ``open-graph``: users' functions and library classes."""

from __future__ import annotations

import asyncio
import importlib
import logging
from typing import TYPE_CHECKING, Any

from distributed.protocol import pickle
from distributed.protocol.serialize import ToPickle
from distributed.utils import import_file

from dask_ts.bridge import Message, encode_message
from dask_ts.graph_host_scheduler import WorkerView
from dask_ts.graph_open import open_pickled

if TYPE_CHECKING:
    from dask_ts.graph_host import GraphHost

logger = logging.getLogger("dask_ts.graph_host")


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


def write_cluster_dump(_host: GraphHost, _number: int, *, state: Any, url: str, format: str, options: Any) -> Message:
    """``distributed.cluster_dump.write_state`` of a state that is there already."""
    from distributed.cluster_dump import write_state

    async def get_state() -> Any:
        return state

    asyncio.run(write_state(get_state, url, format, **options))  # type: ignore[arg-type]
    return {}


def import_uploaded(_host: GraphHost, _number: int, *, path: str, load: bool) -> Message:
    """A file that ``upload_file`` brought to the scheduler, for the graphs that need it."""
    if load:
        import_file(path)
    return {}
