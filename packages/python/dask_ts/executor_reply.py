"""Replies to ``get_data`` whose values do not fit into memory beside each other.

A stock worker reads all that it is asked for back from disk before it sends the first byte: a client that gathers
three times the memory limit has it killed, computed anew, and killed again. The lengths of all frames stand at the
beginning of a message, so here spilled values are read twice, one at a time: for their lengths, and to be sent.
"""

from __future__ import annotations

import mmap
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from distributed.protocol.serialize import Serialized
from distributed.utils import ensure_memoryview, nbytes

from dask_ts.bridge import LARGE
from dask_ts.executor_spill import Buffer
from dask_ts.executor_store import close_value, travels_plain
from dask_ts.executor_transfer import PartlySent, encode_plain, write_all

if TYPE_CHECKING:
    from dask_ts.facade import Worker

Key = Any


def spilled_beyond_room(worker: Worker, keys: Iterable[Key]) -> set[Key]:
    """Those of the keys that are on disk, where reading them all at once would bring the worker to pause."""
    data = worker.data
    manager = worker.memory_manager
    limit, pause = manager.memory_limit, manager.memory_pause_fraction
    if not isinstance(data, Buffer) or not limit or not pause:
        return set()
    spilled = {key for key in keys if key in data.slow}
    if len(spilled) < 2:
        return set()
    sizes = worker.store.nbytes
    total = sum(sizes.get(key, 0) for key in spilled)
    return spilled if worker.monitor.get_process_memory() + total > pause * limit else set()


class PiecewiseReply:
    """Parameters
    ----------
    data:
        the ``Buffer``
    spilled:
        the keys to be read one at a time, each when it is its turn
    value_of:
        how any other value is had; KeyError where there is none
    """

    def __init__(self, data: Any, spilled: set[Key], serializers: Any, value_of: Callable[[Key], Any]) -> None:
        self._data = data
        self._spilled = spilled
        self._serializers = serializers
        self._value_of = value_of
        #: By identity of a stand-in: whose frame it stands for, and which.
        self._places: dict[int, tuple[Key, int]] = {}
        #: How many frames a value must have.
        self._counts: dict[Key, int] = {}
        self._stand_ins: list[mmap.mmap] = []

    def encode(self, keys: Iterable[Key]) -> tuple[list[memoryview], list[Key]]:
        """The message, its large frames of spilled values standing in for the real ones, and whose values it has."""
        items: dict[Key, Any] = {}
        for key in keys:
            try:
                value = self._value(key)
            except KeyError:
                continue
            closed = value if travels_plain(value) else close_value(value, self._serializers)
            if key in self._spilled and isinstance(closed, Serialized):
                closed.frames = [self._stand_in(key, i, frame) for i, frame in enumerate(closed.frames)]
            items[key] = closed
            del value, closed
        return encode_plain({"status": "OK", "data": items}), list(items)

    def _stand_in(self, key: Key, index: int, frame: Any) -> Any:
        size = nbytes(frame)
        if size < LARGE:
            return bytes(frame)
        # pages that nobody touches
        stand_in = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
        self._stand_ins.append(stand_in)
        self._places[id(stand_in)] = key, index
        self._counts[key] = index + 1
        return stand_in

    def _value(self, key: Key) -> Any:
        if key in self._spilled:
            try:
                return self._data.peek(key)
            except FileNotFoundError:
                pass  # it came back into memory in between
        return self._value_of(key)

    def write(self, sock: socket.socket, views: list[memoryview]) -> None:
        """Writes what ``encode`` gave. Raises PartlySent where that cannot be kept, a value being gone."""
        ready: list[memoryview] = []
        whose: Key = None
        frames: list[Any] = []
        for view in views:
            place = self._places.get(id(view.obj))
            if place is None:
                ready.append(view)
                continue
            key, index = place
            if not frames or key != whose:
                frames = []
                whose, frames = key, self._frames_again(key)
            frame = ensure_memoryview(frames[index])
            if len(frame) != len(view):
                raise PartlySent(f"the value of {key!r} is {len(frame)} bytes long, and was {len(view)}")
            write_all(sock, [*ready, frame])
            ready = []
            del frame
        write_all(sock, ready)

    def _frames_again(self, key: Key) -> list[Any]:
        try:
            frames: list[Any] = close_value(self._value(key), self._serializers).frames
        except Exception as e:
            raise PartlySent(f"the value of {key!r} is gone: {e!r}") from e
        if len(frames) < self._counts[key]:
            raise PartlySent(f"the value of {key!r} has {len(frames)} frames, and had {self._counts[key]}")
        return frames
