"""``scheduler.extensions["amm"]``, and ``manager`` of its policies: the active memory manager as user code sees it.

The manager itself and the built-in policies are in the scheduler's process. Policies that are Python
classes run here: each suggestion is a question to the scheduler, which chooses the worker by the state
of that moment; what it has accepted is enacted when all policies are done.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, MutableSet
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from distributed.active_memory_manager import (
    ActiveMemoryManagerExtension,
    ActiveMemoryManagerPolicy,
    ReduceReplicas,
    RetireWorker,
    Suggestion,
)
from distributed.core import error_message
from distributed.protocol import pickle
from distributed.utils import import_term

from dask_ts.bridge import Message
from dask_ts.failures import Failures

if TYPE_CHECKING:
    from dask_ts.plugin_host import PluginHost

#: Letters of a policy's name in log lines.
MAX_NAME = 100

logger = logging.getLogger("distributed.scheduler")


class Policies(MutableSet):
    """``manager.policies``: those that run here, and stand-ins for the scheduler's own."""

    def __init__(self, manager: AmmView) -> None:
        self._manager = manager
        #: Policies that run here, with what the scheduler's process calls them.
        self.here: dict[ActiveMemoryManagerPolicy, str] = {}
        self._built_in: dict[tuple[str, str | None], ActiveMemoryManagerPolicy] = {}

    def _stand_ins(self) -> list[ActiveMemoryManagerPolicy]:
        rows = [(name, address) for name, address in self._manager._state()["built_in"]]
        self._built_in = {row: self._built_in.get(row) or self._made(*row) for row in rows}
        return list(self._built_in.values())

    def _made(self, name: str, address: str | None) -> ActiveMemoryManagerPolicy:
        cls = import_term(name)
        policy = cls() if address is None else cls(address)
        policy.manager = cast(Any, self._manager)
        return policy

    def __contains__(self, policy: object) -> bool:
        return policy in self.here or any(policy is other for other in self._stand_ins())

    def __iter__(self) -> Iterator[ActiveMemoryManagerPolicy]:
        return iter([*self._stand_ins(), *self.here])

    def __len__(self) -> int:
        return len(self._stand_ins()) + len(self.here)

    def __repr__(self) -> str:
        return repr(set(self))

    def add(self, policy: ActiveMemoryManagerPolicy) -> None:
        self._manager.add_policy(policy)

    def discard(self, policy: ActiveMemoryManagerPolicy) -> None:
        if policy in self.here:
            self._manager._removed(self.here.pop(policy))
            return
        for (name, address), other in self._built_in.items():
            if other is policy:
                self._manager._ask("amm-built-in", add=False, **{"class": name}, address=address)
                return


