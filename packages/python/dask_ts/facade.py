"""The worker as user code and distributed's own code see it inside the executor.

It is a real ``distributed.worker.Worker``, initialised but never started: it does not listen, does not
register, and runs no state machine. What a worker does with the outside (the scheduler's stream, its
status, closing) goes to the worker process instead; see ``docs/decisions/facade.md``.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import distributed.worker
from distributed import profile
from distributed.comm.addressing import get_address_host, get_address_host_port
from distributed.core import Status
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.metrics import time
from distributed.protocol.serialize import _is_dumpable
from distributed.utils import key_split
from distributed.worker_state_machine import SecedeEvent, TaskState, UpdateDataEvent

from dask_ts.executor_pool import TaskPool, TaskRun
from dask_ts.executor_spill_monitor import SpillMonitor, worker_data
from dask_ts.executor_store import Store

Key = Any

logger = logging.getLogger("distributed.worker")

#: ``post(op, fields)`` sends a one-way message to the worker process, from any thread.
Post = Callable[[str, dict[str, Any]], None]

#: After so many looks that found no task, the profile looks so many times less often.
IDLE_LOOKS = 100
IDLE_PACE = 5

#: What a stock worker has and this process cannot have.
ELSEWHERE = {
    "http_server": "the worker process serves HTTP",
    "http_application": "the worker process serves HTTP",
}


class SchedulerStream:
    """``worker.batched_stream``: only ``send`` has a meaning here."""

    def __init__(self, send: Callable[[dict[str, Any]], None]) -> None:
        self._send = send
        self.comm = None

    def send(self, *msgs: dict[str, Any]) -> None:
        for msg in msgs:
            self._send(msg)

    def closed(self) -> bool:
        return False


class TaskView(Mapping):
    """``worker.state.tasks``: the tasks that run or wait here, and those whose values are here.

    A ``TaskState`` is made when somebody looks, and stays as long as its task runs; its ``metadata``
    travels with the task's outcome.
    """

    def __init__(self, runs: dict[Key, TaskRun], store: Store) -> None:
        self._runs = runs
        self._store = store

    def __getitem__(self, key: Key) -> TaskState:
        run = self._runs.get(key)
        if run is not None:
            if run.state is None:
                run.state = TaskState(
                    key=key,
                    run_id=run.run_id,
                    run_spec=run.run_spec,
                    priority=run.priority,
                    annotations=run.annotations,
                    span_id=run.span_id,
                    dependencies={self[k] for k in run.dependencies if k in self._store.nbytes},
                )
            run.state.state = "ready" if run.start is None else "executing"
            run.state.start_time = run.start
            return run.state
        nbytes = self._store.nbytes[key]
        return TaskState(key=key, state="memory", nbytes=nbytes, done=True)

    def __contains__(self, key: object) -> bool:
        return key in self._runs or key in self._store.nbytes

    def __iter__(self) -> Iterator[Key]:
        return iter({**self._runs, **self._store.nbytes})

    def __len__(self) -> int:
        return len({**self._runs, **self._store.nbytes})


class Worker(distributed.worker.Worker):
    """The facade.

    Parameters
    ----------
    post:
        sends one-way messages to the worker process
    options:
        the fields of the ``init`` message
    """

    store: Store

    def __init__(self, post: Post, options: dict[str, Any]) -> None:
        self._post = post
        self._wants_transitions = False
        nthreads = options["nthreads"]
        name = options.get("name")
        prefix = f"{name}-" if name is not None else ""
        self.pool = TaskPool(nthreads, thread_name_prefix=f"{prefix}Dask-Default-Threads")
        local_directory = options.get("local_directory")
        super().__init__(
            options["scheduler"],
            nthreads=nthreads,
            name=name,
            executor=self.pool,
            resources=options.get("resources") or {},
            local_directory=local_directory,
            # a directory inside a scratch space is the worker's own, made for this worker
            needs_workdir="dask-scratch-space" not in str(local_directory),
            memory_limit=options.get("memory_limit") or 0,
            preload=list(options.get("preload") or ()),
            preload_argv=_argv(options.get("preload_argv") or ()),
            validate=False,
            contact_address=options["address"],
            nanny=options.get("nanny"),
            security=options.get("security"),
            data=(worker_data, {"memory_limit": options.get("memory_limit") or 0, "nthreads": nthreads}),
        )
        if self.name is None:
            self.name = options["address"]
        self._profile_interval: float | None = None
        self._idle_looks = 0
        self.state.address = options["address"]
        self.ip = get_address_host(options["address"])
        self._listen_address = options["address"]
        self.batched_stream = SchedulerStream(self.batched_send)  # type: ignore[assignment]
        self.store = Store(self.data, self.state.actors)
        # the worker process watches this process's memory and pauses itself; spilling happens here
        self.spill_monitor = SpillMonitor(self, self._tell_memory_settings)
        self.store.check_room = self.spill_monitor.check_room
        self._status = Status.running

    @property
    def port(self) -> int:
        return get_address_host_port(self.address)[1]

    def show_tasks(self, runs: dict[Key, TaskRun]) -> None:
        """From now on ``state.tasks`` shows these."""
        self.state.tasks = TaskView(runs, self.store)  # type: ignore[assignment]

    async def start_parts(self) -> None:
        """Starts what of a worker runs in this process: the RPC pool, preloads, the samplers."""
        self.thread_id = threading.get_ident()
        await self.rpc.start()
        await self.preloads.start()
        self.spill_monitor.start()
        for name in ("profile", "profile-cycle", "shift_counters"):
            callback = self.periodic_callbacks.get(name)
            if callback is not None:
                callback.start()

    async def stop_parts(self) -> None:
        """Tears down plugins, extensions, preloads and the worker's client, as ``Worker.close`` does."""
        self._status = Status.closing
        self.spill_monitor.stop()
        for callback in self.periodic_callbacks.values():
            callback.stop()
        await asyncio.gather(*(self.plugin_remove(name) for name in list(self.plugins)))
        for extension in self.extensions.values():
            if hasattr(extension, "close"):
                result = extension.close()
                if asyncio.iscoroutine(result):
                    await result
        await self.preloads.teardown()
        if self._client is not None:
            self._client._asynchronous = True
            closing = self._client.close()
            if closing is not None:
                await closing
        await self.rpc.close()
        self._status = Status.closed
        self._event_finished.set()

    # what goes to the worker process

    def batched_send(self, msg: dict[str, Any]) -> None:
        """A message for the scheduler's stream."""
        fields = {k: v for k, v in msg.items() if k != "op"}
        if msg.get("op") == "log-event":
            self._post("log-event", fields)
        else:
            self._post("request", {"name": "batched-send", "fields": {"msg": msg}})

    def log_event(self, topic: Any, msg: Any) -> None:
        if not _is_dumpable(msg):
            raise TypeError(f"Message must be msgpack serializable. Got {type(msg)=} instead.")
        self._post("log-event", {"topic": topic, "msg": msg})

    def handle_stimulus(self, *stims: Any) -> None:
        """Events of the state machine that come from inside a task."""
        for event in stims:
            if isinstance(event, SecedeEvent):
                self._post("seceded", {"key": event.key, "duration": event.compute_duration})
            elif isinstance(event, UpdateDataEvent):
                entries = [(key, *self.store.add(key, v)) for key, v in event.data.items()]
                self._post("request", {"name": "update-data", "fields": {"entries": entries}})
            else:
                raise NotImplementedError(
                    f"{type(event).__name__} is handled in the worker process, not in its executor"
                )

    @property
    def status(self) -> Status:
        return getattr(self, "_status", Status.undefined)

    @status.setter
    def status(self, value: Status) -> None:
        # the memory manager pauses and resumes in this way
        if not isinstance(value, Status):
            raise TypeError(f"Expected Status; got {value!r}")
        changed = value != self.status
        self._status = value
        if changed:
            self._post("request", {"name": "status", "fields": {"status": value.name}})

    async def close(  # type: ignore[override]
        self,
        timeout: float = 30,
        executor_wait: bool = True,
        nanny: bool = True,
        reason: str = "worker-close",
    ) -> str | None:
        fields = {
            "timeout": timeout,
            "executor_wait": executor_wait,
            "nanny": nanny,
            "reason": reason,
        }
        self._post("request", {"name": "close", "fields": fields})
        return "OK"

    async def close_gracefully(self, restart: bool | None = None, reason: str = "worker-close-gracefully") -> None:
        fields = {"restart": restart, "reason": reason}
        self._post("request", {"name": "close_gracefully", "fields": fields})

    async def heartbeat(self) -> None:
        self._post("request", {"name": "heartbeat", "fields": {}})

    def _tell_memory_settings(self, settings: dict[str, Any]) -> None:
        self._post("request", {"name": "memory-settings", "fields": settings})

    # what runs here

    async def plugin_add(self, plugin: Any, name: str | None = None, catch_errors: bool = True) -> Any:
        """As stock; the worker process then learns whether any plugin wants to hear of transitions."""
        reply = await super().plugin_add(plugin, name, catch_errors)
        self._tell_hooks()
        return reply

    async def plugin_remove(self, name: str) -> Any:
        reply = await super().plugin_remove(name)
        self._tell_hooks()
        return reply

    def _tell_hooks(self) -> None:
        wanted = any(
            getattr(type(plugin), "transition", WorkerPlugin.transition) is not WorkerPlugin.transition
            for plugin in self.plugins.values()
        )
        if wanted != self._wants_transitions:
            self._wants_transitions = wanted
            self._post("request", {"name": "plugin-hooks", "fields": {"transition": wanted}})

    def actor_proxy(self, key: Key) -> Any:
        """A dependency that is an actor of this worker, as a task gets it."""
        from distributed.actor import Actor

        return Actor(type(self.state.actors[key]), self.address, key, self)

    def trigger_profile(self) -> None:
        """One sample of every thread that runs a task (``Worker.trigger_profile``); the stack is cut
        where this package calls the task."""
        active = dict(self.active_threads)
        self._pace_profile(bool(active))
        if not active:
            return
        start = time()
        # without this thread's own: with it the frames, and all that tasks have in them, would be a circle
        frames = {ident: frame for ident, frame in sys._current_frames().items() if ident in active}
        for ident, task in active.items():
            frame = frames.get(ident)
            if frame is not None:
                stop = "executor_tasks.py"
                profile.process(frame, True, self.profile_recent, stop=stop)
                profile.process(frame, True, self.profile_keys[key_split(task)], stop=stop)
        self.digest_metric("profile-duration", time() - start)

    def _pace_profile(self, busy: bool) -> None:
        """A worker at rest is looked at less often: a hundred times a second are 2 % of a core."""
        callback = self.periodic_callbacks.get("profile")
        if callback is None:
            return
        if self._profile_interval is None:
            self._profile_interval = callback.callback_time
        if busy:
            self._idle_looks = 0
            callback.callback_time = self._profile_interval
        elif self._idle_looks < IDLE_LOOKS:
            self._idle_looks += 1
        else:
            callback.callback_time = self._profile_interval * IDLE_PACE

    def heartbeat_extensions(self) -> dict[str, Any]:
        """``extensions`` of a heartbeat: shuffle statistics, and what plugins add."""
        return {
            name: extension.heartbeat()
            for name, extension in self.extensions.items()
            if hasattr(extension, "heartbeat")
        }

    def __getattr__(self, name: str) -> Any:
        # only for what neither __init__ nor the class has
        reason = ELSEWHERE.get(name)
        raise AttributeError(f"the executor's Worker has no {name!r}" + (f": {reason}" if reason else ""))


def _argv(argv: Any) -> list:
    """Arguments of preloads: a list for all, or one list each."""
    return [list(a) if isinstance(a, tuple) else a for a in argv]
