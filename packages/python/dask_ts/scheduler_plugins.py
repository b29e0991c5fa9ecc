"""SchedulerPlugins beside the scheduler: their table, and the calls of their hooks."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import warnings
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from distributed.diagnostics.plugin import SchedulerPlugin, _get_plugin_name
from distributed.protocol import pickle

from dask_ts.bridge import Message
from dask_ts.failures import Failures
from dask_ts.graph_open import open_pickled
from dask_ts.scheduler_view import Table, keeping

if TYPE_CHECKING:
    from dask_ts.plugin_host import PluginHost

#: Hooks that are called with what happens in the scheduler.
HOOKS = (
    "update_graph",
    "restart",
    "transition",
    "add_worker",
    "remove_worker",
    "add_client",
    "remove_client",
    "valid_workers_downscaling",
    "log_event",
)
#: Transitions whose tasks are asked for at once, where a plugin looks at them.
LOOK_AHEAD = 200

#: Set while a function of run_on_scheduler runs: what it adds is not brought back by a plugin's own pickle.
in_function: contextvars.ContextVar[bool] = contextvars.ContextVar("in_function", default=False)

logger = logging.getLogger("distributed.scheduler")


def overrides(plugin: Any, hook: str) -> bool:
    """Whether the plugin does anything in this hook."""
    method = getattr(plugin, hook, None)
    return method is not None and getattr(method, "__func__", method) is not getattr(SchedulerPlugin, hook)


class Graph:
    """What ``update_graph`` is told, put together from the parts in which it comes."""

    def __init__(self) -> None:
        self.keys: set[Any] = set()
        self.tasks: list[Any] = []
        self.priority: dict[Any, Any] = {}
        self.annotations: dict[str, dict[Any, Any]] = {}

    def add(self, keys: Any, tasks: Any, priorities: Any, annotated: Any) -> None:
        self.keys.update(keys)
        self.tasks.extend(tasks)
        self.priority.update(zip(tasks, priorities, strict=True))
        for key, facts in annotated:
            for name, value in facts.items():
                self.annotations.setdefault(name, {})[key] = value

    def fields(self) -> dict[str, Any]:
        return vars(self)


class Plugins:
    """The plugins by name, and who wants to hear of what."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self.table: Table = Table(self._changed)
        self._hooks: dict[str, list[tuple[str, Callable]]] = {}
        self._told: list[str] = []
        self._failures = Failures()
        self._graph = Graph()

    # the table

    def _changed(self) -> None:
        self._hooks = {
            hook: [(name, getattr(plugin, hook)) for name, plugin in self.table.items() if overrides(plugin, hook)]
            for hook in HOOKS
        }
        wanted = [hook for hook in HOOKS if self._hooks[hook]]
        if wanted != self._told:
            self._told = wanted
            self._host.bridge.send({"op": "hooks", "hooks": wanted})

    def add(self, plugin: Any, name: str | None, idempotent: bool) -> None:
        """``Scheduler.add_plugin``."""
        if name is None:
            name = _get_plugin_name(plugin)
        if name in self.table:
            if idempotent:
                return
            warnings.warn(
                f"Scheduler already contains a plugin with name {name}; overwriting.",
                category=UserWarning,
                stacklevel=3,
            )
        self.table[name] = plugin
        if in_function.get():
            self._store(name, plugin)

    def _store(self, name: str, plugin: Any) -> None:
        token = keeping.set(True)
        try:
            data = pickle.dumps(plugin)
        except Exception as e:
            logger.warning("Scheduler plugin %r is lost if the plugin host ends: it cannot be pickled (%s)", name, e)
            return
        finally:
            keeping.reset(token)
        self._host.bridge.send({"op": "plugin-stored", "name": name, "plugin": data})

    def remove(self, name: str) -> None:
        """``Scheduler.remove_plugin``."""
        if name not in self.table:
            raise ValueError(f"Could not find plugin {name!r} among the current scheduler plugins")
        del self.table[name]
        self._host.bridge.send({"op": "plugin-removed", "name": name})

    async def register(self, plugin: Any, name: str | None, idempotent: bool, start: bool = True) -> str | None:
        """``Scheduler.register_scheduler_plugin``. The plugin's name; None where it was there already."""
        if not isinstance(plugin, SchedulerPlugin):
            plugin = open_pickled(plugin) if not isinstance(plugin, (bytes, memoryview)) else pickle.loads(plugin)
            if not isinstance(plugin, SchedulerPlugin):
                raise TypeError(f"a SchedulerPlugin was expected, not {type(plugin).__name__}")
        if name is None:
            name = _get_plugin_name(plugin)
        if name in self.table and idempotent:
            return None
        if start and hasattr(plugin, "start"):
            with self._host.mark.at(f"scheduler plugin {name!r}", "start"):
                result = plugin.start(cast(Any, self._host.view))
            if inspect.isawaitable(result):
                await result
        self.add(plugin, name, idempotent)
        return name

    # the hooks

    async def call_all(self, hook: str) -> None:
        """``before_close`` and ``close``: all plugins at once; failures are logged."""

        async def one(name: str, method: Callable) -> None:
            try:
                with self._host.mark.at(f"scheduler plugin {name!r}", hook):
                    result = method()
                if inspect.isawaitable(result):
                    await result
            except Exception as e:
                self.failed(name, hook, e)

        methods = [(name, getattr(plugin, hook, None)) for name, plugin in list(self.table.items())]
        await asyncio.gather(*(one(name, method) for name, method in methods if method is not None))

    def _call(self, hook: str, *args: Any, **kwargs: Any) -> None:
        for name, method in self._hooks.get(hook, ()):
            try:
                with self._host.mark.at(f"scheduler plugin {name!r}", hook):
                    result = method(*args, **kwargs)
                if result is not None and inspect.isawaitable(result):
                    self._host.background(self._finish(name, hook, result))
            except Exception as e:
                self.failed(name, hook, e)

    async def _finish(self, name: str, hook: str, result: Awaitable) -> None:
        try:
            await result
        except Exception as e:
            self.failed(name, hook, e)

    def failed(self, name: str, hook: str, exc: BaseException) -> None:
        """One line for the failures of a hook."""
        self._failures.tell(f"Scheduler plugin {name!r}", hook, exc)

    def events(self, rows: Any) -> None:
        """What happened, in order; each row is the hook's name and its arguments."""
        view, source = self._host.view, self._host.source
        source.forget()
        for start in range(0, len(rows), LOOK_AHEAD):
            page = rows[start : start + LOOK_AHEAD]
            source.hint = [row[1] for row in page if row[0] == "transition"]
            for row in page:
                hook = row[0]
                if hook == "transition":
                    self._transition(*row[1:])
                elif hook == "update_graph_part":
                    self._graph.add(*row[1:])
                elif hook == "update_graph":
                    fields, self._graph = self._graph.fields(), Graph()
                    self._call(hook, view, client=row[1], stimulus_id=row[2], **fields)
                elif hook == "restart":
                    self._call(hook, view)
                elif hook == "add_worker":
                    self._call(hook, scheduler=view, worker=row[1])
                elif hook == "remove_worker":
                    self._call(hook, scheduler=view, worker=row[1], stimulus_id=row[2])
                elif hook in ("add_client", "remove_client"):
                    self._call(hook, scheduler=view, client=row[1])
                elif hook == "log_event":
                    self._call(hook, row[1], row[2])
        source.hint = []

    def _transition(
        self, key: Any, start: str, finish: str, stimulus_id: str, extra: Any = None, last: Any = None
    ) -> None:
        forgotten = self._host.source.forgotten
        if last is not None:
            forgotten[key] = last
        try:
            self._call("transition", key, start, finish, stimulus_id=stimulus_id, **(extra or {}))
        finally:
            forgotten.pop(key, None)

    def keep(self, workers: Any) -> Message:
        """``valid_workers_downscaling``: the addresses that may go."""
        view = self._host.view
        self._host.source.forget()
        valid = [view.workers[address] for address in workers if address in view.workers]
        for name, method in self._hooks.get("valid_workers_downscaling", ()):
            try:
                with self._host.mark.at(f"scheduler plugin {name!r}", "valid_workers_downscaling"):
                    valid = list(method(view, valid))
            except Exception as e:
                self.failed(name, "valid_workers_downscaling", e)
        return {"workers": [ws.address for ws in valid]}
