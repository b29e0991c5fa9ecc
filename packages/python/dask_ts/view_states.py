"""Workers, tasks, clients, groups and prefixes of the scheduler, as code beside it sees them.

Each object is a name for something in the scheduler's process; its attributes are asked when looked
at (see ``view_source``). They say what stock's classes of the same names say, and cannot be set.
Attributes that stock has and that cannot be had here raise an AttributeError that says so.
"""

from __future__ import annotations

from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary

import distributed.scheduler as stock
from distributed.client import SourceCode
from distributed.core import Status

from dask_ts.graph_open import open_pickled
from dask_ts.view_source import PAGE, Source


class State:
    """One object of the scheduler: a kind and a key."""

    kind: str
    stock: type
    __slots__ = ("__dict__", "__weakref__", "_key", "_views")

    def __init__(self, views: Views, key: Any) -> None:
        object.__setattr__(self, "_views", views)
        object.__setattr__(self, "_key", key)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # isinstance(ws, distributed.scheduler.WorkerState) holds
        return self.stock

    def _facts(self) -> dict[str, Any]:
        facts = self._views.source.facts(self.kind, self._key)
        if facts is None:
            raise AttributeError(f"{self!r} is not known to the scheduler any more")
        return facts

    def _field(self, name: str) -> Any:
        return self._views.source.field(self.kind, self._key, name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        facts = self._facts()
        if name in facts:
            return facts[name]
        if hasattr(self.stock, name):
            raise AttributeError(
                f"{self!r} has no {name!r} here: code that runs beside the scheduler reads facts, "
                f"it cannot reach inside; there are {', '.join(self._names(facts))}"
            )
        raise AttributeError(f"{self.stock.__name__!r} object has no attribute {name!r}")

    def _names(self, facts: dict[str, Any]) -> list[str]:
        own = (name for name in dir(type(self)) if name[0] != "_" and name not in ("kind", "stock"))
        return sorted({*own, *(name for name in facts if name[0] != "_")})

    def __dir__(self) -> list[str]:
        return self._names(self._views.source.facts(self.kind, self._key) or {})

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._key == self._key  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((self.kind, self._key))

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError(f"{self!r} stays beside the scheduler: return its attributes instead")

    def __repr__(self) -> str:
        return f"<{self.stock.__name__} {self._key!r}>"


class WorkerState(State):
    kind = "worker"
    stock = stock.WorkerState
    __slots__ = ()

    @property
    def address(self) -> str:
        return self._key

    @property
    def status(self) -> Status:
        return Status[self._facts()["status"]]

    @property
    def processing(self) -> set[TaskState]:
        return self._views.tasks_of("worker.processing", self._key)

    @property
    def long_running(self) -> set[TaskState]:
        return self._views.tasks_of("worker.long_running", self._key)

    @property
    def has_what(self) -> set[TaskState]:
        return self._views.tasks_of("worker.has_what", self._key)

    @property
    def actors(self) -> set[TaskState]:
        return self._views.tasks_of("worker.actors", self._key)

    @property
    def executing(self) -> dict[TaskState, float]:
        return {self._views.task(key): seconds for key, seconds in self._field("executing")}

    @property
    def needs_what(self) -> dict[TaskState, int]:
        return {self._views.task(key): count for key, count in self._field("needs_what")}

    @property
    def task_prefix_count(self) -> dict[str, int]:
        return dict(self._field("task_prefix_count"))

    @property
    def versions(self) -> dict[str, Any]:
        return self._field("versions")

    @property
    def memory(self) -> Any:
        return stock.MemoryState(**self._facts()["_memory"])

    @property
    def scheduler(self) -> Any:
        return self._views.scheduler

    @property
    def scheduler_ref(self) -> Callable[[], Any]:
        return lambda: self._views.scheduler

    def identity(self) -> dict[str, Any]:
        return dict(self._facts()["_identity"])

    def clean(self) -> Any:
        """Stock's own class, as it travels."""
        facts = self._facts()
        return stock.WorkerState(
            address=self._key,
            status=self.status,
            pid=facts["pid"],
            name=facts["name"],
            nthreads=facts["nthreads"],
            memory_limit=facts["memory_limit"],
            local_directory=facts["local_directory"],
            nanny=facts["nanny"],
            server_id=facts["server_id"],
            services=facts["services"],
            extra=facts["extra"],
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.clean().__reduce_ex__(protocol)


class TaskState(State):
    kind = "task"
    stock = stock.TaskState
    __slots__ = ()

    @property
    def key(self) -> Any:
        return self._key

    def _tasks(self, name: str) -> set[TaskState]:
        keys = self._facts()[name]
        if keys is None:
            return self._views.tasks_of(f"task.{name}", self._key)
        return {self._views.task(key) for key in keys}

    @property
    def dependencies(self) -> set[TaskState]:
        return self._tasks("dependencies")

    @property
    def dependents(self) -> set[TaskState]:
        return self._tasks("dependents")

    @property
    def waiting_on(self) -> set[TaskState]:
        return self._tasks("waiting_on")

    @property
    def waiters(self) -> set[TaskState]:
        return self._tasks("waiters")

    @property
    def who_has(self) -> set[WorkerState]:
        return {self._views.worker(address) for address in self._facts()["who_has"]}

    @property
    def who_wants(self) -> set[ClientState]:
        return {self._views.client(key) for key in self._facts()["who_wants"]}

    @property
    def processing_on(self) -> WorkerState | None:
        address = self._facts()["processing_on"]
        return None if address is None else self._views.worker(address)

    @property
    def exception_blame(self) -> TaskState | None:
        blame = self._facts()["exception_blame"]
        return None if blame is None else self._views.task(blame[0])

    @property
    def group(self) -> TaskGroup:
        return self._views.group(self._facts()["group"])

    @property
    def group_key(self) -> Any:
        return self._facts()["group"]

    @property
    def prefix(self) -> TaskPrefix:
        return self._views.prefix(self._facts()["prefix"])

    @property
    def run_spec(self) -> Any:
        return open_pickled(self._field("run_spec"))

    @property
    def exception(self) -> Any:
        return self._field("exception")

    @property
    def traceback(self) -> Any:
        return self._field("traceback")

    @property
    def metadata(self) -> dict[str, Any] | None:
        return self._field("metadata")

    @property
    def annotations(self) -> dict[str, Any] | None:
        return self._field("annotations")

    def get_nbytes(self) -> int:
        nbytes = self._facts()["nbytes"]
        return nbytes if nbytes >= 0 else stock.DEFAULT_DATA_SIZE

    def get_nbytes_deps(self) -> int:
        return sum(dts.get_nbytes() for dts in self.dependencies)


class ClientState(State):
    kind = "client"
    stock = stock.ClientState
    __slots__ = ()

    @property
    def client_key(self) -> str:
        return self._key

    @property
    def wants_what(self) -> set[TaskState]:
        return self._views.tasks_of("client.wants_what", self._key)

    @property
    def versions(self) -> dict[str, Any]:
        return self._field("versions")


class TaskGroup(State):
    kind = "group"
    stock = stock.TaskGroup
    __slots__ = ()

    @property
    def name(self) -> Any:
        return self._key

    @property
    def prefix(self) -> TaskPrefix:
        return self._views.prefix(self._facts()["prefix"])

    @property
    def dependencies(self) -> set[TaskGroup]:
        return {self._views.group(name) for name in self._facts()["dependencies"]}

    @property
    def last_worker(self) -> WorkerState | None:
        address = self._facts()["last_worker"]
        return None if address is None else self._views.worker(address)

    def __len__(self) -> int:
        return self._facts()["_size"]


class TaskPrefix(State):
    kind = "prefix"
    stock = stock.TaskPrefix
    __slots__ = ()

    @property
    def name(self) -> str:
        return self._key

    @property
    def groups(self) -> set[TaskGroup]:
        return {self._views.group(name) for name in self._views.source.scan("prefix.groups", self._key)}

    def __len__(self) -> int:
        return self._facts()["_size"]


class Computation:
    """One ``compute`` or ``persist``, as it was when it was asked for."""

    def __init__(self, views: Views, facts: dict[str, Any]) -> None:
        self.id = UUID(facts["id"])
        self.start: float = facts["start"]
        self.code = [tuple(SourceCode(*source) for source in snippet) for snippet in facts["code"]]
        self.annotations = {name: open_pickled(value) for name, value in facts["annotations"].items()}
        self.groups = {views.group(name) for name in facts["groups"]}
        self.states: dict[str, int] = facts["states"]
        self.stop: float = facts["stop"]

    def __repr__(self) -> str:
        return f"<Computation {self.id}>"


class Views:
    """Makes the objects; the same object for the same thing, as long as somebody holds it."""

    def __init__(self, source: Source, scheduler: Any) -> None:
        self.source = source
        self.scheduler = scheduler
        self._made: WeakValueDictionary[tuple[str, Any], Any] = WeakValueDictionary()

    def _get(self, cls: type[State], key: Any) -> Any:
        at = (cls.kind, key)
        made = self._made.get(at)
        if made is None:
            made = self._made[at] = cls(self, key)
        return made

    def worker(self, address: str) -> WorkerState:
        return self._get(WorkerState, address)

    def task(self, key: Any) -> TaskState:
        return self._get(TaskState, key)

    def client(self, key: str) -> ClientState:
        return self._get(ClientState, key)

    def group(self, name: Any) -> TaskGroup:
        return self._get(TaskGroup, name)

    def prefix(self, name: str) -> TaskPrefix:
        return self._get(TaskPrefix, name)

    def tasks_of(self, what: str, key: Any = None) -> set[TaskState]:
        return {self.task(k) for k in self.source.scan(what, key)}


class StateMapping(Mapping):
    """``scheduler.workers`` and its like: nothing is asked for but what is looked at."""

    def __init__(self, source: Source, what: str, kind: str, make: Callable[[Any], Any]) -> None:
        self._source = source
        self._what = what
        self._kind = kind
        self._make = make

    def __getitem__(self, key: Any) -> Any:
        if key not in self:
            raise KeyError(key)
        return self._make(key)

    def __contains__(self, key: object) -> bool:
        try:
            return self._source.facts(self._kind, key) is not None
        except TypeError:  # nothing that could be sent could be a key
            return False

    def __iter__(self) -> Iterator[Any]:
        return self._source.scan(self._what)

    def __len__(self) -> int:
        return self._source.count(self._what)

    def items(self) -> ItemsView:
        return _Items(self)

    def values(self) -> ValuesView:
        return _Values(self)

    def pairs(self) -> Iterator[tuple[Any, Any]]:
        """Keys and objects; the facts of a page of them are asked for at once."""
        for page in self._source.pages(self._what):
            keys = list(page)
            for start in range(0, len(keys), PAGE):
                part = keys[start : start + PAGE]
                self._source.prefetch(self._kind, part)
                for key in part:
                    yield key, self._make(key)

    def copy(self) -> dict[Any, Any]:
        return dict(self.items())

    def __reduce__(self) -> Any:
        return dict, (self.copy(),)

    def __repr__(self) -> str:
        return repr(self.copy()) if len(self) <= 20 else f"<{len(self)} {self._kind}s of the scheduler>"


class _Items(ItemsView):
    _mapping: StateMapping

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping.pairs()


class _Values(ValuesView):
    _mapping: StateMapping

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping.pairs())
