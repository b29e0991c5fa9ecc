"""``dask_scheduler``: the scheduler as plugins, preload modules and run_on_scheduler see it.

One object for the life of the plugin host. What it says is asked of the scheduler's process when it
is looked at; methods that change something go there as requests; attributes that user code sets stay
here. What stock's Scheduler has and this one cannot have raises an AttributeError that names it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import os
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterator, KeysView, MutableMapping, ValuesView
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import distributed.scheduler as stock
import psutil
from distributed.comm import get_address_host, unparse_host_port
from distributed.core import AsyncTaskGroup, ConnectionPool, Status
from distributed.counter import Counter
from distributed.protocol.serialize import _is_dumpable
from distributed.security import Security
from distributed.utils import import_file

from dask_ts.scheduler_names import CONSTANTS, DICTS_OF_LISTS, ELSEWHERE, LISTS, OPS, REUSED, SETS, VALUES
from dask_ts.view_source import Source
from dask_ts.view_spans import spans_extension
from dask_ts.view_states import Computation, State, StateMapping, Views
from dask_ts.view_streams import Listener, Service, Stream

if TYPE_CHECKING:
    from dask_ts.plugin_host import PluginHost

#: Set while a plugin is pickled to be brought back: the scheduler in it is that of the process which opens it.
keeping: contextvars.ContextVar[bool] = contextvars.ContextVar("keeping", default=False)

#: Attributes that stock's __init__ sets, as far as its classes declare them.
STOCK_ATTRIBUTES = frozenset(name for cls in stock.Scheduler.__mro__ for name in getattr(cls, "__annotations__", ()))


class Table(MutableMapping):
    """A dict that tells when it was changed."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._items: dict[Any, Any] = {}
        self._changed = changed

    def __getitem__(self, key: Any) -> Any:
        return self._items[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._items[key] = value
        self._changed()

    def __delitem__(self, key: Any) -> None:
        del self._items[key]
        self._changed()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return repr(self._items)

    def __reduce__(self) -> Any:
        return dict, (dict(self._items),)


class Extensions(dict):
    """``scheduler.extensions``: what user code put there, the active memory manager, and the spans as they
    are at the moment; the others of stock's own are in the scheduler's process."""

    def __init__(self, scheduler: Any, source: Source, amm: Any) -> None:
        super().__init__(amm=amm)
        self._scheduler = scheduler
        self._source = source

    def get(self, key: Any, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def __missing__(self, key: Any) -> Any:
        if key == "spans":
            return spans_extension(self._scheduler, self._source.value("spans"))
        raise KeyError(f"{key!r} (the scheduler's own extensions are in its process, not beside it)")


class SchedulerView:
    """See the module."""

    def __init__(self, host: PluginHost) -> None:
        from tornado.ioloop import IOLoop

        global _this
        _this = self
        self._host = host
        self._source = source = host.source
        self._views = views = Views(source, self)
        self.loop = self.io_loop = IOLoop.current()
        self.workers = StateMapping(source, "workers", "worker", views.worker)
        self.tasks = StateMapping(source, "tasks", "task", views.task)
        self.clients = StateMapping(source, "clients", "client", views.client)
        self.task_groups = StateMapping(source, "task_groups", "group", views.group)
        self.task_prefixes = StateMapping(source, "task_prefixes", "prefix", views.prefix)
        self.client_comms = StateMapping(source, "client_comms", "client_comm", self._client_stream)
        self.stream_comms = StateMapping(source, "stream_comms", "stream_comm", self._worker_stream)
        self.plugins = host.plugins.table
        self.handlers = Table(host.tell_handlers)
        self.stream_handlers = Table(host.tell_handlers)
        self.extensions = Extensions(self, source, host.amm)
        self.periodic_callbacks: dict[str, Any] = {}
        self.local_directory = host.folder
        self.security = Security()
        self.connection_args = self.security.get_connection_args("scheduler")
        self.rpc = ConnectionPool(deserialize=False, connection_args=self.connection_args)
        self.logger = logging.getLogger("distributed.scheduler")
        self._ongoing_background_tasks = AsyncTaskGroup()
        self._event_finished = asyncio.Event()
        self._counters: defaultdict[Any, Counter] = defaultdict(Counter)
        self._digests_total: defaultdict[Any, float] = defaultdict(int)
        self._digests_max: defaultdict[Any, float] = defaultdict(int)
        self._fixed = frozenset((*self.__dict__, *VALUES, *CONSTANTS))

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # isinstance(dask_server, Scheduler) in a preload module for schedulers and workers
        return stock.Scheduler

    def __getattr__(self, name: str) -> Any:
        if name in VALUES:
            return self._source.value(name)
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in OPS:
            return self._method(name, OPS[name])
        if name in REUSED:
            return getattr(stock.Scheduler, name).__get__(self)
        if name.startswith("__"):
            raise AttributeError(name)
        if name in ELSEWHERE or hasattr(stock.Scheduler, name) or name in STOCK_ATTRIBUTES:
            why = ELSEWHERE.get(name, "functions, plugins and preload modules run beside the scheduler, not in it")
            raise AttributeError(f"the scheduler's {name!r} cannot be had here: {why}")
        raise AttributeError(f"'Scheduler' object has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        fixed = self.__dict__.get("_fixed", ())
        if name in fixed or isinstance(getattr(type(self), name, None), property):
            raise AttributeError(f"the scheduler's {name!r} cannot be changed from beside it")
        object.__setattr__(self, name, value)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *VALUES, *CONSTANTS, *OPS, *REUSED})

    def __reduce_ex__(self, protocol: Any) -> Any:
        if keeping.get():
            return this_scheduler, ()
        raise TypeError("the scheduler cannot be sent: return its attributes instead")

    def __repr__(self) -> str:
        return f"<Scheduler {self.address!r}, workers: {len(self.workers)}, tasks: {len(self.tasks)}>"

    # what combines several answers

    @property
    def status(self) -> Status:
        return Status[self._source.value("status")]

    @property
    def address_safe(self) -> str:
        return self.address

    @property
    def ip(self) -> str:
        return get_address_host(self.address)

    @property
    def host(self) -> str:
        return get_address_host(self.address)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def thread_id(self) -> int:
        return self._host.thread_id

    @property
    def events(self) -> dict[str, Any]:
        return self.get_events()

    @property
    def idle(self) -> dict[str, Any]:
        return {address: self._views.worker(address) for address in self._source.scan("idle")}

    @property
    def idle_task_count(self) -> set:
        return {self._views.worker(address) for address in self._source.scan("idle_task_count")}

    @property
    def running(self) -> set:
        return {self._views.worker(address) for address in self._source.scan("running")}

    @property
    def saturated(self) -> set:
        return {self._views.worker(address) for address in self._source.scan("saturated")}

    @property
    def queued(self) -> set:
        return self._views.tasks_of("queued")

    @property
    def unrunnable(self) -> dict[Any, float]:
        return {self._views.task(key): since for key, since in self._source.value("unrunnable")}

    @property
    def replicated_tasks(self) -> set:
        return self._views.tasks_of("replicated_tasks")

    @property
    def computations(self) -> deque[Computation]:
        return deque(Computation(self._views, facts) for facts in self._source.value("computations"))

    @property
    def blocked_handlers(self) -> list[str]:
        return list(self._source.value("blocked_handlers"))

    @property
    def services(self) -> dict[str, Service]:
        return {name: Service(port) for name, port in self._source.value("services").items()}

    @property
    def total_nthreads_history(self) -> list[tuple[float, int]]:
        return list(self._source.value("total_nthreads_history"))

    @property
    def monitor(self) -> SimpleNamespace:
        """``count``, ``cpu`` and ``memory`` of the scheduler's process."""
        return SimpleNamespace(**self._source.value("monitor"))

    @property
    def listeners(self) -> list[Listener]:
        return [Listener(*addresses) for addresses in self._source.value("listeners")]

    @property
    def listener(self) -> Listener:
        return self.listeners[0]

    @property
    def transition_log(self) -> deque[Any]:
        """All that is kept of it (``distributed.admin.low-level-log-length``), as it is now."""
        return deque(stock.Transition(*row) for row in self._source.scan("transition_log"))

    @property
    def counters(self) -> defaultdict[Any, Counter]:
        """``counters["op"]``: calls of each op since the start; and what user code counts."""
        self._counters["op"].components[0].update(self._source.value("op_counts"))
        return self._counters

    @property
    def digests_total(self) -> defaultdict[Any, float]:
        """``tick-duration`` of the scheduler's process, and what ``digest_metric`` was given."""
        self._digests_total["tick-duration"] = self._source.value("tick-duration")[1]
        return self._digests_total

    @property
    def digests_total_since_heartbeat(self) -> defaultdict[Any, float]:
        return self.digests_total

    @property
    def digests_max(self) -> defaultdict[Any, float]:
        self._digests_max["tick-duration"] = self._source.value("tick-duration")[0]
        return self._digests_max

    def digest_metric(self, name: Any, value: float) -> None:
        self._digests_total[name] += value
        self._digests_max[name] = max(self._digests_max[name], value)

    @property
    def preloads(self) -> Any:
        return self._host.preloads

    @property
    def proc(self) -> Any:
        """The scheduler's process, which has started this one."""
        return psutil.Process(os.getppid())

    @property
    def erred_tasks(self) -> deque[Any]:
        rows = self._source.value("erred_tasks")
        return deque(stock.ErredTask(key, time, set(erred_on), *texts) for key, time, erred_on, *texts in rows)

    @property
    def memory(self) -> stock.MemoryState:
        return stock.MemoryState.sum(*(ws.memory for ws in self.workers.values()))

    def coerce_address(self, addr: Any, resolve: bool = True) -> str:
        if isinstance(addr, (tuple, list)) and len(addr) == 2:
            addr = unparse_host_port(*addr)
        return self._source.ask("coerce-address", address=addr, resolve=resolve)["value"]

    async def get_story(self, keys_or_stimuli: Any) -> list[Any]:
        rows = await self._source.call_async("get_story", {"keys_or_stimuli": plain(list(keys_or_stimuli))})
        return [stock.Transition(*row) for row in rows]

    def story(self, *keys_or_tasks_or_stimuli: Any) -> list[Any]:
        rows = self._source.call("get_story", {"keys_or_stimuli": plain(list(keys_or_tasks_or_stimuli))})
        return [stock.Transition(*row) for row in rows]

    def log_worker_event(self, worker: str, topic: Any, msg: Any) -> None:
        if isinstance(msg, dict) and worker != topic:
            msg["worker"] = worker
        self.log_event(topic, msg)

    async def finished(self) -> None:
        """Returns when the scheduler closes, after the plugins' ``close``."""
        await self._event_finished.wait()

    def reschedule(self, key: Any, worker: str | None = None, *, stimulus_id: str) -> None:
        """``_reschedule`` by its older name."""
        self._reschedule(key, worker, stimulus_id=stimulus_id)

    def decide_worker_non_rootish(self, ts: Any) -> Any:
        return self._decided("non-rootish", ts=ts)

    def decide_worker_rootish_queuing_disabled(self, ts: Any) -> Any:
        return self._decided("rootish-queuing-disabled", ts=ts)

    def decide_worker_rootish_queuing_enabled(self) -> Any:
        return self._decided("rootish-queuing-enabled")

    def _decided(self, how: str, **fields: Any) -> Any:
        address = self._source.call(f"decide-worker-{how}", plain(fields))
        return None if address is None else self._views.worker(address)

    def _client_stream(self, client: str) -> Stream:
        return Stream(lambda msg: self.client_send(client, msg), client)

    def _worker_stream(self, worker: str) -> Stream:
        return Stream(lambda msg: self.worker_send(worker, msg), worker)

    # plugins, files

    def add_plugin(self, plugin: Any, *, idempotent: bool = False, name: str | None = None, **_: Any) -> None:
        self._host.plugins.add(plugin, name, idempotent)

    def remove_plugin(self, name: str | None = None) -> None:
        assert name is not None
        self._host.plugins.remove(name)

    async def register_scheduler_plugin(self, plugin: Any, name: str | None = None, *, idempotent: bool) -> None:
        await self._host.plugins.register(plugin, name, idempotent)

    async def unregister_scheduler_plugin(self, name: str) -> None:
        self._host.plugins.remove(name)

    async def upload_file(self, filename: str, data: str | bytes, load: bool = True) -> dict[str, Any]:
        """``Server.upload_file``; where graphs are opened the file is there as well."""
        path = os.path.join(self.local_directory, filename)
        content = data.encode() if isinstance(data, str) else data
        with open(path, "wb") as f:
            f.write(content)
        if load:
            import_file(path)
        await self._source.ask_async("uploaded", path=path, load=load)
        return {"status": "OK", "nbytes": len(content)}

    # requests

    def _method(self, name: str, op: str) -> Callable:
        function = getattr(stock.Scheduler, name)
        signature = inspect.signature(function)

        def fields(args: Any, kwargs: Any) -> dict[str, Any]:
            bound = signature.bind(self, *args, **kwargs)
            message: dict[str, Any] = {}
            for parameter, value in bound.arguments.items():
                if parameter in ("self", "comm"):
                    continue
                if signature.parameters[parameter].kind is inspect.Parameter.VAR_KEYWORD:
                    message.update(plain(value))
                else:
                    message[parameter] = plain(value)
            if name == "log_event" and not _is_dumpable(message["msg"]):
                raise TypeError(f"Message must be msgpack serializable. Got type(msg)={type(message['msg'])} instead.")
            return message

        if inspect.iscoroutinefunction(function):

            async def later(*args: Any, **kwargs: Any) -> Any:
                return as_stock(name, await self._source.call_async(op, fields(args, kwargs)))

            method: Callable = later
        else:

            def at_once(*args: Any, **kwargs: Any) -> Any:
                return as_stock(name, self._source.call(op, fields(args, kwargs)))

            method = at_once
        method.__name__ = name
        method.__doc__ = function.__doc__
        return method


_this: SchedulerView | None = None


def this_scheduler() -> SchedulerView:
    """The scheduler of this process."""
    assert _this is not None
    return _this


# programs that tell a scheduler from a worker by ``type(dask_server).__name__``
SchedulerView.__name__ = SchedulerView.__qualname__ = "Scheduler"


def as_stock(name: str, value: Any) -> Any:
    """A method's result in the types that stock's gives; sequences come as tuples."""
    if name in LISTS and isinstance(value, tuple):
        return list(value)
    if name in SETS and isinstance(value, tuple):
        return set(value)
    if name in DICTS_OF_LISTS and isinstance(value, dict):
        return {key: list(items) if isinstance(items, tuple) else items for key, items in value.items()}
    return value


def plain(value: Any) -> Any:
    """What can be sent: objects of the scheduler by their keys, functions as pickles."""
    if isinstance(value, Status):
        return value.name
    if State in type(value).__mro__:
        return value._key
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    if type(value) is tuple:
        return tuple(plain(item) for item in value)
    if isinstance(value, (list, set, frozenset, KeysView, ValuesView, Generator, map, filter)):
        return [plain(item) for item in value]
    if callable(value):
        from distributed.protocol import pickle

        return pickle.dumps(value)
    return value
