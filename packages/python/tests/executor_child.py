"""An executor as a real child of the test, with the test in the place of the worker process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dask._task_spec import Task
from distributed.protocol.serialize import Serialized, ToPickle

from dask_ts.bridge import Bridge
from dask_ts.executor_store import open_value, travels_plain

PACKAGE = Path(__file__).parent.parent
SUCCESS, FAILURE, RESCHEDULE = 0, 1, 2


class Child:
    """Starts the child; collects what it sends."""

    def __init__(self, **options: Any) -> None:
        ours, theirs = socket.socketpair()
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PACKAGE), str(PACKAGE / "tests")]),
            "DASK_TS_PARENT_PID": str(os.getpid()),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dask_ts.executor"],
            preexec_fn=lambda: os.dup2(theirs.fileno(), 3),
            close_fds=False,
            env=env,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        self.messages: list[dict[str, Any]] = []
        self._arrived = threading.Condition()
        self.bridge = Bridge(ours, self._on_message)
        threading.Thread(target=self.bridge.run, daemon=True).start()
        self.init = self.request(
            "init",
            **{
                "scheduler": "tcp://127.0.0.1:9",
                "address": "tcp://127.0.0.1:1234",
                "nthreads": 2,
                "name": "child",
                "memory_limit": 0,
                **options,
            },
        )

    def _on_message(self, message: dict[str, Any]) -> None:
        with self._arrived:
            self.messages.append(message)
            self._arrived.notify_all()

    def wait_for(self, find: Callable[[list[dict[str, Any]]], Any], timeout: float = 30) -> Any:
        """The first true result of ``find(messages)``."""
        with self._arrived:
            return self._arrived.wait_for(lambda: find(self.messages), timeout)

    def wait_for_op(self, op: str, **fields: Any) -> dict[str, Any]:
        found = self.wait_for(
            lambda messages: next(
                (m for m in messages if m["op"] == op and all(m.get(k) == v for k, v in fields.items())),
                None,
            )
        )
        assert found is not None, f"no {op} came"
        return found

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        return self.bridge.request_sync(op, 60, **fields)

    def call(self, name: str, **fields: Any) -> Any:
        return open_value(self.request("call", name=name, fields=fields)["value"])

    def execute(
        self,
        key: Any,
        func: Callable[..., Any],
        *args: Any,
        dependencies: tuple = (),
        annotations: dict | None = None,
        actor: bool = False,
    ) -> None:
        spec = ToPickle(Task(key, func, *args))
        row = [key, 1, spec, list(dependencies), annotations or {}, actor, [0], None]
        self.bridge.send({"op": "execute", "tasks": [row]})

    def outcome(self, key: Any) -> list[Any]:
        found = self.wait_for(
            lambda messages: next(
                (item for m in messages if m["op"] == "outcomes" for item in m["items"] if item[1] == key),
                None,
            )
        )
        assert found is not None, f"no outcome of {key!r} came"
        return found

    def run(self, key: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        self.execute(key, func, *args, **kwargs)
        return self.outcome(key)

    def result(self, key: Any, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a task and fetches its value."""
        outcome = self.run(key, func, *args, **kwargs)
        assert outcome[0] == SUCCESS, outcome[3]
        return self.value(key)

    def value(self, key: Any) -> Any:
        (item,) = self.request("get", keys=[key], serializers=None)["items"]
        assert isinstance(item[1], Serialized) or travels_plain(item[1])
        return open_value(item[1])

    def close(self) -> int:
        try:
            self.request("close")
        except ConnectionError:
            pass
        return self.process.wait(20)

    def kill(self) -> None:
        self.bridge.close()
        self.process.kill()
        self.process.wait()
