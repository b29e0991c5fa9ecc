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


def show_logs_once(bridge_handler: logging.Handler) -> None:
    """The parent writes distributed's records to its own log, which goes to the same stderr."""
    distributed_logger = logging.getLogger("distributed")
    for handler in list(distributed_logger.handlers):
        if type(handler) is logging.StreamHandler and handler.stream is sys.stderr:
            distributed_logger.removeHandler(handler)
    distributed_logger.addHandler(bridge_handler)
