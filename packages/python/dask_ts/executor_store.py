"""The values that this worker holds: put in, serialized out, forgotten.

The mapping is the one that ``executor_spill_monitor.worker_data`` chose (a ``Buffer`` that spills, or a
dict); sizes and types are kept beside it, so that nothing has to be read back from disk to be described.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterable, MutableMapping
from typing import Any

from dask.utils import typename
from distributed.core import error_message
from distributed.protocol import pickle
from distributed.protocol.compression import decompress
from distributed.protocol.serialize import (
    Pickled,
    Serialize,
    Serialized,
    ToPickle,
    merge_and_deserialize,
    serialize_and_split,
)
from distributed.sizeof import safe_sizeof
from distributed.utils import nbytes
from distributed.worker import dumps_function

from dask_ts.executor_spill import Buffer

Key = Any

logger = logging.getLogger("distributed.worker")

#: A stock worker unpickles in the one thread of its loop, so that what unpickling imports is imported by one thread at
#: a time: a package whose import is under way has modules that others can see, and dispatch tables that are not full.
_opening = threading.RLock()
#: Larger values are opened beside others, as stock does (``distributed.comm.utils.OFFLOAD_THRESHOLD``).
_OPENED_ALONE = 10_000_000


def open_value(value: Any) -> Any:
    """A value of a message with every closed sub-message in it opened, as a stock worker reads it."""
    if isinstance(value, Serialized):
        frames = value.frames
        if "compression" in value.header:
            frames = decompress(value.header, frames)
        if sum(map(nbytes, frames)) > _OPENED_ALONE:
            return merge_and_deserialize(value.header, frames)
        with _opening:
            return merge_and_deserialize(value.header, frames)
    if isinstance(value, Pickled):
        frames = value.frames
        if "compression" in value.header:
            frames = decompress(value.header, frames)
        with _opening:
            return pickle.loads(value.header["pickled-obj"], buffers=frames)
    if isinstance(value, dict):
        return {k: open_value(v) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple([open_value(v) for v in value])
    if isinstance(value, list):
        return [open_value(v) for v in value]
    return value


def close_value(value: Any, serializers: Collection[str] | None = None) -> Serialized:
    """A value as ``to_serialize(value)`` puts it into a message; what cannot be serialized
    becomes the ``error`` family, which raises at the reader."""
    header, frames = serialize_and_split(Serialize(value), serializers=serializers, on_error="message")
    header["compression"] = list(header.get("compression", [None] * len(frames)))
    return Serialized(header, frames)


#: Longer texts and byte strings travel as frames of their own, which no process on the way has to copy.
_PLAIN_LENGTH = 512
_PLAIN_ITEMS = 32


#: What comes with its task's outcome, and stays in the worker process.
_TINY_LENGTH = 64
_TINY_ITEMS = 4


def is_tiny(value: Any) -> bool:
    """Whether a value is so small that the worker process holds it too."""
    return travels_plain(value, 1, _TINY_LENGTH, _TINY_ITEMS)


def travels_plain(value: Any, depth: int = 3, length: int = _PLAIN_LENGTH, items: int = _PLAIN_ITEMS) -> bool:
    """Whether a value is small and comes out of msgpack exactly as it went in, so that it needs no serializer.

    Every reader takes it, as messages hold such values anyway: it costs a reader a tenth of a serialized one.
    """
    kind = type(value)
    if kind is int:
        return -0x8000_0000_0000_0000 <= value <= 0xFFFF_FFFF_FFFF_FFFF
    if kind is float or kind is bool or value is None:
        return True
    if kind is str:
        return len(value) <= length and (value.isascii() or _is_utf8(value))
    if kind is bytes:
        return len(value) <= length
    if kind is tuple:
        if depth == 0 or len(value) > items:
            return False
        return all(travels_plain(item, depth - 1, length, items) for item in value)
    return False


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def close_leaves(value: Any, serializers: Collection[str] | None) -> Any:
    """A reply in which each ``Serialize`` is closed with the families that its reader allows."""
    if isinstance(value, Serialize):
        return close_value(value.data, serializers)
    if type(value) is dict:
        return {k: close_leaves(v, serializers) for k, v in value.items()}
    if type(value) in (list, tuple):
        return [close_leaves(v, serializers) for v in value]
    return value


_PLAIN = (str, int, float, bool, type(None), bytes, bytearray, Serialize, Serialized, ToPickle)


def pickle_leaves(value: Any) -> Any:
    """Wraps what msgpack does not know in ``ToPickle``: the fallback of ``protocol.core.dumps``."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {k: pickle_leaves(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return [pickle_leaves(v) for v in value]
    return ToPickle(value)


