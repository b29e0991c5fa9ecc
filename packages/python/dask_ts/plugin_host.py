"""The process in which user code of the scheduler runs: plugins, preload modules, run_on_scheduler, feeds.

It is a graph host as well (a graph that needs what user code did here is opened here), but users'
functions never run where other graphs are opened: they may block or end their process. All of them
run on the loop of the main thread, one at a time, as inside a stock scheduler; requests for graphs
have threads of their own.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

import click
from dask.utils import funcname
from distributed.core import error_message
from distributed.preloading import PreloadManager, process_preloads
from distributed.protocol import pickle
from distributed.utils import has_arg, import_file, iscoroutinefunction

from dask_ts.amm_view import AmmView, amm_add, amm_run
from dask_ts.bridge import Bridge, Message
from dask_ts.executor_store import close_value
from dask_ts.graph_host import GraphHost, serve
from dask_ts.graph_open import open_pickled
from dask_ts.plugin_watch import Mark
from dask_ts.scheduler_plugins import Plugins, in_function
from dask_ts.scheduler_view import SchedulerView
from dask_ts.view_source import Source

logger = logging.getLogger("distributed.scheduler")


class Feed:
    """One ``feed``: what its functions made, for a peer that reads it at its pace."""

    def __init__(self, function: Callable, teardown: Callable | None, state: Any) -> None:
        self.function = function
        self.teardown = teardown
        self.state = state


class PluginHost(GraphHost):
    """See the module."""

    thread_id: int
    view: SchedulerView

    def __init__(self) -> None:
        super().__init__()
        self.mark = Mark(os.environ.pop("DASK_TS_MARK", None))
        self.folder = os.environ.pop("DASK_TS_FOLDER", os.getcwd())
        self.plugins = Plugins(self)
        self.preloads = PreloadManager([])
        self.feeds: dict[int, Feed] = {}
        self.amm = AmmView(self)
        self._tasks: set[asyncio.Task] = set()

    def start(self, bridge: Bridge) -> None:
        """In the main thread, before messages come."""
        self.bridge = bridge
        self.thread_id = threading.get_ident()
        self.source = Source(bridge, self.loop)
        self.view = SchedulerView(self)
        self.background(self.view.rpc.start())
        self.mark.watch()

    def background(self, work: Coroutine) -> asyncio.Task:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # messages

    def on_message(self, message: Message) -> None:
        if message["op"] in LOOP_OPS:
            try:
                self.loop.call_soon_threadsafe(self._on_loop, message)
            except RuntimeError:  # the loop has ended
                pass
        else:
            super().on_message(message)

    def _on_loop(self, message: Message) -> None:
        op, number = message.pop("op"), message.pop("id", None)
        try:
            result = LOOP_OPS[op](self, **message)
        except Exception as e:
            self._reply_error(number, e)
            return
        if inspect.isawaitable(result):
            self.background(self._answer_later(number, result))
        else:
            self._reply(number, result)

    async def _answer_later(self, number: int | None, work: Awaitable[Message | None]) -> None:
        try:
            result = await work
        except Exception as e:
            self._reply_error(number, e)
        else:
            self._reply(number, result)

    def _reply(self, number: int | None, result: Message | None) -> None:
        try:
            self.bridge.reply(number, **(result or {}))
        except Exception as e:
            self._reply_error(number, e)

    def _reply_error(self, number: int | None, exc: BaseException) -> None:
        try:
            self.bridge.reply_error(number, exc)
        except Exception:
            # the exception cannot be pickled
            text = f"{type(exc).__name__}: {exc}"
            self.bridge.reply_error(number, RuntimeError(text))

    def tell_handlers(self) -> None:
        """The scheduler's process passes on these ops of its peers."""
        self.bridge.send(
            {
                "op": "handlers",
                "handlers": [str(op) for op in self.view.handlers],
                "stream_handlers": [str(op) for op in self.view.stream_handlers],
            }
        )


# ops, on the loop


async def run_function(
    host: PluginHost,
    *,
    function: Any,
    args: Any = (),
    kwargs: Any = None,
    wait: Any = True,
    serializers: Any = None,
) -> Any:
    """``distributed.worker.run`` with the view for ``dask_scheduler=``; the result comes in the families
    that the caller allows."""
    call = opened(function)
    is_coroutine = iscoroutinefunction(call)
    if not (wait or is_coroutine):
        raise AssertionError("Combination not supported")
    positional = opened(args) if args else ()
    keywords = dict(opened(kwargs)) if kwargs else {}
    for name in ("dask_worker", "dask_scheduler"):
        if has_arg(call, name):
            keywords[name] = host.view
    name = funcname(call)
    logger.info("Run out-of-band function %r", name)
    in_function.set(True)
    try:
        if not is_coroutine:
            with host.mark.at(f"function {name!r}", "run_on_scheduler"):
                result = call(*positional, **keywords)
        elif wait:
            result = await call(*positional, **keywords)
        else:
            host.view._ongoing_background_tasks.call_soon(call, *positional, **keywords)
            result = None
    except Exception as e:
        logger.warning("Run Failed: function %s: %s: %s", name[:1000], type(e).__name__, e)
        logger.debug("The traceback:", exc_info=True)
        return error_message(e)
    return {"status": "OK", "result": close_value(result, serializers)}


