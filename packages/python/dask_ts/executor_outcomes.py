"""Outcomes on their way to the worker: many to a message, none held back while a thread works."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

Outcome = list[Any]

#: Kinds of outcomes; the first element of each.
SUCCESS, FAILURE, RESCHEDULE = 0, 1, 2

#: Seconds that an outcome may wait for company.
LINGER = 0.001
#: Outcomes in one message.
LARGEST_BATCH = 1000


class OutcomeQueue:
    """Collects outcomes from all threads.

    The thread that finishes a task and has nothing else to do writes what is there. While more tasks
    are queued, writing is left to a thread that wakes a millisecond later, so that tiny tasks share a
    message and a long task after a short one does not delay the short one's outcome.
    """

    def __init__(self, send: Callable[[list[Outcome]], None]) -> None:
        self._send = send
        self._pending: deque[Outcome] = deque()
        self._sending = threading.Lock()
        self._lingering = False
        self._wake = threading.Event()
        threading.Thread(target=self._linger, name="dask-ts-outcomes", daemon=True).start()

    def add(self, outcome: Outcome, more_to_come: bool) -> None:
        self._pending.append(outcome)
        if not more_to_come:
            self.flush()
        elif not self._lingering:
            self._lingering = True
            self._wake.set()

    def flush(self) -> None:
        """Writes what is pending, or leaves it to the thread that is writing right now."""
        pending = self._pending
        while pending and self._sending.acquire(blocking=False):
            try:
                batch: list[Outcome] = []
                while pending and len(batch) < LARGEST_BATCH:
                    batch.append(pending.popleft())
                if batch:
                    self._send(batch)
            finally:
                self._sending.release()

    def _linger(self) -> None:
        pause = threading.Event()
        while True:
            self._wake.wait()
            self._wake.clear()
            pause.wait(LINGER)
            # before the flush: an outcome added from here on wakes this thread again
            self._lingering = False
            self.flush()
