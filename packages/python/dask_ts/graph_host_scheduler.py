"""What a user's function sees as ``dask_scheduler``: facts, asked of the scheduler when looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from distributed.core import Status

if TYPE_CHECKING:
    from dask_ts.graph_host import GraphHost


class _Facts:
    """An object made of a map of facts."""

    def __init__(self, what: str, facts: Mapping[str, Any]) -> None:
        self._what = what
        self.__dict__.update(facts)

    def __getattr__(self, name: str) -> Any:
        # A builtin class: the error travels to clients that do not have this package.
        raise AttributeError(
            f"{self._what} has no {name!r} here: functions run beside the scheduler, not in it, "
            f"and see {', '.join(sorted(k for k in self.__dict__ if k[0] != '_'))}"
        )

    def __repr__(self) -> str:
        return f"<{self._what}>"


class WorkerView(_Facts):
    """A worker as ``Scheduler.identity`` shows it."""

    def __init__(self, address: str, identity: Mapping[str, Any]) -> None:
        facts = dict(identity)
        facts["address"] = address
        status = facts.get("status")
        if isinstance(status, str):
            facts["status"] = getattr(Status, status, status)
        host = address.rpartition("://")[2].rpartition(":")[0]
        facts.setdefault("host", host)
        super().__init__(f"WorkerState {address!r}", facts)

    def identity(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k[0] != "_"}

    def __hash__(self) -> int:
        return hash(self.__dict__["address"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WorkerView) and other.address == self.address


class TaskView(_Facts):
    """A task: ``key`` and ``state``."""

    def __init__(self, key: Any, state: str) -> None:
        super().__init__(f"TaskState {key!r}", {"key": key, "state": state})


class ClientView(_Facts):
    """A client: ``client_key``."""

    def __init__(self, key: str) -> None:
        super().__init__(f"ClientState {key!r}", {"client_key": key})


class SchedulerView:
    """``address``, ``id``, ``name``, ``workers``, ``clients``, ``tasks``, ``services``, ``total_nthreads``;
    each access asks the scheduler anew. ``loop``, ``plugins`` and ``extensions`` are this process's own.
    """

    _ASKED = ("address", "id", "workers", "clients", "tasks", "services", "total_nthreads", "name")

    def __init__(self, host: GraphHost) -> None:
        self._host = host
        self.plugins: dict[str, Any] = {}
        self.extensions: dict[str, Any] = {}

    @property
    def loop(self) -> Any:
        from tornado.ioloop import IOLoop

        loop = self._host.loop
        return IOLoop.current() if _running_on(loop) else loop

    def _ask(self, field: str) -> Any:
        reply = self._host.bridge.request_sync("scheduler-view", 30, fields=[field])
        if reply.get("status") == "error":
            raise RuntimeError(str(reply.get("exception_text") or reply.get("exception")))
        return reply.get(field)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name not in self._ASKED:
            raise AttributeError(
                f"the scheduler has no {name!r} here: functions run beside the scheduler, not in "
                f"it, and see {', '.join(self._ASKED)}, loop, plugins and extensions"
            )
        value = self._ask(name)
        if name == "workers":
            return {address: WorkerView(address, facts) for address, facts in value.items()}
        if name == "clients":
            return {key: ClientView(key) for key in value}
        if name == "tasks":
            return {key: TaskView(key, state) for key, state in value.items()}
        return value

    def identity(self) -> dict[str, Any]:
        workers = {a: w.identity() for a, w in self.workers.items()}
        return {"type": "Scheduler", "id": self.id, "address": self.address, "workers": workers}

    def __repr__(self) -> str:
        return "<view of the scheduler>"


def _running_on(loop: Any) -> bool:
    import asyncio

    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False
