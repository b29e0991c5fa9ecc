"""What a task's own code meters with ``distributed.metrics.context_meter``, and the CPU time of its thread.

A task runs in a context in which a callback of ``context_meter`` is installed, and in which ``CURRENT``
is its meter. The callback comes with copying a context, so that a task that meters nothing pays for
one variable.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from distributed.metrics import context_meter

#: Different metrics of one task. A label made anew each time would fill the memory.
MAX_METRICS = 1000

#: What travels in digests as it is.
PLAIN = (str, int, float, bool, type(None))


class Meter:
    """Sums of one task."""

    __slots__ = ("metrics", "seconds")

    def __init__(self) -> None:
        #: (label, unit) to sum.
        self.metrics: dict[tuple[Any, str], float] | None = None
        #: Seconds among them since the task's function was called.
        self.seconds = 0.0

    def add(self, label: Any, value: float, unit: str) -> None:
        metrics = self.metrics
        if metrics is None:
            metrics = self.metrics = {}
        name = (plain_name(label), str(unit))
        if name in metrics:
            metrics[name] += value
        elif len(metrics) < MAX_METRICS:
            metrics[name] = value
        if unit == "seconds":
            self.seconds += value

    def row(self, wall: float, cpu: float | None) -> list[Any]:
        """``[thread-cpu, thread-noncpu, label, value, unit, …]`` of a task that has ended.

        The two times are without what the task metered itself; ``cpu`` is None where its thread is
        not known.
        """
        if cpu is not None:
            cpu = max(0.0, cpu - self.seconds)
        row: list[Any] = [cpu, max(0.0, wall - (cpu or 0.0) - self.seconds)]
        if self.metrics:
            for (label, unit), value in list(self.metrics.items()):
                row += (label, value, unit)
        return row


#: The meter of the task whose code runs in this context.
CURRENT: contextvars.ContextVar[Meter] = contextvars.ContextVar("dask_ts_meter")


#: Context managers that were entered for good; what is not referred to would be exited.
_ENTERED: list[Any] = []


def metered_context(*setters: Callable[[], Any]) -> contextvars.Context:
    """A context to copy for tasks; ``setters`` are called in it."""
    context = contextvars.copy_context()
    callback = context_meter.add_callback(_record, key="dask-ts-task")
    context.run(callback.__enter__)
    _ENTERED.append(callback)
    for setter in setters:
        context.run(setter)
    return context


def _record(label: Any, value: float, unit: str) -> None:
    """Called from the task's thread, or from threads that it handed its context to."""
    meter = CURRENT.get(None)
    if meter is not None:
        meter.add(label, value, unit)


def plain_name(label: Any) -> Any:
    """A label that can travel: texts, numbers and tuples of them; of anything else its text."""
    if isinstance(label, tuple):
        return tuple(plain_name(part) for part in label)
    return label if isinstance(label, PLAIN) else str(label)