class TypeCache:
    """The pickle and the name of a type, as ``task-finished`` carries them."""

    def __init__(self, limit: int = 1000) -> None:
        self._known: dict[type, tuple[bytes, str]] = {}
        self._limit = limit

    def describe(self, cls: type) -> tuple[bytes, str]:
        try:
            return self._known[cls]
        except (KeyError, TypeError):
            pass
        try:
            dumped = dumps_function(cls)
        except Exception:
            # Some types fail pickling (example: _thread.lock objects), send their name instead
            dumped = pickle.dumps(cls.__name__)
        found = dumped, typename(cls)
        if len(self._known) >= self._limit:
            self._known.clear()
        with contextlib.suppress(TypeError):
            self._known[cls] = found
        return found


class Store:
    """Values by key. Every method may be called from any thread.

    Parameters
    ----------
    data:
        the mapping that holds the values
    actors:
        ``WorkerState.actors``: actor instances by key; they never spill and never travel
    """

    def __init__(self, data: MutableMapping[Key, Any], actors: dict[Key, Any]) -> None:
        self.data = data
        self.actors = actors
        self.nbytes: dict[Key, int] = {}
        self.managed_bytes = 0
        #: Called with key and size of a new result; raises where there is no place for it.
        self.check_room: Callable[[Key, int], None] | None = None
        self._buffer = data if isinstance(data, Buffer) else None
        self._lock = threading.Lock()
        self._types = TypeCache()

    def add(self, key: Key, value: Any, actor: bool = False) -> tuple[int, bytes, str]:
        """Holds a value; its size, pickled type and type name.

        Raises what the mapping raises: a value over the spill target that cannot be pickled; and OSError
        where the disk is full and the memory too. The value is not held then.
        """
        described = self._hold(key, value, actor)
        if self.check_room is not None and not actor:
            try:
                self.check_room(key, described[0])
            except BaseException:
                self.drop([key])
                raise
        return described

    def _hold(self, key: Key, value: Any, actor: bool = False) -> tuple[int, bytes, str]:
        nbytes = safe_sizeof(value)
        if actor:
            self.actors[key] = value
        elif self._buffer is not None:
            self._buffer.put(key, value, nbytes)
        else:
            self.data[key] = value
        with self._lock:
            self.managed_bytes += nbytes - self.nbytes.get(key, 0)
            self.nbytes[key] = nbytes
        dumped, name = self._types.describe(type(value))
        return nbytes, dumped, name

    def drop(self, keys: Iterable[Key]) -> None:
        """Forgets values and actors; unknown keys are ignored."""
        for key in keys:
            with self._lock:
                self.managed_bytes -= self.nbytes.pop(key, 0)
            self.actors.pop(key, None)
            try:
                # not pop(): a SpillBuffer refuses it, since it could read from disk
                del self.data[key]
            except KeyError:
                pass

    def put(self, entries: Iterable[tuple[Key, Any]]) -> list[Any]:
        """Opens and holds values; for each ``(nbytes, type, typename)``, or its error message.

        What others need here is held even where it goes beyond the limits, as a stock worker does.
        """
        out: list[Any] = []
        for key, closed in entries:
            try:
                out.append(self._hold(key, open_value(closed)))
            except Exception as e:
                logger.error("Could not open the value of %r", key, exc_info=True)
                out.append(error_message(e))
        return out

    def spilled_bytes(self) -> tuple[int, int]:
        """Bytes on disk: as ``sizeof`` counts them in memory, and as they are in the files."""
        total = getattr(self.data, "spilled_total", None)
        if total is None:
            return 0, 0
        memory, disk = total
        return memory, disk
