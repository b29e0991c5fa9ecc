"""The scheduler's Python child: opens what only Python can open, never schedules.

Each request runs in a thread of a small pool, so that a small one does not wait for a huge graph;
coroutines of users run on the loop of the main thread. ``OPS`` is the whole surface.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from distributed.core import error_message

from dask_ts import graph_host_calls as calls
from dask_ts.bridge import Bridge, Message
from dask_ts.bridge_log import one_record_per_line
from dask_ts.graph_columns import Columns
from dask_ts.graph_open import (
    Annotations,
    collector_paused,
    cull,
    make_cull_linear,
    materialize,
    needs_cull,
    open_expression,
    open_pickled,
)

#: Requests at work at once. They share one GIL; more would only hold more graphs in memory.
THREADS = 4

logger = logging.getLogger("dask_ts.graph_host")


class GraphHost:
    """Takes requests off the bridge and answers them."""

    bridge: Bridge

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="graph-host")
        self.loop = asyncio.new_event_loop()

    def start(self, bridge: Bridge) -> None:
        """In the main thread, before messages come."""
        self.bridge = bridge

    def on_message(self, message: Message) -> None:
        op, number = message.pop("op"), message.pop("id", None)
        handler = OPS.get(op)
        if handler is None:
            self.bridge.reply_error(number, ValueError(f"the graph host has no op {op!r}"))
            return
        self.pool.submit(self._answer, handler, op, number, message)

    def _answer(self, handler: Handler, op: str, number: int | None, message: Message) -> None:
        try:
            fields = handler(self, number, **message)
            self.bridge.reply(number, **fields)
        except BaseException as e:
            logger.debug("%s failed", op, exc_info=True)
            try:
                self.bridge.reply(number, **error_message(e, status="uncaught-error"))
            except Exception:
                self.bridge.reply(
                    number,
                    status="uncaught-error",
                    exception=f"{type(e).__name__}: {e}",
                    traceback=None,
                    exception_text=repr(e),
                    traceback_text="",
                )

    def on_closed(self) -> None:
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            pass


Handler = Callable[..., Message]


def open_graph(
    host: GraphHost,
    number: int,
    *,
    expr: Any,
    keys: Any = None,
    code: Any = None,
    annotations: Any = None,
    span_metadata: Any = None,
) -> Message:
    """Chunks of the graph (see ``graph_columns``), then what belongs to the whole of it.

    A reply ``{"needs": "keys"}`` without chunks asks to be asked again with ``keys``.
    """
    with collector_paused():
        opened = open_expression(expr)
        common = open_pickled(annotations)
        dsk, by_type = materialize(opened)
        explicit_cull = needs_cull(opened)
        del opened, expr
        if explicit_cull:
            if keys is None:
                return {"needs": "keys"}
            dsk = cull(dsk, keys)
        merged = Annotations(common, by_type)
        columns = Columns(dsk, merged)
        total = len(dsk)
        for chunk in columns.chunks():
            host.bridge.send({"op": "chunk", "id": number, **chunk})
        return {
            "total": total,
            "external": list(columns.external),
            "annotation_sets": merged.sets,
            "annotations": merged.common,
            "code": [list(source) for source in open_pickled(code) or ()],
            "span_metadata": open_pickled(span_metadata) or {},
        }


OPS: dict[str, Handler] = {
    "open-graph": open_graph,
    "open-pickle-plain": calls.open_pickle_plain,
    "evaluate-key": calls.evaluate_key,
    "shuffle-run-spec": calls.shuffle_run_spec,
    "error-pickle": calls.error_pickle,
    "versions": calls.versions,
    "import-file": calls.import_uploaded,
    "write-cluster-dump": calls.write_cluster_dump,
}


def main() -> None:
    serve(GraphHost)


def serve(make: Callable[[], GraphHost]) -> None:
    """Runs a host until its parent ends it."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s - %(name)s - %(message)s")
    one_record_per_line()
    make_cull_linear()
    # a graph that holds the GIL gives way to small requests sooner than after 5 ms
    sys.setswitchinterval(0.002)
    host = make()
    asyncio.set_event_loop(host.loop)
    host.start(Bridge.from_parent(host.on_message, host.on_closed))
    gc.collect()
    gc.freeze()
    host.bridge.ready()
    threading.Thread(target=host.bridge.run, name="dask-ts-bridge", daemon=True).start()
    host.loop.run_forever()
    # threads that are still at work end with the process
    host.pool.shutdown(wait=False, cancel_futures=True)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    # so that ``__main__`` holds nothing that a user's function could be taken for
    from dask_ts.graph_host import main as run

    run()
