"""A materialised graph as messages: columns over some thousand tasks each, small and quick to read.

A chunk::

    first           number of its first task; tasks are numbered over the whole graph
    total           tasks in the graph
    keys            their keys
    dep_counts      int32 per task
    deps            int32 per dependency: a task's number, or total + number of an external key
    flags           uint8 per task: 1 data producer, 2 P2P barrier
    annotation_of   int32 per task, number of its annotation set or -1; nil: none has any
    spec_ends       uint32 per task: end of its sub-header in specs
    specs           the encoded sub-headers of the pickled run_specs (``__Pickled__``), joined
    buffers         new out-of-band buffers, each as the only frame of a Pickled; numbered over the graph
    with_buffers    [[task, buffer, ...], ...] for tasks that have some

The reply after the last chunk has what is known only then (see ``graph_host``).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

from dask._task_spec import GraphNode, Task
from distributed.protocol.serialize import Pickled

from dask_ts.graph_open import Annotations
from dask_ts.graph_pickle import RunSpecPickler, pickled_header

TASKS_PER_CHUNK = 2_000
BYTES_PER_CHUNK = 4 * 2**20

DATA_PRODUCER = 1
BARRIER = 2


def _is_barrier(node: GraphNode) -> bool:
    return type(node).__name__ == "P2PBarrierTask" or hasattr(type(node), "spec")


class Columns:
    """Walks a graph once and gives its chunks. ``external`` is complete after the walk."""

    def __init__(self, dsk: dict[Any, GraphNode], annotations: Annotations) -> None:
        self._dsk = dsk
        self._annotations = annotations
        self._pickler = RunSpecPickler()
        self._barrier_types: dict[type, bool] = {Task: False}
        self._buffers: dict[tuple[int, int], int] = {}
        #: objects whose ids name buffers
        self._kept: list[Any] = []
        self.external: dict[Any, int] = {}

    def chunks(self) -> Iterator[dict[str, Any]]:
        dsk = self._dsk
        keys = list(dsk)
        total = len(keys)
        index = dict(zip(keys, range(total), strict=True))
        first = 0
        while first < total:
            chunk = self._chunk(keys, first, total, index)
            yield chunk
            first += len(chunk["keys"])

    def _chunk(self, keys: list, first: int, total: int, index: dict) -> dict[str, Any]:
        dsk = self._dsk
        external = self.external
        find = index.get
        dumps = self._pickler.dumps
        barriers = self._barrier_types
        counts, deps = array("i"), array("i")
        ends, flags = array("I"), bytearray()
        annotation_of = None if self._annotations.empty else array("i")
        specs: list[bytes] = []
        new_buffers: list[Pickled] = []
        with_buffers: list[list[int]] = []
        size = 0
        last = min(first + TASKS_PER_CHUNK, total)
        number = first
        while number < last and size < BYTES_PER_CHUNK:
            key = keys[number]
            # what is on its way need not be held twice
            node = dsk.pop(key)
            dependencies = node.dependencies
            counts.append(len(dependencies))
            if dependencies:
                for dep in dependencies:
                    at = find(dep)
                    if at is None:
                        at = total + external.setdefault(dep, len(external))
                    deps.append(at)
            kind = type(node)
            barrier = barriers.get(kind)
            if barrier is None:
                barrier = barriers[kind] = _is_barrier(node)
            flags.append((DATA_PRODUCER if node.data_producer else 0) | (BARRIER if barrier else 0))
            if annotation_of is not None:
                annotation_of.append(self._annotations.number_of(key))
            data, buffers = dumps(node)
            if buffers:
                numbers = [self._number_of(view, new_buffers) for view in buffers]
                with_buffers.append([number, *numbers])
                size += sum(view.nbytes for view in buffers)
            header = pickled_header(data, len(buffers))
            size += len(header)
            specs.append(header)
            ends.append(ends[-1] + len(header) if ends else len(header))
            number += 1
        return {
            "first": first,
            "total": total,
            "keys": keys[first:number],
            "dep_counts": counts.tobytes(),
            "deps": deps.tobytes(),
            "flags": bytes(flags),
            "annotation_of": None if annotation_of is None else annotation_of.tobytes(),
            "spec_ends": ends.tobytes(),
            "specs": b"".join(specs),
            "buffers": new_buffers,
            "with_buffers": with_buffers,
        }

    def _number_of(self, view: memoryview, new: list[Pickled]) -> int:
        """The number of a buffer; the same memory of the same object is sent once per graph."""
        identity = (id(view.obj), view.nbytes)
        number = self._buffers.get(identity)
        if number is None:
            number = self._buffers[identity] = len(self._buffers)
            self._kept.append(view)
            new.append(Pickled({"pickled-obj": b"", "compression": [None]}, [view]))
        return number
