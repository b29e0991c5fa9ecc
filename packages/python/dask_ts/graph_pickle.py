"""One pickle per task, at the price of one pickle per function.

A run_spec must open by itself with ``pickle.loads`` on any worker. What the C pickler can write by
reference goes through it. A function or class that has to travel by value (``__main__``, notebooks,
lambdas, closures, modules registered by value) costs cloudpickle 340-500 us each time it is
written; here its bytes are made once per graph and embedded in every task that uses it as
``pickle.loads(<bytes>)``.
"""

from __future__ import annotations

import copyreg
import io
import operator
import pickle
import struct
from types import FunctionType
from typing import Any

import cloudpickle
from cloudpickle.cloudpickle import _should_pickle_by_reference
from dask._task_spec import Task
from distributed.protocol import pickle as distributed_pickle

PROTOCOL = 5
#: Buffers from this size on stay out of band. Several tasks that hold the same one share it.
LARGE_BUFFER = 64 * 1024
#: A pickler's memo never shrinks, and emptying it costs its whole size each time: one that wrote a
#: task of thousands of arguments is not used for the next task.
LARGE_PICKLE = 4 * 1024

# msgpack of {"pickled-obj": <bin>, "compression": [nil] * n, "num-sub-frames": n}
_HEAD = b"\x83\xabpickled-obj"
_TAIL = b"\xabcompression\x90\xaenum-sub-frames\x00"
_HEAD8 = _HEAD + b"\xc4"
_HEAD16 = _HEAD + b"\xc5"
_HEAD32 = _HEAD + b"\xc6"
_U16 = struct.Struct(">H").pack
_U32 = struct.Struct(">I").pack


def pickled_header(data: bytes, buffers: int) -> bytes:
    """The sub-header that ``ToPickle`` would have on the wire (wire-protocol 5.3)."""
    n = len(data)
    if n < 0x100:
        head = b"%b%c" % (_HEAD8, n)
    elif n < 0x10000:
        head = _HEAD16 + _U16(n)
    else:
        head = _HEAD32 + _U32(n)
    if buffers == 0:
        return b"%b%b%b" % (head, data, _TAIL)
    count = bytes([buffers]) if buffers < 0x80 else b"\xce" + _U32(buffers)
    nils = (bytes([0x90 | buffers]) if buffers < 16 else b"\xdd" + _U32(buffers)) + b"\xc0" * buffers
    return b"%b%b\xabcompression%b\xaenum-sub-frames%b" % (head, data, nils, count)


_task_state = operator.attrgetter(*Task.get_all_slots())
_newobj = copyreg.__newobj__  # type: ignore[attr-defined]


def _reduce_task(task: Task) -> tuple:
    """``Task.__reduce_ex__`` without its walk over the slots in Python: the same bytes, sooner."""
    return _newobj, (Task,), _task_state(task)


class _Together:
    """The by-value objects of one task that has several: one stream, so that they share globals."""

    __slots__ = ("blob", "members")

    def __init__(self, members: list[Any]) -> None:
        self.members = members
        self.blob = _embedded(cloudpickle.dumps(tuple(members), protocol=PROTOCOL))


def _embedded(blob: bytes) -> Any:
    """A blob as the argument of ``pickle.loads``; a large one leaves the stream and is shared."""
    return pickle.PickleBuffer(blob) if len(blob) >= LARGE_BUFFER else blob


class _EmbeddingPickler(cloudpickle.Pickler):
    """Writes by-value functions and classes as calls that load their own stream."""

    def __init__(self, file: io.BytesIO, owner: RunSpecPickler) -> None:
        super().__init__(file, protocol=PROTOCOL, buffer_callback=owner.take_buffer)
        self.dispatch_table = {**cloudpickle.Pickler.dispatch_table, Task: _reduce_task}
        self._owner = owner
        #: by-value objects of this task, in the order in which they were met
        self.met: list[Any] = []
        self.together: _Together | None = None

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is FunctionType or issubclass(kind, type):
            if not self._owner.is_by_value(obj):
                return NotImplemented
            together = self.together
            if together is not None:
                for i, member in enumerate(together.members):
                    if member is obj:
                        return operator.getitem, (together, i)
            self.met.append(obj)
            return pickle.loads, (self._owner.blob_of(obj),)
        if kind is _Together:
            return pickle.loads, (obj.blob,)
        return NotImplemented


