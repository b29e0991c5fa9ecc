"""The threads that run tasks, and what they are given."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, Any

from distributed.protocol.serialize import Pickled
from distributed.threadpoolexecutor import ThreadPoolExecutor

from dask_ts.executor_meter import Meter

if TYPE_CHECKING:
    from dask_ts.executor_tasks import TaskRunner

Key = Any


class TaskPool(ThreadPoolExecutor):
    """distributed's pool, whose threads can secede and rejoin, with a cheaper way in: items with a
    ``run`` method, no future for each."""

    def __init__(self, nthreads: int, thread_name_prefix: str) -> None:
        super().__init__(nthreads, thread_name_prefix=thread_name_prefix)
        self._work_queue: Any = queue.SimpleQueue()

    def enqueue(self, item: Any) -> None:
        self._work_queue.put(item)
        if len(self._threads) < self._max_workers:
            with self._shutdown_lock:
                self._adjust_thread_count()

    def take_back(self) -> list[TaskRun]:
        """The tasks that no thread has taken up, in their order; other work stays."""
        runs: list[TaskRun] = []
        others: list[Any] = []
        while True:
            try:
                item = self._work_queue.get_nowait()
            except queue.Empty:
                break
            (runs if isinstance(item, TaskRun) else others).append(item)
        for item in others:
            self._work_queue.put(item)
        return runs

    @property
    def idle(self) -> bool:
        return self._work_queue.empty()


class TaskRun:
    """One task as the worker asked for it."""

    __slots__ = (
        "actor",
        "annotations",
        "cancelled",
        "dependencies",
        "key",
        "meter",
        "priority",
        "run_id",
        "run_spec",
        "span_id",
        "start",
        "state",
        "tasks",
    )

    def __init__(
        self,
        tasks: TaskRunner,
        key: Key,
        run_id: int,
        run_spec: Pickled,
        dependencies: tuple[Key, ...],
        annotations: dict[str, Any],
        actor: bool,
        priority: tuple,
        span_id: str | None,
    ) -> None:
        self.tasks = tasks
        self.key = key
        self.run_id = run_id
        self.run_spec: Any = run_spec
        self.dependencies = dependencies
        self.annotations = annotations
        self.actor = actor
        self.priority = priority
        self.span_id = span_id
        self.start: float | None = None
        self.cancelled = False
        self.meter = Meter()
        #: The ``TaskState`` that ``get_worker().state.tasks`` shows, made when somebody looks.
        self.state: Any = None

    def run(self) -> None:
        """Called by a pool's thread."""
        self.tasks.run_here(self)
