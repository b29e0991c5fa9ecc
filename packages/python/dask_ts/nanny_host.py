"""The nanny's Python child: nanny plugins, preload modules, and functions of ``Client.run(nanny=True)``.

Started when the first of them comes. They see a nanny as stock's, as far as they use it; what they leave in
``nanny.env`` and ``sys.path`` goes to each executor that starts from then on.

Messages from the nanny: ``plugin-add``, ``plugin-remove``, ``preload {modules, argv}``, ``preload-teardown``, ``run``;
to the nanny: ``log``, ``log-event``, ``restart``, ``kill``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any, cast

import distributed.nanny as stock
from distributed._async_taskgroup import AsyncTaskGroup
from distributed.core import ConnectionPool, Status, error_message
from distributed.diagnostics.plugin import NannyPlugin, _get_plugin_name
from distributed.preloading import PreloadManager, process_preloads
from distributed.protocol import pickle
from distributed.security import Security
from distributed.worker import run as run_function

from dask_ts.bridge import Bridge, Message
from dask_ts.bridge_log import BridgeLogHandler, show_logs_once
from dask_ts.executor_store import close_leaves, pickle_leaves

logger = logging.getLogger("distributed.nanny")


class NannyView:
    """``nanny`` in the hooks of a plugin."""

    def __init__(self, host: NannyHost) -> None:
        from tornado.ioloop import IOLoop

        self._host = host
        self.loop = self.io_loop = IOLoop.current()
        self.env: dict[str, str] = {}
        self.plugins: dict[str, NannyPlugin] = {}
        self.preloads = PreloadManager([])
        self.status = Status.running
        self._ongoing_background_tasks = AsyncTaskGroup()
        self.security = Security()
        self.rpc = ConnectionPool(connection_args=self.security.get_connection_args("worker"))

    def learn(self, facts: dict[str, Any]) -> None:
        """``address``, ``scheduler_addr``, ``local_directory`` and what else the nanny says of itself."""
        env = facts.pop("env")
        if not self.env:
            self.env.update(env)
        self.__dict__.update(facts)
        self.id = self.address
        self.scheduler_addr = facts["scheduler_addr"]
        self.scheduler = self.rpc(self.scheduler_addr)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return stock.Nanny

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__") and hasattr(stock.Nanny, name):
            raise AttributeError(f"the nanny's {name!r} cannot be had here: plugins run beside the nanny, not in it")
        raise AttributeError(f"'Nanny' object has no attribute {name!r}")

    def log_event(self, topic: Any, msg: Any) -> None:
        self._host.ask("log-event", topic=topic, msg=msg)

    async def restart(self, timeout: float = 30, reason: str = "nanny-restart") -> Any:
        return (await self._host.bridge.request("restart", timeout=timeout, reason=reason)).get("value")

    async def kill(self, timeout: float = 5, reason: str = "nanny-kill") -> None:
        await self._host.bridge.request("kill", timeout=timeout, reason=reason)

    def __repr__(self) -> str:
        return f"<Nanny: {self.address!r}>"


class NannyHost:
    """What each message of the nanny does."""

    bridge: Bridge

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._paths = list(sys.path)
        self._tasks: set[asyncio.Task] = set()
        self._on: dict[str, Callable[..., Awaitable[Message]]] = {
            "plugin-add": self.add,
            "plugin-remove": self.remove,
            "preload": self.preload,
            "preload-teardown": self.preload_teardown,
            "run": self.run,
        }

    def start(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.view = NannyView(self)
        self._rpc = self.loop.create_task(self.view.rpc.start())

    def ask(self, op: str, **fields: Any) -> None:
        self.bridge.send({"op": op, **fields})

    def on_message(self, message: Message) -> None:
        self.loop.call_soon_threadsafe(self._on_loop, message)

    def _on_loop(self, message: Message) -> None:
        op, number = message.pop("op"), message.pop("id", None)
        self.view.learn(message.pop("facts"))
        task = self.loop.create_task(self._answer(self._on[op](**message), number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, work: Any, number: int | None) -> None:
        try:
            reply = await work
        except Exception as e:
            reply = error_message(e)
        added = [path for path in sys.path if path not in self._paths]
        learned = {"env": {str(k): str(v) for k, v in self.view.env.items()}, "paths": added}
        try:
            self.bridge.reply(number, **reply, **learned)
        except Exception:
            self.bridge.reply(number, **pickle_leaves(reply), **learned)

    async def preload(self, *, modules: list[str], argv: list) -> Message:
        """Imports the modules, which must succeed, and runs their ``dask_setup``, whose failure is logged."""
        self.view.preloads = process_preloads(cast(Any, self.view), modules, argv, file_dir=self.view.local_directory)
        await self.view.preloads.start()
        return {"status": "OK"}

    async def preload_teardown(self) -> Message:
        await self.view.preloads.teardown()
        return {"status": "OK"}

    async def run(self, *, fields: dict[str, Any]) -> Message:
        """``Nanny.run``: a function that gets this nanny as ``dask_worker``."""
        serializers = fields.pop("serializers", None)
        arguments = {k: fields[k] for k in ("function", "args", "kwargs", "wait") if fields.get(k) is not None}
        value = await run_function(self.view, None, **arguments)
        return {"value": value if serializers is None else close_leaves(value, serializers)}

    async def add(self, *, plugin: Any, name: str | None) -> Message:
        """``Nanny.plugin_add``, without the restart."""
        made = pickle.loads(plugin)
        if not isinstance(made, NannyPlugin):
            raise TypeError(f"a NannyPlugin was expected, not {type(made).__name__}")
        name = name or _get_plugin_name(made)
        self.view.plugins[name] = made
        logger.info("Starting Nanny plugin %s", name)
        try:
            result = made.setup(nanny=self.view)
            if inspect.isawaitable(result):
                await result
        except Exception as e:
            logger.error("Nanny plugin %s failed to setup: %s: %s", name, type(e).__name__, e)
            return dict(error_message(e))
        return {"status": "OK", "restart": bool(getattr(made, "restart", False))}

    async def remove(self, *, name: str) -> Message:
        """``Nanny.plugin_remove``."""
        logger.info("Removing Nanny plugin %s", name)
        try:
            result = self.view.plugins.pop(name).teardown(nanny=self.view)
            if inspect.isawaitable(result):
                await result
        except Exception as e:
            logger.error("Nanny plugin %s failed to teardown: %s: %s", name, type(e).__name__, e)
            return dict(error_message(e))
        return {"status": "OK"}

    def on_closed(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            pass


def main() -> None:
    host = NannyHost()
    asyncio.set_event_loop(host.loop)
    host.start(Bridge.from_parent(host.on_message, host.on_closed))
    show_logs_once(BridgeLogHandler(host.bridge))
    host.bridge.ready()
    threading.Thread(target=host.bridge.run, name="dask-ts-bridge", daemon=True).start()
    host.loop.run_forever()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    # so that ``__main__`` holds nothing that a plugin's class could be taken for
    from dask_ts.nanny_host import main as run

    run()
