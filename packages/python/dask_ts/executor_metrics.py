"""Figures of this process for the worker's heartbeats, measured off the event loop."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from typing import Any

from distributed.gc import enable_gc_diagnosis, gc_collect_duration

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
        # as Worker.start does: time of collecting is measured, and much of it is warned of
        enable_gc_diagnosis()
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
        out.update(self._spill_figures())
        out.update(gc_figures())
        return out

    def _spill_figures(self) -> dict[str, float]:
        """What only a ``SpillBuffer`` counts; nothing where spilling is off."""
        data = self._worker.store.data
        metrics = getattr(data, "cumulative_metrics", None)
        if metrics is None:
            return {}
        out: dict[str, float] = {"spill.enabled": 1, "spilled_count": len(getattr(data, "slow", ()))}
        # A copy: the threads of tasks add to it.
        for (label, unit), value in dict(metrics).items():
            out[f"spill.{unit}.{label}"] = value
        return out

    def _run(self) -> None:
        while True:
            try:
                self._send(self.measure())
            except Exception:
                logger.exception("Could not measure")
            self._wake.wait(INTERVAL)
            self._wake.clear()


def gc_figures() -> dict[str, float]:
    """The garbage collector's own counts, by generation."""
    out: dict[str, float] = {"gc.seconds": gc_collect_duration()}
    for generation, stats in enumerate(gc.get_stats()):
        for name, value in stats.items():
            out[f"gc.{name}.{generation}"] = value
    return out