async def plugin_add(host: PluginHost, *, plugin: Any, name: str | None, idempotent: Any) -> Message:
    """``Scheduler.register_scheduler_plugin``."""
    return {"name": await host.plugins.register(plugin, name, bool(idempotent))}


def plugin_remove(host: PluginHost, *, name: str) -> None:
    """``Scheduler.unregister_scheduler_plugin``."""
    host.plugins.remove(name)


def events(host: PluginHost, *, rows: Any) -> None:
    """What happened in the scheduler, for the hooks. The reply asks for more."""
    host.plugins.events(rows)


def valid_workers_downscaling(host: PluginHost, *, workers: Any) -> Message:
    return host.plugins.keep(workers)


def upload(host: PluginHost, *, path: str, load: Any) -> None:
    """A file of before this process was started anew."""
    if load:
        import_file(path)


async def preload(host: PluginHost, *, preload: Any, preload_argv: Any, check: bool) -> Message:
    """Imports preload modules; with ``check`` ``usage`` says what is wrong with their arguments."""
    argv = [list(part) if isinstance(part, tuple) else part for part in preload_argv]
    with host.mark.at("a preload module", "its import"):
        host.preloads = process_preloads(cast(Any, host.view), list(preload), argv)
    if not check:
        return {}
    commands = [p.module.dask_setup for p in host.preloads if isinstance(_setup(p.module), click.Command)]
    try:
        if len(commands) > 1:
            raise click.UsageError(f"Multiple --preload modules with click-configurable setup: {list(preload)}")
        if argv and not commands:
            raise click.UsageError(
                f"Unknown argument specified: {tuple(argv)!r} Was click-configurable --preload target provided?"
            )
        for command in commands:
            command.parse_args(click.Context(command, allow_extra_args=False), list(argv))
    except click.ClickException as e:
        return {"usage": e.format_message()}
    return {}


def _setup(module: Any) -> Any:
    return getattr(module, "dask_setup", None)


async def preload_start(host: PluginHost) -> None:
    """Calls ``dask_setup`` of each; failures are logged."""
    await host.preloads.start()


async def closing(host: PluginHost) -> None:
    """The scheduler is about to close: what stock's ``Scheduler.close`` does first."""
    await host.plugins.call_all("before_close")
    await host.preloads.teardown()
    await host.plugins.call_all("close")
    for callback in host.view.periodic_callbacks.values():
        callback.stop()
    host.view._event_finished.set()
    await host.view.rpc.close()


async def feed_open(host: PluginHost, *, feed: int, function: Any, setup: Any, teardown: Any) -> None:
    """The setup of ``Scheduler.feed``."""
    make, ready, end = (opened(f) if f else None for f in (function, setup, teardown))
    if make is None:
        raise TypeError("a feed needs a function")
    state = None
    if ready is not None:
        with host.mark.at(f"function {funcname(ready)!r}", "the setup of a feed"):
            state = ready(host.view)
        if inspect.isawaitable(state):
            state = await state
    host.feeds[feed] = Feed(make, end, state)


def feed_next(host: PluginHost, *, feed: int) -> Message:
    """The next message of a feed."""
    made = host.feeds[feed]
    arguments = (host.view,) if made.state is None else (host.view, made.state)
    with host.mark.at(f"function {funcname(made.function)!r}", "a feed"):
        return {"value": made.function(*arguments)}


def feed_close(host: PluginHost, *, feed: int) -> None:
    """The teardown of a feed."""
    made = host.feeds.pop(feed, None)
    if made is not None and made.teardown is not None:
        with host.mark.at(f"function {funcname(made.teardown)!r}", "the teardown of a feed"):
            made.teardown(host.view, made.state)


async def handle(host: PluginHost, *, name: str, fields: dict[str, Any]) -> Message:
    """An RPC op that user code put into ``scheduler.handlers``."""
    handler = host.view.handlers[name]
    result = handler(**({"comm": None} if has_arg(handler, "comm") else {}), **fields)
    if inspect.isawaitable(result):
        result = await result
    return {"value": result}


async def handle_stream(host: PluginHost, *, name: str, fields: dict[str, Any]) -> None:
    """An op of a worker's or client's stream that user code put into ``scheduler.stream_handlers``."""
    result = host.view.stream_handlers[name](**fields)
    if inspect.isawaitable(result):
        await result


LOOP_OPS: dict[str, Callable[..., Any]] = {
    "run-function": run_function,
    "plugin-add": plugin_add,
    "plugin-remove": plugin_remove,
    "events": events,
    "valid-workers-downscaling": valid_workers_downscaling,
    "upload": upload,
    "preload": preload,
    "preload-start": preload_start,
    "closing": closing,
    "feed-open": feed_open,
    "feed-next": feed_next,
    "feed-close": feed_close,
    "handle": handle,
    "handle-stream": handle_stream,
    "amm-add": amm_add,
    "amm-run": amm_run,
}


def opened(value: Any) -> Any:
    """What a pickle holds, as bytes or closed."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return pickle.loads(value)
    return open_pickled(value)


def main() -> None:
    serve(PluginHost)


if __name__ == "__main__":
    # so that ``__main__`` holds nothing that a user's function could be taken for
    from dask_ts.plugin_host import main as run

    run()
