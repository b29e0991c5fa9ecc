"""A worker as the ``key`` function of ``workers_to_close`` sees it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distributed.core import Status


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
