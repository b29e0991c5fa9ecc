"""Runs tasks: in threads, on the event loop, or in an executor that the task names.

The path of an ordinary task is reader thread → thread pool → outcome queue; the event loop sees
only coroutines. Mirrors ``distributed.worker.Worker.execute`` and ``_run_task``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from time import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import dask
from distributed.core import error_message
from distributed.exceptions import Reschedule
from distributed.metrics import thread_time
from distributed.utils import thread_state
from distributed.worker import _run_task_async, _run_task_simple, _worker_cvar

from dask_ts.executor_meter import CURRENT, metered_context
from dask_ts.executor_outcomes import FAILURE, RESCHEDULE, SUCCESS, Outcome, OutcomeQueue
from dask_ts.executor_pool import TaskPool, TaskRun
from dask_ts.executor_store import Store, is_tiny, open_value
from dask_ts.forks import end_if_child

if TYPE_CHECKING:
    from dask_ts.facade import Worker

Key = Any

logger = logging.getLogger("distributed.worker")

#: Reading dependencies longer than this (seconds) is reported as ``disk-read``.
DISK_READ = 0.005


class TaskRunner:
    """All tasks of this process.

    Parameters
    ----------
    worker:
        what ``get_worker()`` returns inside tasks
    on_fatal:
        called where a task raises SystemExit or KeyboardInterrupt: it ends the process
    """

    def __init__(
        self,
        worker: Worker,
        store: Store,
        outcomes: OutcomeQueue,
        pool: TaskPool,
        loop: asyncio.AbstractEventLoop,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self.worker = worker
        self.store = store
        self.outcomes = outcomes
        self.pool = pool
        self.loop = loop
        self.on_fatal = on_fatal
        self.runs: dict[Key, TaskRun] = {}
        self._async: dict[TaskRun, asyncio.Task] = {}
        self.context = metered_context(lambda: _worker_cvar.set(worker))
        # get_worker() works in tasks, but not while their data is read; see _outcome
        self.reading_context = metered_context()
        self._execution_state = worker.execution_state

    def execute(self, tasks: Iterable[tuple]) -> None:
        """Starts tasks, in the order given. Never raises: what fails becomes an outcome."""
        for fields in tasks:
            run = TaskRun(self, *fields)
            self.runs[run.key] = run
            executor = run.annotations.get("executor", "default") if run.annotations else "default"
            if executor == "default" and self.worker.executors["default"] is self.pool:
                self.pool.enqueue(run)
            else:
                self._submit(run, executor)

    def cancel(self, key: Key) -> None:
        """Cancels an async task, or one that has not begun; a task in a thread goes on."""
        run = self.runs.get(key)
        if run is not None:
            run.cancelled = True
            self.loop.call_soon_threadsafe(self._cancel_async, run)

    def recall(self) -> list[Key]:
        """Takes back the tasks that no thread has begun."""
        runs = self.pool.take_back()
        for run in runs:
            self.runs.pop(run.key, None)
        return [run.key for run in runs]

    def _cancel_async(self, run: TaskRun) -> None:
        task = self._async.get(run)
        if task is not None:
            task.cancel()

    # in a thread

    def run_here(self, run: TaskRun) -> None:
        """Runs a task in this thread. No exception leaves it: it would end the pool's thread."""
        ident = threading.get_ident()
        active = self.worker.active_threads
        active[ident] = run.key
        thread_state.key = run.key
        thread_state.execution_state = self._execution_state
        thread_state.start_time = time()
        try:
            outcome = self._outcome(run, ident)
        except (SystemExit, KeyboardInterrupt) as e:
            # through the pool's thread they would end nothing but that thread
            end_if_child(failed=True)
            self.on_fatal(e)
            return
        except BaseException as e:
            outcome = self._broken(run, e)
        finally:
            del active[ident]
            del thread_state.key
            del thread_state.execution_state
            del thread_state.start_time
        if outcome is not None:
            self._finish(run, outcome)

    def _outcome(self, run: TaskRun, ident: int) -> Outcome | None:
        if run.cancelled:
            return [RESCHEDULE, run.key, run.run_id]
        try:
            spec = run.run_spec = open_value(run.run_spec)
            data, startstops = self._data_of(run)
            if spec.is_coro:
                self.loop.call_soon_threadsafe(self._start_async, run, data, startstops)
                return None
            run.meter.seconds = 0.0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as e:
            return self._broken(run, e)
        # get_worker() works from here on; opening the spec and its data happens without, as in
        # a stock worker: an Actor that finds a worker there would connect a client at once
        context = self.context.copy()
        context.run(CURRENT.set, run.meter)
        run.start = start = time()
        cpu = thread_time()
        try:
            if run.annotations and "span" in run.annotations:
                value = context.run(self._call_in_span, run, spec, data)
            else:
                value = context.run(spec, data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as e:
            return self._failed(run, e, start, time(), ident, startstops)
        cpu = thread_time() - cpu
        stop = time()
        del data, spec
        meter = run.meter.row(stop - start, cpu)
        outcome = self._succeeded(run, value, start, stop, ident, startstops, meter)
        # this frame outlives its call where the task's code has left a circle with frames in it
        del value
        return outcome

    def _call_in_span(self, run: TaskRun, spec: Any, data: dict[Key, Any]) -> Any:
        """Tasks that this one submits belong to its span (see distributed.spans)."""
        with dask.annotate(span=run.annotations["span"]):
            return spec(data)

    def _data_of(self, run: TaskRun) -> tuple[dict[Key, Any], list | None]:
        if not run.dependencies:
            return {}, None
        return self.reading_context.copy().run(self._read, run)

    def _read(self, run: TaskRun) -> tuple[dict[Key, Any], list | None]:
        CURRENT.set(run.meter)
        start = time()
        values = self.store.data
        actors = self.store.actors
        if actors:
            data = {k: self.worker.actor_proxy(k) if k in actors else values[k] for k in run.dependencies}
        else:
            data = {k: values[k] for k in run.dependencies}
        stop = time()
        if stop - start > DISK_READ:
            return data, [{"action": "disk-read", "start": start, "stop": stop}]
        return data, None

    # on the event loop

    def _start_async(self, run: TaskRun, data: dict, startstops: list | None) -> None:
        if run.cancelled:
            self._finish(run, [RESCHEDULE, run.key, run.run_id])
            return
        context = self.context.copy()
        run.meter.seconds = 0.0
        context.run(CURRENT.set, run.meter)
        task = context.run(self.loop.create_task, self._run_async(run, data, startstops))
        self._async[run] = task
        task.add_done_callback(lambda task: self._async_done(run, task))

    async def _run_async(self, run: TaskRun, data: dict, startstops: list | None) -> Outcome:
        if "span" in run.annotations:
            with dask.annotate(span=run.annotations["span"]):
                return await self._await_spec(run, data, startstops)
        return await self._await_spec(run, data, startstops)

    async def _await_spec(self, run: TaskRun, data: dict, startstops: list | None) -> Outcome:
        run.start = time()
        message = await _run_task_async(run.run_spec, data, 0.0)
        # what stock's function meters of the whole run is said by start and stop
        meter = run.meter
        if meter.metrics is not None:
            meter.seconds -= meter.metrics.pop(("thread-noncpu", "seconds"), 0.0)
        return self._from_message(run, message, startstops, metered=True)

    def _async_done(self, run: TaskRun, task: asyncio.Task) -> None:
        del self._async[run]
        if task.cancelled():  # before its first step
            self._finish(run, [RESCHEDULE, run.key, run.run_id])
            return
        exc = task.exception()
        self._finish(run, task.result() if exc is None else self._broken(run, exc))

    # in other executors

    def _submit(self, run: TaskRun, name: str) -> None:
        try:
            executor = self.worker.executors[name]
        except KeyError:
            known = sorted(self.worker.executors)
            self._finish(
                run,
                self._broken(run, ValueError(f"Invalid executor {name!r}; expected one of: {known}")),
            )
            return
        try:
            if "ThreadPoolExecutor" in str(type(executor)):
                executor.submit(run.run)
            else:
                self.worker.executors["offload"].submit(self._submit_simple, run, executor)
        except Exception as e:
            self._finish(run, self._broken(run, e))

    def _submit_simple(self, run: TaskRun, executor: concurrent.futures.Executor) -> None:
        """A process pool, or anything else that pickles: only the function and its data go there."""
        try:
            spec = run.run_spec = open_value(run.run_spec)
            data, startstops = self._data_of(run)
            run.start = time()
            future = executor.submit(_run_task_simple, spec, data, 0.0)
        except Exception as e:
            self._finish(run, self._broken(run, e))
            return

        def done(future: concurrent.futures.Future) -> None:
            try:
                outcome = self._from_message(run, future.result(), startstops)
            except BaseException as e:
                outcome = self._broken(run, e)
            self._finish(run, outcome)

        future.add_done_callback(done)

    # outcomes

    def _finish(self, run: TaskRun, outcome: Outcome) -> None:
        end_if_child(failed=outcome[0] != SUCCESS)
        # the key may have been given out again, after a cancellation
        if self.runs.get(run.key) is run:
            del self.runs[run.key]
        self.outcomes.add(outcome, not self.pool.idle)

    def _from_message(
        self, run: TaskRun, msg: Mapping[str, Any], startstops: list | None, metered: bool = False
    ) -> Outcome:
        """The outcome of what ``_run_task_simple`` and ``_run_task_async`` return."""
        start, stop, thread = msg["start"], msg["stop"], msg["thread"]
        if msg["op"] == "task-finished":
            meter = run.meter.row(stop - start, None) if metered else None
            return self._succeeded(run, msg["result"], start, stop, thread, startstops, meter)
        exc = msg["actual_exception"]
        if isinstance(exc, Reschedule) or (run.cancelled and isinstance(exc, asyncio.CancelledError)):
            return [RESCHEDULE, run.key, run.run_id]
        error = {k: msg[k] for k in ERROR_FIELDS}
        return self._log_failure(run, error, start, stop, thread, startstops)

    def _succeeded(
        self,
        run: TaskRun,
        value: Any,
        start: float,
        stop: float,
        thread: int | None,
        startstops: list | None,
        meter: list | None,
    ) -> Outcome:
        try:
            nbytes, dumped, name = self.store.add(run.key, value, run.actor)
        except Exception as e:
            # an object over the spill target that cannot be pickled
            return self._failed(run, e, start, stop, thread, startstops)
        metadata = run.state.metadata if run.state is not None else None
        outcome = [
            SUCCESS,
            run.key,
            run.run_id,
            nbytes,
            dumped,
            name,
            start,
            stop,
            thread,
            startstops,
            metadata,
            meter,
        ]
        if is_tiny(value) and not run.actor:
            outcome.append(value)
        return outcome

    def _failed(
        self,
        run: TaskRun,
        exc: BaseException,
        start: float,
        stop: float,
        thread: int | None,
        startstops: list | None,
    ) -> Outcome:
        if isinstance(exc, Reschedule):
            return [RESCHEDULE, run.key, run.run_id]
        return self._log_failure(run, describe_error(exc), start, stop, thread, startstops)

    def _log_failure(
        self,
        run: TaskRun,
        error: dict[str, Any],
        start: float,
        stop: float,
        thread: int | None,
        startstops: list | None,
    ) -> Outcome:
        if not run.cancelled:
            logger.error(
                "Compute Failed\nKey:       %s\nState:     %s\nTask:  %s\nException: %r\nTraceback: %r\n",
                run.key,
                "executing",
                repr(run.run_spec)[:1000],
                error["exception_text"],
                error["traceback_text"],
            )
        meter = run.meter.row(0.0, None) if run.meter.metrics else None
        return [FAILURE, run.key, run.run_id, error, start, stop, thread, startstops, meter]

    def unreportable(self, outcome: Outcome, exc: Exception) -> Outcome:
        """A failure in place of an outcome that could not be sent (its metadata, say)."""
        self.store.drop([outcome[1]])
        return [FAILURE, outcome[1], outcome[2], describe_error(exc), None, None, None, None, None]

    def _broken(self, run: TaskRun, exc: BaseException) -> Outcome:
        """The task did not get as far as its function."""
        logger.error("Exception during execution of task %r", run.key, exc_info=exc)
        return [FAILURE, run.key, run.run_id, describe_error(exc), None, None, None, None, None]


ERROR_FIELDS = ("status", "exception", "traceback", "exception_text", "traceback_text")


#: A client cannot open the pickle of more: a task that recurses without end would never end for it.
MOST_FRAMES = 200
MOST_CAUSES = 50


def describe_error(exc: BaseException) -> dict[str, Any]:
    """``error_message`` without this module's frames at the top of the traceback."""
    tb = exc.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename == __file__:
        tb = tb.tb_next
    _cut_causes(exc)
    _cut_frames(tb)
    exc.__traceback__ = tb
    try:
        raise exc
    except BaseException:
        # ``raise`` has put this frame on top; get_traceback() reads the exception being handled
        exc.__traceback__ = tb
        try:
            return dict(error_message(exc))
        except Exception as e:
            # a text that cannot be made, say: without an outcome the task would never end
            logger.warning("Could not describe the error of a task", exc_info=True)
            name = type(exc).__name__
            return dict(error_message(RuntimeError(f"{name}, which cannot be described: {type(e).__name__}")))


def _cut_frames(tb: TracebackType | None) -> None:
    """Leaves the first and the last frames of a long traceback."""
    frames = []
    while tb is not None:
        frames.append(tb)
        tb = tb.tb_next
    if len(frames) > MOST_FRAMES:
        frames[MOST_FRAMES // 2].tb_next = frames[-MOST_FRAMES // 2]


def _cut_causes(exc: BaseException) -> None:
    """Leaves the last causes of a long chain, each with a traceback that is not too long."""
    for _ in range(MOST_CAUSES):
        before = exc.__cause__ or exc.__context__
        if before is None:
            return
        exc = before
        _cut_frames(exc.__traceback__)
    exc.__cause__ = exc.__context__ = None
