"""Who is at work in the plugin host: for the log, and for the parent when this process dies."""

from __future__ import annotations

import logging
import mmap
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: The parent reads this much of the file that ``DASK_TS_MARK`` names; see plugin-host/mark.ts.
MARK_BYTES = 512
#: Seconds that user code may hold the loop before a line says so.
SLOW_SECONDS = 3.0
POLL_SECONDS = 0.5

logger = logging.getLogger("distributed.scheduler")


class Mark:
    """What the loop is doing, in memory that the parent can read after this process was killed."""

    def __init__(self, path: str | None) -> None:
        self._map: mmap.mmap | None = None
        self.current: tuple[str, str, float] | None = None
        if path is not None:
            with open(path, "r+b") as f:
                self._map = mmap.mmap(f.fileno(), MARK_BYTES)

    @contextmanager
    def at(self, who: str, what: str) -> Iterator[None]:
        """Marks ``who`` (``plugin NAME`` or ``function NAME``) as being at work on ``what``."""
        before = self.current
        self._write(who, what)
        self.current = (who, what, time.monotonic())
        try:
            yield
        finally:
            self.current = before
            if before is None:
                self._clear()
            else:
                self._write(before[0], before[1])

    def _write(self, who: str, what: str) -> None:
        if self._map is not None:
            text = f"{who}\n{what}".encode(errors="replace")[: MARK_BYTES - 1]
            self._map[: len(text) + 1] = text + b"\0"

    def _clear(self) -> None:
        if self._map is not None:
            self._map[0] = 0

    def watch(self) -> None:
        """Starts the thread that tells of user code that blocks the loop; one line for each time."""
        threading.Thread(target=self._watch, name="dask-ts-watch", daemon=True).start()

    def _watch(self) -> None:
        told = None
        while True:
            time.sleep(POLL_SECONDS)
            current = self.current
            if current is None or current is told:
                continue
            who, what, since = current
            if time.monotonic() - since < SLOW_SECONDS:
                continue
            told = current
            logger.warning(
                "%s has been in %s for %.0f s; scheduling goes on, what follows in the plugin host waits",
                who,
                what,
                SLOW_SECONDS,
            )


def mark_from_environment() -> Mark:
    return Mark(os.environ.pop("DASK_TS_MARK", None))
