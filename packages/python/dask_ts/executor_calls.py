"""Calls of the worker process by Dask's op names, answered on the event loop as a worker's handlers are."""

from __future__ import annotations

import inspect
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import dask
from distributed.core import _expects_comm, error_message
from distributed.metrics import context_meter
from distributed.utils import has_keyword, recursive_to_dict

from dask_ts.executor_meter import plain_name
from dask_ts.executor_store import close_leaves, open_value
from dask_ts.facade import Worker

logger = logging.getLogger("distributed.worker")


class LocalComm:
    """Stands for the comm of a call in handlers that ask for one."""

    def __init__(self, address: str) -> None:
        self.local_address = self.peer_address = address
        self.name = "executor"
        self.allow_offload = True
        self.deserialize = True

    def closed(self) -> bool:
        return False


class Calls:
    """Finds and runs handlers: those of this process, then ``worker.handlers`` (which plugins extend),
    then ``worker.stream_handlers``."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._comm = LocalComm(worker.address)
        self._own: dict[str, Callable[..., Any]] = {
            "heartbeat-extensions": worker.heartbeat_extensions,
            "heartbeat-metrics": self.heartbeat_metrics,
            "startup-information": worker.get_startup_information,
            "context": self.context,
            "dump": self.dump,
            "transition": self.transition,
        }

    async def call(self, name: str, fields: dict[str, Any]) -> Any:
        """The handler's reply; an unknown op is answered with None and a log line, as Server does."""
        worker = self.worker
        serializers = fields.pop("serializers", None)
        handler = self._own.get(name) or worker.handlers.get(name) or worker.stream_handlers.get(name)
        if handler is None:
            logger.warning("No handler %s found in the executor", name)
            return None
        try:
            arguments = {k: open_value(v) for k, v in fields.items()}
            if serializers is not None and has_keyword(handler, "serializers"):
                arguments["serializers"] = serializers
            # metrics of whoever called, not of a task whose context this happens to be
            with context_meter.clear_callbacks():
                comm = (self._comm,) if _expects_comm(handler) else ()
                result = handler(*comm, **arguments)
                if inspect.isawaitable(result):
                    result = await result
            return result if serializers is None else close_leaves(result, serializers)
        except Exception as e:
            logger.exception("Exception while handling op %s", name)
            return error_message(e, status="uncaught-error")

    async def heartbeat_metrics(self) -> dict[str, Any]:
        """Metrics that only this process has: user-defined ones, and as ``digests`` the pairs of name
        and sum of what was digested here since the last call (``Worker.digest_metric``)."""
        worker = self.worker
        # swapped, as other threads add to it
        digests = worker.digests_total_since_heartbeat
        worker.digests_total_since_heartbeat = defaultdict(int)
        out: dict[str, Any] = {"digests": [[plain_name(name), value] for name, value in digests.items()]}
        for name, metric in worker.metrics.items():
            try:
                value = metric(worker)
                out[name] = await value if inspect.isawaitable(value) else value
            except Exception:
                continue
        return out

    def dump(self, exclude: list[str]) -> dict[str, Any]:
        """What a dump says of this process (``Worker._to_dict``): everything as plain data."""
        config = {} if "config" in exclude else {"config": recursive_to_dict(dask.config.config, exclude=exclude)}
        memory = self.worker.memory_manager._to_dict(exclude=exclude)
        return {**config, **{k: v for k, v in memory.items() if isinstance(v, (int, float, str, type(None)))}}

    def transition(self, key: Any, start: Any, finish: Any) -> None:
        """Tells plugins of a transition (``WorkerState._notify_plugins``)."""
        for name, plugin in list(self.worker.plugins.items()):
            if hasattr(plugin, "transition"):
                try:
                    plugin.transition(key, start, finish)
                except Exception:
                    logger.info("Plugin '%s' failed with exception", name, exc_info=True)

    def context(
        self,
        address: str | None = None,
        status: str | None = None,
        scheduler_delay: float | None = None,
        resources: dict[str, float] | None = None,
    ) -> None:
        """The worker tells what changed about it."""
        worker = self.worker
        if address is not None:
            worker._address = worker.contact_address = worker.state.address = address
        if status is not None:
            worker._status = type(worker.status)[status]
        if scheduler_delay is not None:
            worker.scheduler_delay = scheduler_delay
        if resources is not None:
            worker.state.total_resources = dict(resources)
