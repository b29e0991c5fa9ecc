"""``python -m dask_ts.executor``: the child of a worker that runs users' tasks and holds their results.

Three kinds of threads: the main thread runs the event loop (coroutine tasks, worker clients,
plugins, calls); one thread reads the bridge and hands tasks straight to the pool; the pool's threads
run tasks and write their outcomes. Messages (besides those of ``bridge``):

from the worker: ``init``, ``execute {tasks}``, ``cancel {key}``, ``put {entries}``, ``get {keys,
serializers}``, ``drop {keys}``, ``call {name, fields}``, ``close``;
to the worker: ``outcomes {items}``, ``seceded``, ``log-event``, ``log``, ``metrics``,
``request {name, fields}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import time
from typing import Any

import dask
from tornado.ioloop import IOLoop

from dask_ts.bridge import Bridge, Message
from dask_ts.bridge_log import BridgeLogHandler, show_logs_once
from dask_ts.executor_calls import Calls
from dask_ts.executor_metrics import MetricsThread
from dask_ts.executor_outcomes import Outcome, OutcomeQueue
from dask_ts.executor_reply import PiecewiseReply, spilled_beyond_room
from dask_ts.executor_scratch import purge_stock_leftovers
from dask_ts.executor_store import close_value, pickle_leaves, travels_plain
from dask_ts.executor_tasks import TaskRunner
from dask_ts.executor_transfer import PartlySent, PeerConnections, encode_plain, write_all
from dask_ts.facade import Worker
from dask_ts.forks import end_if_child, guard_forks
from dask_ts.imports import patience_with_imports
from dask_ts.lent_sockets import LentSockets

logger = logging.getLogger("distributed.worker")

#: Threads that serialize and deserialize values for other workers.
IO_THREADS = 4
#: Threads that wait for peers: as many as there may be transfers, so that none waits behind a slow peer.
FETCH_THREADS = 64
SEND_THREADS = 64
#: Seconds until a lent socket must have come.
LENT_TIMEOUT = 30.0


class Executor:
    """The process: what each message of the worker does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.bridge: Bridge
        self.worker: Worker
        self.tasks: TaskRunner
        self.calls: Calls
        self.metrics: MetricsThread
        self._io = ThreadPoolExecutor(IO_THREADS, thread_name_prefix="dask-ts-io")
        self._fetches = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="dask-ts-fetch")
        self._sends = ThreadPoolExecutor(SEND_THREADS, thread_name_prefix="dask-ts-send")
        self._lent = LentSockets()
        self._peers: PeerConnections
        self.exit_code = 0
        self.finished = asyncio.Event()
        self._background: set[asyncio.Task] = set()
        self._on = {
            "init": self._on_init,
            "execute": self._on_execute,
            "cancel": self._on_cancel,
            "recall": self._on_recall,
            "put": self._on_put,
            "get": self._on_get,
            "send": self._on_send,
            "fetch": self._on_fetch,
            "forget-peer": self._on_forget_peer,
            "ping": self._on_ping,
            "drop": self._on_drop,
            "call": self._on_call,
            "close": self._on_close,
        }

    # in the reader thread

    def on_message(self, message: Message) -> None:
        handler = self._on.get(message["op"])
        if handler is None:
            raise ValueError(f"unknown message of the worker: {message['op']!r}")
        handler(message)

    def on_closed(self) -> None:
        """The worker is gone: nothing that this process holds is of use to anybody."""
        self.loop.call_soon_threadsafe(self.stop, 0)

    def _on_init(self, message: Message) -> None:
        self._on_loop(self._init(message))

    def _on_execute(self, message: Message) -> None:
        self.tasks.execute(message["tasks"])

    def _on_cancel(self, message: Message) -> None:
        self.tasks.cancel(message["key"])

    def _on_recall(self, message: Message) -> None:
        self.bridge.reply(message.get("id"), keys=self.tasks.recall())

    def _on_drop(self, message: Message) -> None:
        self.worker.store.drop(message["keys"])
        self.metrics.changed()

    def _on_put(self, message: Message) -> None:
        self._io.submit(self._put, message)

    def _on_get(self, message: Message) -> None:
        self._io.submit(self._get, message)

    def _on_send(self, message: Message) -> None:
        self._sends.submit(self._send, message)

    def _on_fetch(self, message: Message) -> None:
        self._fetches.submit(self._fetch, message)

    def _on_ping(self, message: Message) -> None:
        self.bridge.reply(message.get("id"))

    def _on_forget_peer(self, message: Message) -> None:
        self._peers.forget(message["address"])

    def _on_call(self, message: Message) -> None:
        self._on_loop(self._call(message))

    def _on_close(self, message: Message) -> None:
        self._on_loop(self._close(message.get("id")))

    def _on_loop(self, coroutine: Any) -> None:
        def start() -> None:
            task = self.loop.create_task(coroutine)
            self._background.add(task)
            task.add_done_callback(self._background.discard)

        self.loop.call_soon_threadsafe(start)

    # in a thread of their own

    def _put(self, message: Message) -> None:
        number = message.get("id")
        try:
            entries = message.pop("entries")
            self.bridge.reply(number, results=self.worker.store.put(entries))
            self.metrics.changed()
        except BaseException as e:
            self.bridge.reply_error(number, e)

    def _get(self, message: Message) -> None:
        number = message.get("id")
        try:
            self.bridge.reply(number, items=self._closed(message))
        except BaseException as e:
            logger.error("Could not send values", exc_info=True)
            self.bridge.reply_error(number, e)

    def _closed(self, message: Message) -> list[tuple[Any, Any]]:
        """Those of the keys that are here, with their values as they travel."""
        serializers = message.get("serializers")
        items = []
        for key in message["keys"]:
            try:
                value = self.value_of(key)
            except KeyError:
                continue
            items.append((key, value if travels_plain(value) else close_value(value, serializers)))
        return items

    def _send(self, message: Message) -> None:
        """Writes a reply to ``get_data`` to the peer's own socket, which the worker process lends."""
        number = message.get("id")
        try:
            with self._lent.take(message["lent"], LENT_TIMEOUT) as sock:
                start = time()
                if spilled := spilled_beyond_room(self.worker, message["keys"]):
                    reply = PiecewiseReply(self.worker.data, spilled, message.get("serializers"), self.value_of)
                    views, sent = reply.encode(message["keys"])
                    serialized = time() - start
                    reply.write(sock, views)
                else:
                    items = self._closed(message)
                    views, sent = encode_plain({"status": "OK", "data": dict(items)}), [key for key, _ in items]
                    serialized = time() - start
                    write_all(sock, views)
            self.bridge.reply(number, keys=sent, serialize=serialized)
        except PartlySent as e:
            self.bridge.reply(number, broken=str(e))
        except BaseException as e:
            logger.error("Could not send values", exc_info=True)
            self.bridge.reply_error(number, e)

    def _fetch(self, message: Message) -> None:
        """Asks a peer for values and holds them."""
        number = message.get("id")
        try:
            start = time()
            try:
                reply = self._peers.get_data(message["address"], message["keys"], message["who"])
            except OSError as e:
                self.bridge.reply(number, unreachable=f"{type(e).__name__}: {e}")
                return
            received = time()
            if reply.get("status") != "OK":
                self.bridge.reply(number, peer=reply)
                return
            data = reply.pop("data")
            keys = list(reversed(data))
            results = self.worker.store.put(_taken_out(data))
            self.bridge.reply(
                number, keys=keys, results=results, network=received - start, deserialize=time() - received
            )
            self.metrics.changed()
        except BaseException as e:
            self.bridge.reply_error(number, e)

    def value_of(self, key: Any) -> Any:
        """A value as another worker gets it: actors stay here, a proxy goes."""
        if key in self.worker.store.actors:
            return self.worker.actor_proxy(key)
        return self.worker.store.data[key]

    # on the loop

    async def _init(self, message: Message) -> None:
        number = message.get("id")
        try:
            if message.get("config"):
                dask.config.update(dask.config.config, message["config"])
            self.worker = worker = Worker(self.post, message)
            outcomes = OutcomeQueue(self._send_outcomes)
            self.tasks = TaskRunner(worker, worker.store, outcomes, worker.pool, self.loop, self._fatal)
            worker.show_tasks(self.tasks.runs)
            self.calls = Calls(worker)
            self._peers = PeerConnections(worker.security)
            self.metrics = MetricsThread(worker, self._send_metrics)
            show_logs_once(BridgeLogHandler(self.bridge))
            patience_with_imports()
            guard_forks(self.bridge)
            await worker.start_parts()
            purge_stock_leftovers(worker.local_directory)
            self.metrics.start()
            self.bridge.reply(
                number,
                local_directory=worker.local_directory,
                startup=await worker.get_startup_information(),
                memory_limit=worker.memory_manager.memory_limit,
            )
        except BaseException as e:
            logger.exception("The executor could not start")
            self.bridge.reply_error(number, e)

    async def _call(self, message: Message) -> None:
        number = message.get("id")
        try:
            value = await self.calls.call(message["name"], message["fields"])
        except (SystemExit, KeyboardInterrupt) as e:
            end_if_child(failed=True)
            self._fatal(e)
            return
        end_if_child()
        try:
            self.bridge.reply(number, value=value)
        except Exception:
            try:
                self.bridge.reply(number, value=pickle_leaves(value))
            except Exception as e:
                self.bridge.reply_error(number, e)

    async def _close(self, number: int | None) -> None:
        try:
            await self.worker.stop_parts()
        except Exception:
            logger.exception("The executor did not close cleanly")
        self.bridge.reply(number)
        self.stop(0)

    def stop(self, code: int) -> None:
        self.exit_code = code
        self.finished.set()

    # to the worker

    def post(self, op: str, fields: dict[str, Any]) -> None:
        self.bridge.send({"op": op, **fields})

    def _send_outcomes(self, items: list[Outcome]) -> None:
        try:
            self.bridge.send_now({"op": "outcomes", "items": items})
        except Exception:
            # one that cannot be encoded must not take the others with it
            for item in items:
                self._send_outcome(item)
        self.metrics.changed()

    def _send_outcome(self, item: Outcome) -> None:
        try:
            self.bridge.send_now({"op": "outcomes", "items": [item]})
        except Exception as e:
            logger.exception("Could not report the outcome of %r", item[1])
            broken = self.tasks.unreportable(item, e)
            self.bridge.send_now({"op": "outcomes", "items": [broken]})

    def _send_metrics(self, figures: dict[str, Any]) -> None:
        self.bridge.send({"op": "metrics", "figures": figures})

    def _fatal(self, exc: BaseException) -> None:
        """A task raised SystemExit or KeyboardInterrupt; like a stock worker, the process ends."""
        logger.critical("A task ended the process: %r", exc)
        code = exc.code if isinstance(exc, SystemExit) else 1
        self.loop.call_soon_threadsafe(self.stop, code if isinstance(code, int) else 1)


def _taken_out(data: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """The items of a dict that holds none of them any longer than its reader."""
    while data:
        yield data.popitem()


async def run() -> int:
    loop = asyncio.get_running_loop()
    IOLoop.current()  # bind tornado to this loop
    executor = Executor(loop)
    executor.bridge = Bridge.from_parent(executor.on_message, executor.on_closed)
    executor.bridge.ready()
    reader = threading.Thread(target=executor.bridge.run, name="dask-ts-bridge", daemon=True)
    reader.start()
    await executor.finished.wait()
    if hasattr(executor, "worker"):
        # releases the scratch directory; plugins had their teardown in close
        with contextlib.suppress(Exception):
            executor.worker.stop()
    return executor.exit_code


def run_until_finished() -> int:
    """Runs the loop to the end, also where a coroutine of a task stops it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    main_task = loop.create_task(run())
    while True:
        try:
            return loop.run_until_complete(main_task)
        except RuntimeError:
            if main_task.done():
                raise
            logger.warning("A task stopped the event loop, which goes on")


def main() -> None:
    try:
        code = run_until_finished()
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except KeyboardInterrupt:
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # threads of tasks may never end
    os._exit(code)


if __name__ == "__main__":
    main()
