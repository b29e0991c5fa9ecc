"""Log lines about user code that fails again and again."""

from __future__ import annotations

import logging
import time
import traceback

#: Seconds between two lines about failures of the same thing.
QUIET_SECONDS = 10.0

logger = logging.getLogger("distributed.scheduler")


class Failures:
    """One line, with the place, for the first failure; those that follow at once are counted."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], tuple[float, int]] = {}

    def tell(self, who: str, what: str, exc: BaseException) -> None:
        now = time.monotonic()
        last, more = self._told.get((who, what), (0.0, 0))
        if last and now - last < QUIET_SECONDS:
            self._told[who, what] = (last, more + 1)
            return
        self._told[who, what] = (now, 0)
        frames = traceback.extract_tb(exc.__traceback__)
        place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
        count = f"; {more} more since the last such line" if more else ""
        logger.error("%s failed in %s: %s: %s%s%s", who, what, type(exc).__name__, exc, place, count)
        logger.debug("The traceback:", exc_info=exc)
