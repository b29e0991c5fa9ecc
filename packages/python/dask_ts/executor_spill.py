"""Values in memory and, beyond a target, on disk: ``Worker.data``.

It stands where ``distributed.spill.SpillBuffer`` stands in a stock worker and has its attributes. A stock
worker reads and writes its data from one thread; here the threads of tasks, of transfers and of the memory
monitor do, and ``SpillBuffer`` loses keys then: two readers of one spilled key get a ``KeyError``. See
``docs/decisions/worker-memory.md``.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import threading
import traceback
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

from distributed.metrics import context_meter
from distributed.protocol import deserialize_bytes, serialize_bytelist
from distributed.protocol.compression import get_compression_settings
from distributed.sizeof import safe_sizeof
from distributed.spill import MaxSpillExceeded, PickleError, SpillBuffer, SpilledSize
from distributed.utils import nbytes

Key = Any

# its filters keep the two warnings below from filling the log
logger = logging.getLogger("distributed.spill")

CAPACITY_REACHED = "Spill file on disk reached capacity; keeping data in memory"
SPILL_FAILED = "Spill to disk failed; keeping data in memory"

#: Deleting larger files (bytes) takes milliseconds, which who drops a value does not wait for.
LARGE_FILE = 1_000_000


class Entry:
    """One value: in ``Buffer._memory``, or in ``Buffer._disk``."""

    __slots__ = ("cached", "disk", "key", "path", "reading", "value", "weight")

    def __init__(self, key: Key, value: Any, weight: int) -> None:
        self.key = key
        self.value = value
        #: What ``sizeof`` says, and bytes of the file.
        self.weight = weight
        self.disk = 0
        self.path = ""
        #: The value on disk as long as a task still has it.
        self.cached: weakref.ref | None = None
        #: Others that want the value wait for the one that reads it.
        self.reading: Future | None = None

    def forget_value(self) -> None:
        try:
            self.cached = weakref.ref(self.value)
        except TypeError:
            self.cached = None
        self.value = None


class Buffer(MutableMapping):
    """Keys by least recent use; what exceeds ``target`` goes to files, and comes back when it is read.

    Every method may be called from any thread. The lock is never held while a value is pickled, compressed,
    written or read.

    Parameters
    ----------
    directory:
        for the files; made if need be
    target:
        bytes in memory (``sizeof``) beyond which values go to disk
    max_spill:
        bytes of files beyond which they stay in memory all the same; False for no limit
    """

    def __init__(self, directory: str, target: float, max_spill: int | Literal[False] = False) -> None:
        self.directory = directory
        os.makedirs(directory, exist_ok=True)
        self.n = target
        self.max_spill = max_spill
        #: Why the disk took nothing when it was last tried.
        self.refused: OSError | None = None
        self._remover = ThreadPoolExecutor(1, thread_name_prefix="dask-ts-unlink")
        self._removed: Future = Future()
        self._removed.set_result(None)
        self._compression = get_compression_settings("distributed.worker.memory.spill-compression")
        self._numbers = itertools.count()
        # reentrant: the collector may run anybody's finalizer while it is held
        self._lock = threading.RLock()
        self._memory: dict[Key, Entry] = {}
        self._disk: dict[Key, Entry] = {}
        #: Of those in memory, what may go to disk: the least recently used first. Neither what is being
        #: written nor what cannot be pickled.
        self._order: OrderedDict[Key, Entry] = OrderedDict()
        self._weight = 0
        #: Bytes in memory that are on their way out, and of files that are being written.
        self._leaving = 0
        self._writing = 0
        self._spilled = SpilledSize(0, 0)
        self._metrics: defaultdict[tuple[str, str], float] = defaultdict(float)
        self._reads = [0, 0]
        self.fast = MemoryView(self)
        self.slow = DiskView(self)

    # as a mapping

    def __setitem__(self, key: Key, value: Any) -> None:
        self.put(key, value, safe_sizeof(value))

    def put(self, key: Key, value: Any, weight: int) -> None:
        """Holds a value whose ``sizeof`` is known.

        Raises
        ------
        PickleError
            where it must go to disk, being larger than the target, and cannot be pickled; it is not held
        """
        entry = Entry(key, value, weight)
        heavy = weight > self.n
        with self._lock:
            old = self._remove(key)
            self._memory[key] = entry
            self._weight += weight
            if heavy:
                self._leaving += weight
            else:
                self._order[key] = entry
        self._delete_file(old)
        if heavy:
            self._evict_heavy(entry)
        if self._weight - self._leaving > self.n:
            self.evict_until_below_target()

    def __getitem__(self, key: Key) -> Any:
        with self._lock:
            entry = self._memory.get(key)
            if entry is not None:
                if key in self._order:
                    self._order.move_to_end(key)
                value, weight = entry.value, entry.weight
                self._reads[0] += 1
                self._reads[1] += weight
        if entry is None:
            return self._restore(key)
        # for whatever reads it; the task, the transfer
        context_meter.digest_metric("memory-read", 1, "count")
        context_meter.digest_metric("memory-read", weight, "bytes")
        return value

    def __delitem__(self, key: Key) -> None:
        with self._lock:
            entry = self._remove(key)
        if entry is None:
            raise KeyError(key)
        self._delete_file(entry)

    def __contains__(self, key: object) -> bool:
        with self._lock:
            return key in self._memory or key in self._disk

    def __iter__(self) -> Iterator[Key]:
        with self._lock:
            keys = [*self._memory, *self._disk]
        return iter(keys)

    def __len__(self) -> int:
        with self._lock:
            return len(self._memory) + len(self._disk)

    def items(self) -> ItemsView:
        return BufferItems(self)

    def values(self) -> ValuesView:
        return BufferValues(self)

    def pop(self, key: Key, default: Any = None) -> Any:
        raise NotImplementedError(
            "Are you calling .pop(key, None) as a way to discard a key if it exists? "
            "It may cause data to be read back from disk! Please use `del` instead."
        )

    # as a SpillBuffer

    @property
    def memory(self) -> Mapping[Key, Any]:
        return self.fast

    @property
    def disk(self) -> Mapping[Key, Any]:
        return self.slow

    @property
    def spilled_total(self) -> SpilledSize:
        """Bytes on disk: as ``sizeof`` counted them, and of the files."""
        return self._spilled

    @property
    def cumulative_metrics(self) -> dict[tuple[str, str], float]:
        """(activity, unit) to what has added up since the start."""
        with self._lock:
            out = dict(self._metrics)
            if self._reads[0]:
                out["memory-read", "count"], out["memory-read", "bytes"] = self._reads
        return out

    def evict(self) -> int:
        """Moves the least recently used value to disk; its bytes.

        0 where it went away meanwhile, or where the others are on their way out already; -1 where there
        is nothing to move or the disk does not take it. Never raises (``distributed.spill.ManualEvictProto``).
        """
        while True:
            try:
                weight = self._evict()
            except PickleError:
                continue
            except (MaxSpillExceeded, OSError):
                return -1
            if weight is not None:
                return weight
            return 0 if self._leaving else -1

    def evict_until_below_target(self) -> None:
        """What cannot be pickled, or finds no place on disk, stays in memory."""
        while self._weight - self._leaving > self.n:
            try:
                if self._evict() is None:
                    return
            except PickleError:
                continue
            except (MaxSpillExceeded, OSError):
                return

    # moving

    def _remove(self, key: Key) -> Entry | None:
        """Forgets an entry; the caller holds the lock and deletes its file."""
        entry = self._memory.pop(key, None)
        if entry is not None:
            self._order.pop(key, None)
            self._weight -= entry.weight
            return entry
        entry = self._disk.pop(key, None)
        if entry is not None:
            self._spilled -= SpilledSize(entry.weight, entry.disk)
        return entry

    def _evict_heavy(self, entry: Entry) -> None:
        """A value over the target goes to disk before all others, which keep their place in memory."""
        try:
            self._move_out(entry)
        except PickleError:
            with self._lock:
                if self._memory.get(entry.key) is entry:
                    self._remove(entry.key)
            raise
        except (MaxSpillExceeded, OSError):
            # smaller ones may find place
            with self._lock:
                if self._memory.get(entry.key) is entry:
                    self._order[entry.key] = entry

    def _evict(self) -> int | None:
        """Moves one value to disk; None where there is none to try, else as ``_move_out``."""
        with self._lock:
            if not self._order:
                return None
            key, entry = self._order.popitem(last=False)
            self._leaving += entry.weight
        try:
            return self._move_out(entry)
        except PickleError:
            # it would fail again and keep the others from their turn
            raise
        except BaseException:
            with self._lock:
                if self._memory.get(key) is entry:
                    self._order[key] = entry
                    self._order.move_to_end(key, last=False)
            raise

    def _move_out(self, entry: Entry) -> int:
        """Writes a value that nobody else moves, and counts as leaving; its bytes, 0 where it was dropped
        meanwhile.

        Raises PickleError, MaxSpillExceeded and OSError, all logged; the value is in memory then.
        """
        # the value is freed with this frame, not under the lock
        key, weight, value = entry.key, entry.weight, entry.value
        try:
            path, size = self._write(entry)
        except BaseException as e:
            with self._lock:
                self._leaving -= weight
            self._log_refusal(e, weight)
            raise
        with self._lock:
            self._leaving -= weight
            self._writing -= size
            self.refused = None
            moved = self._memory.get(key) is entry
            if moved:
                del self._memory[key]
                self._weight -= weight
                entry.path, entry.disk = path, size
                entry.forget_value()
                self._disk[key] = entry
                self._spilled += SpilledSize(weight, size)
        del value
        if moved:
            return weight
        delete_file(path)
        return 0

    def _log_refusal(self, exc: BaseException, weight: int) -> None:
        """Without the traceback itself, whose frames would keep the value for as long as the log is kept."""
        if isinstance(exc, MaxSpillExceeded):
            logger.warning(CAPACITY_REACHED)
        elif isinstance(exc, OSError):
            self.refused = OSError(exc.errno, exc.strerror or str(exc))
            logger.error(f"{SPILL_FAILED}: %s", exc)
        elif isinstance(exc, PickleError) and weight <= self.n:
            # otherwise it is the error of its task
            text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
            logger.error("Failed to pickle %r\n%s", exc.key, text)

    def _write(self, entry: Entry) -> tuple[str, int]:
        """The file and its size, which counts as being written."""
        with self._metered():
            try:
                frames = serialize_bytelist(entry.value, compression=self._compression, on_error="raise")
            except Exception as e:
                raise PickleError(entry.key) from e
            size = sum(map(nbytes, frames))
            with self._lock:
                if self.max_spill is not False and self._spilled.disk + self._writing + size > self.max_spill:
                    raise MaxSpillExceeded(entry.key)
                self._writing += size
            path = os.path.join(self.directory, str(next(self._numbers)))
            try:
                with context_meter.meter("disk-write", "seconds"):
                    self._write_file(path, frames)
            except BaseException:
                with self._lock:
                    self._writing -= size
                raise
            context_meter.digest_metric("disk-write", 1, "count")
            context_meter.digest_metric("disk-write", size, "bytes")
        return path, size

    def _write_file(self, path: str, frames: list[Any]) -> None:
        while True:
            removed = self._removed
            room_to_come = not removed.done()
            try:
                with open(path, "wb") as file:
                    file.writelines(frames)
                return
            except BaseException as e:
                # half a file would fill the disk further
                delete_file(path)
                if not (isinstance(e, OSError) and room_to_come):
                    raise
            removed.result()

    def _delete_file(self, entry: Entry | None) -> None:
        if entry is None or not entry.path:
            return
        if entry.disk <= LARGE_FILE:
            delete_file(entry.path)
        else:
            self._removed = self._remover.submit(delete_file, entry.path)

    def _restore(self, key: Key) -> Any:
        """A value that was on disk a moment ago."""
        mine: Future = Future()
        with self._lock:
            entry = self._memory.get(key)
            if entry is not None:
                return entry.value
            entry = self._disk[key]
            value = entry.cached() if entry.cached is not None else None
            reading = entry.reading
            if value is not None:
                back = self._bring_back(entry, value)
            elif reading is None:
                entry.reading = mine
        if value is not None:
            self._brought_back(back)
            return value
        if reading is not None:
            return reading.result()
        try:
            value = self._read(entry)
        except BaseException as e:
            with self._lock:
                entry.reading = None
                lost = self._disk.get(key) is not entry
            # dropped before its file was opened
            error = KeyError(key) if lost and isinstance(e, FileNotFoundError) else e
            mine.set_exception(error)
            raise error from (None if error is e else e)
        with self._lock:
            entry.reading = None
            back = self._bring_back(entry, value)
        mine.set_result(value)
        self._brought_back(back)
        return value

    def _bring_back(self, entry: Entry, value: Any) -> Entry | None:
        """Into memory, unless it is over the target; the caller holds the lock. What left the disk."""
        key = entry.key
        if self._disk.get(key) is not entry:
            return None
        if entry.weight > self.n:
            entry.value = value
            entry.forget_value()
            return None
        self._remove(key)
        self._memory[key] = self._order[key] = Entry(key, value, entry.weight)
        self._weight += entry.weight
        return entry

    def _brought_back(self, entry: Entry | None) -> None:
        if entry is not None:
            self._delete_file(entry)
            self.evict_until_below_target()

    def _read(self, entry: Entry) -> Any:
        with self._metered():
            with context_meter.meter("disk-read", "seconds"), open(entry.path, "rb") as file:
                # writable, so that arrays need no copy to be writable
                data = bytearray(entry.disk)
                size = file.readinto(data)
            if size != entry.disk:
                raise OSError(f"{entry.path} holds {size} of the {entry.disk} bytes of {entry.key!r}")
            context_meter.digest_metric("disk-read", 1, "count")
            context_meter.digest_metric("disk-read", size, "bytes")
            return deserialize_bytes(data)

    def peek(self, key: Key) -> Any:
        """A value, without moving it."""
        with self._lock:
            entry = self._memory.get(key)
            if entry is not None:
                return entry.value
            entry = self._disk[key]
            value = entry.cached() if entry.cached is not None else None
        return self._read(entry) if value is None else value

    def _metered(self) -> contextlib.AbstractContextManager[None]:
        return context_meter.add_callback(self._count)

    def _count(self, label: Any, value: float, unit: str) -> None:
        with self._lock:
            self._metrics[str(label), unit] += value


# isinstance() holds for programs that look for it
SpillBuffer.register(Buffer)


def delete_file(path: str) -> None:
    with contextlib.suppress(OSError):
        os.remove(path)


class PartView(Mapping):
    """``Buffer.fast`` or ``Buffer.slow``: looking moves nothing."""

    def __init__(self, buffer: Buffer) -> None:
        # weak: a circle would keep values until the next collection
        self._buffer = weakref.proxy(buffer)

    @property
    def _entries(self) -> dict[Key, Entry]:
        raise NotImplementedError

    def __getitem__(self, key: Key) -> Any:
        if key not in self._entries:
            raise KeyError(key)
        return self._buffer.peek(key)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[Key]:
        with self._buffer._lock:
            return iter(list(self._entries))

    def __len__(self) -> int:
        return len(self._entries)


class MemoryView(PartView):
    """As ``zict.LRU``."""

    @property
    def _entries(self) -> dict[Key, Entry]:
        return self._buffer._memory

    @property
    def n(self) -> float:
        return self._buffer.n

    @property
    def total_weight(self) -> int:
        return self._buffer._weight

    @property
    def weights(self) -> dict[Key, int]:
        with self._buffer._lock:
            return {key: entry.weight for key, entry in self._entries.items()}


class DiskView(PartView):
    """As ``distributed.spill.Slow``."""

    @property
    def _entries(self) -> dict[Key, Entry]:
        return self._buffer._disk

    @property
    def max_weight(self) -> int | Literal[False]:
        return self._buffer.max_spill

    @property
    def total_weight(self) -> SpilledSize:
        return self._buffer.spilled_total

    @property
    def weight_by_key(self) -> dict[Key, SpilledSize]:
        with self._buffer._lock:
            return {key: SpilledSize(entry.weight, entry.disk) for key, entry in self._entries.items()}


class BufferItems(ItemsView):
    _mapping: Buffer

    def __iter__(self) -> Iterator[tuple[Key, Any]]:
        return ((key, self._mapping.peek(key)) for key in self._mapping)


class BufferValues(ValuesView):
    _mapping: Buffer

    def __iter__(self) -> Iterator[Any]:
        return (self._mapping.peek(key) for key in self._mapping)
