"""Log records of the children of the scheduler."""

from __future__ import annotations

import logging
import sys

from dask_ts.bridge_log import NEWLINE, OneLine


def test_a_record_with_its_traceback_is_one_line():
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        info = sys.exc_info()
    record = logging.LogRecord("distributed.scheduler", logging.ERROR, __file__, 1, "first\nsecond", (), info)
    text = OneLine(logging.Formatter("%(levelname)s - %(name)s - %(message)s")).format(record)
    assert "\n" not in text
    first, second, *traceback = text.split(NEWLINE)
    assert (first, second) == ("ERROR - distributed.scheduler - first", "second")
    assert traceback[-1] == "ZeroDivisionError: division by zero"
