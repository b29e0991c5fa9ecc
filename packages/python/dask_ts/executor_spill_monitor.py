"""Watches the memory of this process and moves values to disk in time
(``distributed.worker_memory.WorkerMemoryManager.memory_monitor``).

A thread of its own, so that neither a task nor a ``run`` that holds the event loop holds up the spilling, nor
the spilling them. Pausing and terminating are the worker process's: they need nothing of this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import threading
from collections.abc import Callable, Hashable, MutableMapping
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import dask
from dask.utils import format_bytes, parse_bytes
from distributed.metrics import context_meter
from distributed.worker_memory import parse_memory_limit

from dask_ts.executor_spill import Buffer

if TYPE_CHECKING:
    from dask_ts.facade import Worker

Key = Any

# where a stock worker logs it; its filter keeps the warning of unmanaged memory rare
logger = logging.getLogger("distributed.worker.memory")

#: A result of more than this fraction of the limit is made room for before its thread goes on.
LARGE_RESULT = 0.01
#: Seconds between two tries to give freed memory back to the system.
TRIM_INTERVAL = 1.0
#: What the worker process is told of, at the start and where somebody changes it (in a plugin, say).
SETTINGS = ("memory_limit", "memory_pause_fraction")


def worker_data(worker_local_directory: str, memory_limit: Any, nthreads: int) -> MutableMapping[Key, Any]:
    """``Worker.data`` as ``WorkerMemoryManager`` would choose it: spilling unless it is off."""
    limit = parse_memory_limit(memory_limit, nthreads, logger=logger)
    target = dask.config.get("distributed.worker.memory.target")
    spill = dask.config.get("distributed.worker.memory.spill")
    if not limit or not (target or spill):
        return {}
    max_spill = dask.config.get("distributed.worker.memory.max-spill")
    return Buffer(
        os.path.join(worker_local_directory, "storage"),
        target=int(limit * target) if target else float("inf"),
        max_spill=False if max_spill is False else parse_bytes(max_spill),
    )


class SpillMonitor:
    """Parameters
    ----------
    worker:
        ``memory_manager`` and ``monitor`` of it are looked at anew each time
    tell:
        called with a dict of ``SETTINGS``, first of all and when one of them was changed
    """

    def __init__(self, worker: Worker, tell: Callable[[dict[str, Any]], None]) -> None:
        self._worker = worker
        self._manager = worker.memory_manager
        self._tell = tell
        self._told: dict[str, Any] = {}
        self._trimmed = -TRIM_INTERVAL
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="dask-ts-memory", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._manager.memory_monitor_interval):
            try:
                self.check()
            except Exception:
                logger.exception("The memory could not be checked")

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self._manager, name) for name in SETTINGS}

    def check(self) -> None:
        """One look."""
        settings = self._settings()
        if settings != self._told:
            self._told = settings
            self._tell(settings)
        manager = self._manager
        limit = manager.memory_limit
        if not limit:
            return
        memory = self._memory()
        pause, spill = manager.memory_pause_fraction, manager.memory_spill_fraction
        if pause is not False and memory > pause * limit:
            memory = self._collect()
        if spill is not False and memory > spill * limit:
            self._meter_spill(memory, limit)

    def _memory(self) -> int:
        # by way of the monitor, which programs and tests put their own figure into
        return self._worker.monitor.get_process_memory()

    def _collect(self) -> int:
        """Frees what can be freed without spilling; the memory after that."""
        self._manager._throttled_gc.collect()
        now = monotonic()
        if now - self._trimmed >= TRIM_INTERVAL:
            self._trimmed = now
            trim()
        return self._memory()

    def _meter_spill(self, memory: int, limit: int) -> None:
        """As fine performance metrics: ``("memory-monitor", activity, unit)``."""

        def digest(label: Hashable, value: float, unit: str) -> None:
            labels = label if isinstance(label, tuple) else (label,)
            self._worker.digest_metric(("memory-monitor", *labels, unit), value)

        with context_meter.clear_callbacks(), context_meter.add_callback(digest):
            self._spill(memory, limit)

    def _spill(self, memory: int, limit: int) -> None:
        """From above ``spill`` down to ``target``, in least recently used order (``WorkerMemoryManager._spill``)."""
        manager = self._manager
        data: Any = manager.data
        # a mapping of the user's may have neither
        if not hasattr(data, "fast") or not hasattr(data, "evict"):
            return
        target = limit * (manager.memory_target_fraction or manager.memory_spill_fraction)
        need = memory - target
        moved = count = 0
        while memory > target and not self._stopped.is_set():
            if not data.fast:
                logger.warning(
                    "Unmanaged memory use is high. This may indicate a memory leak "
                    "or the memory may not be released to the OS; see "
                    "https://distributed.dask.org/en/latest/worker-memory.html#memory-not-released-back-to-the-os "
                    "for more information. "
                    "-- Unmanaged memory: %s -- Worker memory limit: %s",
                    format_bytes(memory),
                    format_bytes(limit),
                )
                break
            weight = data.evict()
            if weight == -1:
                break
            if weight == 0:
                # others move what there is
                sleep(0.01)
            moved += weight
            count += weight > 0
            memory = self._memory()
            if moved > need and memory > target:
                # before more goes than must: what went may not be freed yet
                memory = self._collect()
        if count:
            logger.debug("Moved %d tasks worth %s to disk", count, format_bytes(moved))

    def _make_room(self, limit: int) -> None:
        """Spills in the thread of a task: with results that are large beside the limit, a look now and then comes
        when the threads have brought in several more, and the process is ended for them."""
        spill = self._manager.memory_spill_fraction
        if spill is False:
            return
        memory = self._memory()
        if memory > spill * limit:
            self._meter_spill(memory, limit)

    def check_room(self, key: Key, nbytes: int) -> None:
        """Called when a task's result has come into memory.

        Raises
        ------
        OSError
            where the disk refuses to take anything and the memory is used beyond ``spill``. Holding the result
            all the same would end in a paused worker that never goes on, or in the loss of all results.
        """
        data = self._manager.data
        if not isinstance(data, Buffer):
            return
        limit = self._manager.memory_limit
        if data.refused is None:
            if limit and nbytes > LARGE_RESULT * limit:
                self._make_room(limit)
            return
        fraction = self._manager.memory_spill_fraction or self._manager.memory_pause_fraction
        if not limit or not fraction or self._memory() <= fraction * limit:
            return
        # there may be room again, on disk or in memory
        if data.evict() >= 0:
            return
        memory, error = self._collect(), data.refused
        if error is None or memory <= fraction * limit:
            return
        raise OSError(
            error.errno,
            f"{error.strerror or error}: the result of {key!r} ({format_bytes(nbytes)}) has no place in memory "
            f"({format_bytes(memory)} of {format_bytes(limit)} in use) and cannot be spilled to disk",
            data.directory,
        )


def _find_trim() -> Callable[[int], int] | None:
    with contextlib.suppress(OSError, AttributeError, TypeError):
        return ctypes.CDLL(None).malloc_trim
    return None


_malloc_trim = _find_trim()


def trim() -> None:
    """Gives freed memory back to the system, where the C library can (glibc)."""
    if _malloc_trim is not None:
        _malloc_trim(0)