class RunSpecPickler:
    """Pickles the tasks of one graph. Not thread-safe; its caches die with it."""

    def __init__(self) -> None:
        #: id -> (object, by value); the object is kept, so that its id stays its own
        self._decided: dict[int, tuple[Any, bool]] = {}
        self._blobs: dict[int, Any] = {}
        self._groups: dict[tuple[int, ...], _Together] = {}
        self._taken: list[Any] = []
        self._dispatch_table = {**copyreg.dispatch_table, Task: _reduce_task}
        self._renew_plain()
        self._file = io.BytesIO()
        self._embedding: _EmbeddingPickler | None = None

    def _renew_plain(self) -> None:
        self._plain_file = io.BytesIO()
        self._plain = pickle.Pickler(self._plain_file, PROTOCOL, buffer_callback=self.take_buffer)
        self._plain.dispatch_table = self._dispatch_table

    def is_by_value(self, obj: Any) -> bool:
        """True where cloudpickle would write the function or class itself, not its name."""
        known = self._decided.get(id(obj))
        if known is not None:
            return known[1]
        by_value = not _is_by_reference(obj)
        self._decided[id(obj)] = (obj, by_value)
        return by_value

    def blob_of(self, obj: Any) -> Any:
        blob = self._blobs.get(id(obj))
        if blob is None:
            blob = _embedded(cloudpickle.dumps(obj, protocol=PROTOCOL))
            self._blobs[id(obj)] = blob
        return blob

    def take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """``buffer_callback``: True leaves a buffer in the stream, as the C pickler wants it."""
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if view.nbytes < LARGE_BUFFER:
            return True
        self._taken.append(view)
        return False

    def dumps(self, node: Any) -> tuple[bytes, list[memoryview]]:
        """The pickle of a task and its out-of-band buffers.

        It means the same as ``distributed.protocol.pickle.dumps``: plain pickle, and where that
        fails or names ``__main__``, cloudpickle. Raises what cloudpickle raises.
        """
        self._taken = []
        known = self._decided.get(id(getattr(node, "func", None)))
        if known is None or not known[1]:
            try:
                file = self._plain_file
                file.seek(0)
                file.truncate()
                self._plain.clear_memo()
                self._plain.dump(node)
                data = file.getvalue()
                if len(data) > LARGE_PICKLE:
                    self._renew_plain()
                if b"__main__" not in data:
                    return data, self._taken
            except Exception:
                pass
        # what a failed attempt took is not this one's
        self._taken = []
        try:
            data = self._dumps_embedding(node)
            return data, self._taken
        except Exception:
            # h5py and the like need distributed's own reducers
            self._embedding = None
            self._taken = []
            data = distributed_pickle.dumps(node, buffer_callback=self._take_any)
            return data, self._taken

    def _take_any(self, buffer: pickle.PickleBuffer) -> None:
        self._taken.append(buffer.raw())

    def _dumps_embedding(self, node: Any) -> bytes:
        pickler = self._embedding
        if pickler is None:
            self._file = io.BytesIO()
            pickler = self._embedding = _EmbeddingPickler(self._file, self)
        data = self._run(pickler, node)
        if len(pickler.met) < 2:
            return data
        key = tuple(map(id, pickler.met))
        together = self._groups.get(key)
        if together is None:
            together = self._groups[key] = _Together(list(pickler.met))
        self._taken = []
        pickler.together = together
        try:
            return self._run(pickler, node)
        finally:
            pickler.together = None

    def _run(self, pickler: _EmbeddingPickler, node: Any) -> bytes:
        pickler.met = []
        pickler.clear_memo()
        file = self._file
        file.seek(0)
        file.truncate()
        pickler.dump(node)
        data = file.getvalue()
        if len(data) > LARGE_PICKLE and self._embedding is pickler and len(pickler.met) < 2:
            self._embedding = None
        return data


def _is_by_reference(obj: Any) -> bool:
    if getattr(obj, "__module__", None) == "builtins" and isinstance(obj, type):
        # NoneType and friends: pickle knows them all, though not by their names
        return True
    try:
        return _should_pickle_by_reference(obj)
    except Exception:
        return False
