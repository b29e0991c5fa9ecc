"""Figures of this process for the worker's heartbeats, measured off the event loop."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from dask_ts.facade import Worker

logger = logging.getLogger("distributed.worker")

#: Seconds between two measurements.
INTERVAL = 0.5
#: A change of managed memory by this much is reported at once (bytes).
BIG_CHANGE = 64 * 2**20


class MetricsThread:
    """Sends ``metrics`` messages: flat, name to number. A task or a ``run`` that holds the event loop
    does not hold them up."""

    def __init__(self, worker: Worker, send: Callable[[dict[str, Any]], None]) -> None:
        self._worker = worker
        self._send = send
        self._wake = threading.Event()
        self._reported = 0
        self._thread = threading.Thread(target=self._run, name="dask-ts-metrics", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def changed(self) -> None:
        """Called after values came or went."""
        if abs(self._worker.store.managed_bytes - self._reported) > BIG_CHANGE:
            self._wake.set()

    def measure(self) -> dict[str, Any]:
        worker = self._worker
        worker.monitor.update()
        out = {k: v for k, v in worker.monitor.recent().items() if isinstance(v, (int, float))}
        memory, disk = worker.store.spilled_bytes()
        self._reported = managed = worker.store.managed_bytes
        out["managed_bytes"] = max(0, managed - memory)
        out["spilled_bytes.memory"] = memory
        out["spilled_bytes.disk"] = disk
        out["event_loop_interval"] = worker._tick_interval_observed
        return out

    def _run(self) -> None:
        while True:
            try:
                self._send(self.measure())
            except Exception:
                logger.exception("Could not measure")
            self._wake.wait(INTERVAL)
            self._wake.clear()
