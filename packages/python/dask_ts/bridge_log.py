"""Log records of a Python child, which the parent writes to its own log."""

from __future__ import annotations

import logging
import sys

import dask

from dask_ts.bridge import Bridge


class BridgeLogHandler(logging.Handler):
    """Sends ``log {level, logger, text}``; the text has stock's format."""

    def __init__(self, bridge: Bridge) -> None:
        super().__init__()
        self._bridge = bridge
        self.setFormatter(logging.Formatter(dask.config.get("distributed.admin.log-format")))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._bridge.send(
                {
                    "op": "log",
                    "level": record.levelname,
                    "logger": record.name,
                    "text": self.format(record),
                }
            )
        except Exception:
            self.handleError(record)


#: Stands for a newline in a record on stderr, which the parent reads line by line.
NEWLINE = "\x1e"


class OneLine(logging.Formatter):
    """A record with its traceback as one line, whatever the format."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self._formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return self._formatter.format(record).replace("\n", NEWLINE)


def one_record_per_line() -> None:
    """From now on what goes to stderr as a log record can be read as one (server/graph-host-log.ts)."""
    for name in (None, "distributed"):
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr:
                handler.setFormatter(OneLine(handler.formatter or logging.Formatter()))


def show_logs_once(bridge_handler: logging.Handler) -> None:
    """The parent writes distributed's records to its own log, which goes to the same stderr."""
    distributed_logger = logging.getLogger("distributed")
    for handler in list(distributed_logger.handlers):
        if type(handler) is logging.StreamHandler and handler.stream is sys.stderr:
            distributed_logger.removeHandler(handler)
    distributed_logger.addHandler(bridge_handler)