class AmmView:
    """See the module."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._policies = Policies(self)
        self._labels: dict[str, str] = {}
        self._failures = Failures()
        #: The run under way, by its number in the scheduler's process.
        self._run: int | None = None
        self._pending: dict[Any, tuple[set[Any], set[Any]]] | None = None
        self._memory: dict[Any, int] | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return ActiveMemoryManagerExtension

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("the active memory manager stays beside the scheduler")

    def __repr__(self) -> str:
        return f"<ActiveMemoryManager policies: {len(self.policies)}, running: {self.running}>"

    def _ask(self, op: str, **fields: Any) -> Message:
        return self._host.source.ask(op, **fields)

    def _state(self) -> Message:
        return self._ask("amm-state")

    # what policies and programs look at

    @property
    def scheduler(self) -> Any:
        return self._host.view

    @property
    def policies(self) -> Any:
        return self._policies

    @property
    def measure(self) -> str:
        return self._state()["measure"]

    @property
    def interval(self) -> float:
        return self._state()["interval"]

    @property
    def running(self) -> bool:
        return self._state()["running"]

    @property
    def pending(self) -> dict[Any, tuple[set[Any], set[Any]]]:
        """What has been accepted in this run: where each task will get, and where it will lose, a replica."""
        run = self._running("pending")
        if self._pending is None:
            views = self._host.view._views
            self._pending = {
                views.task(key): ({views.worker(a) for a in gets}, {views.worker(a) for a in loses})
                for key, gets, loses in self._ask("amm-pending", run=run)["tasks"]
            }
        return self._pending

    @property
    def workers_memory(self) -> dict[Any, int]:
        """Bytes of each worker, with what has been accepted in this run."""
        run = self._running("workers_memory")
        if self._memory is None:
            worker = self._host.view._views.worker
            rows = self._ask("amm-memory", run=run)["workers"]
            self._memory = {worker(address): nbytes for address, nbytes in rows}
        return self._memory

    def _running(self, name: str) -> int:
        if self._run is None:
            raise AttributeError(f"the active memory manager has {name!r} only while its policies run")
        return self._run

    # what they do

    def start(self) -> None:
        self._ask("amm-control", method="start")

    def stop(self) -> None:
        self._ask("amm-control", method="stop")

    def add_policy(self, policy: ActiveMemoryManagerPolicy) -> None:
        if not isinstance(policy, ActiveMemoryManagerPolicy):
            raise TypeError(f"Expected ActiveMemoryManagerPolicy; got {policy!r}")
        if policy in self._policies.here:
            return
        if type(policy) in (ReduceReplicas, RetireWorker):
            policy.manager = cast(Any, self)
            name, address = f"{type(policy).__module__}.{type(policy).__name__}", getattr(policy, "address", None)
            self._policies._built_in[name, address] = policy
            self._ask("amm-built-in", add=True, **{"class": name}, address=address)
            return
        name = " ".join(repr(policy).split())[:MAX_NAME]
        number, label = uuid4().hex, f"active memory manager policy {name!r}"
        data = self._pickled(policy, name)
        self._keep(policy, number, label)
        self._host.bridge.send({"op": "amm-added", "policy_id": number, "label": label, "policy": data})

    def _pickled(self, policy: ActiveMemoryManagerPolicy, name: str) -> bytes | None:
        """For the case that this process ends; None where whoever adds it does so again then."""
        from dask_ts.scheduler_plugins import in_function

        if not in_function.get():
            return None
        try:
            return pickle.dumps(policy)
        except Exception as e:
            what = "Active memory manager policy %r is lost if the plugin host ends: it cannot be pickled (%s)"
            logger.warning(what, name, e)
            return None

    def _keep(self, policy: ActiveMemoryManagerPolicy, number: str, label: str) -> None:
        self._policies.here[policy] = number
        self._labels[number] = label
        policy.manager = cast(Any, self)

    def _removed(self, number: str) -> None:
        self._labels.pop(number, None)
        self._host.bridge.send({"op": "amm-removed", "policy_id": number})

    def make(self, number: str, label: str, factory: Callable[[], Any]) -> None:
        """A policy of the configuration, or one that this process had before it ended."""
        with self._host.mark.at(label, "its start"):
            policy = factory()
        if not isinstance(policy, ActiveMemoryManagerPolicy):
            raise TypeError(f"an ActiveMemoryManagerPolicy was expected, not {type(policy).__name__}")
        self._keep(policy, number, label)

    # one run

    def run_once(self) -> None:
        """The scheduler's own policies and those here."""
        if self._run is not None:
            raise RuntimeError("the active memory manager is at a run")
        failure = self.run_policies(self._ask("amm-begin")["run"])
        if failure is not None:
            raise failure

    def run_policies(self, run: int) -> Exception | None:
        """The policies that run here, as part of a run of the scheduler's process; the first failure."""
        self._run, first = run, None
        self._host.source.forget()
        try:
            for policy, number in list(self._policies.here.items()):
                label = self._labels.get(number)
                if label is None:  # another one removed it
                    continue
                try:
                    with self._host.mark.at(label, "run"):
                        self._iterate(policy)
                except Exception as e:
                    self._failures.tell(label[0].upper() + label[1:], "run", e)
                    first = first or e
        finally:
            self._run = self._pending = self._memory = None
        self._ask("amm-enact", run=run)
        self._host.source.forget()
        return first

    def _iterate(self, policy: ActiveMemoryManagerPolicy) -> None:
        suggestions = policy.run()
        chosen = None
        while True:
            try:
                # a policy may yield plain tuples
                suggestion = Suggestion(*suggestions.send(chosen))
            except StopIteration:
                return
            chosen = self._suggest(suggestion)

    def _suggest(self, suggestion: Suggestion) -> Any:
        """The worker that the scheduler has chosen; None where it does not take the suggestion."""
        op, ts, candidates = suggestion
        if op not in ("replicate", "drop"):
            raise ValueError(f"Unknown op: {op}")
        reply = self._ask("amm-suggest", run=self._run, suggestion=op, keys=[ts.key], candidates=_addresses(candidates))
        if reply["worker"] is None:
            return None
        ws = self._host.view._views.worker(reply["worker"])
        if self._pending is not None:
            self._pending.setdefault(ts, (set(), set()))[op == "drop"].add(ws)
        if self._memory is not None:
            change = reply["nbytes"] if op == "replicate" else -reply["nbytes"]
            self._memory[ws] = max(0, self._memory.get(ws, 0) + change)
        return ws


def _addresses(candidates: Iterable[Any] | None) -> list[str] | None:
    return None if candidates is None else [ws.address for ws in candidates]


def amm_add(host: PluginHost, *, policy_id: str, label: str, **source: Any) -> None:
    """A policy as ``python-policies.ts`` has stored it: a class of the configuration, or a pickle."""
    data = source.get("policy")
    if data is not None:
        host.amm.make(policy_id, label, lambda: pickle.loads(data))
    else:
        host.amm.make(policy_id, label, lambda: import_term(source["class"])(**json.loads(source["kwargs"])))


def amm_run(host: PluginHost, *, run: int) -> Message:
    """The part of a run that is here."""
    failure = host.amm.run_policies(run)
    return {"failed": None if failure is None else error_message(failure)}
