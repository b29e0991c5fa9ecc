"""Asks the scheduler's process for facts, and keeps each answer for one turn of the loop.

Code that runs inside a stock scheduler sees nothing change until it gives up the loop. So an answer
may be kept for as long; what is kept longer than ``MAX_AGE`` is asked again, for code that waits
in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator
from typing import Any

from distributed.core import clean_exception

from dask_ts.bridge import Bridge, Message

#: Seconds.
MAX_AGE = 0.5
TIMEOUT = 30
#: Facts asked for at once.
PAGE = 500


def raise_for(reply: Message) -> Message:
    """The reply; raises the exception that it carries, if any."""
    if reply.get("status") in ("error", "uncaught-error") and "exception_text" in reply:
        _, exc, tb = clean_exception(**{k: _opened(reply.get(k)) for k in ("exception", "traceback")})
        if exc is None:
            exc = RuntimeError(str(reply.get("exception_text")))
        raise exc.with_traceback(tb)
    return reply


def _opened(value: Any) -> Any:
    from distributed.protocol.serialize import Serialized, deserialize

    return deserialize(value.header, value.frames) if isinstance(value, Serialized) else value


class Source:
    """Facts by kind (``worker``, ``task``, ``client``, ``group``, ``prefix``) and key."""

    def __init__(self, bridge: Bridge, loop: asyncio.AbstractEventLoop) -> None:
        self.bridge = bridge
        self.loop = loop
        self._facts: dict[tuple[str, Any], dict[str, Any] | None] = {}
        self._values: dict[str, Any] = {}
        self._deadline = 0.0
        self._armed = False
        #: Tasks that are likely to be asked for next: those of the transitions at hand.
        self.hint: list[Any] = []
        #: What a forgotten task was, while the plugins hear of it.
        self.forgotten: dict[Any, dict[str, Any]] = {}

    def forget(self) -> None:
        """Nothing that was said before counts any more."""
        self._armed = False
        self._facts.clear()
        self._values.clear()

    def _fresh(self) -> None:
        if time.monotonic() > self._deadline:
            self._renew()
        if not self._armed:
            self._armed = True
            try:
                self.loop.call_soon_threadsafe(self.forget)
            except RuntimeError:  # the loop is closed
                pass

    def _renew(self) -> None:
        self._facts.clear()
        self._values.clear()
        self._deadline = time.monotonic() + MAX_AGE

    def ask(self, op: str, **fields: Any) -> Message:
        """One question. Raises what the scheduler raises."""
        return raise_for(self.bridge.request_sync(op, TIMEOUT, **fields))

    async def ask_async(self, op: str, **fields: Any) -> Message:
        return raise_for(await self.bridge.request(op, **fields))

    def value(self, name: str) -> Any:
        """A value of the scheduler itself; AttributeError where it has none of that name."""
        self._fresh()
        if name not in self._values:
            self._values[name] = self.ask("view-value", name=name).get("value")
        return self._values[name]

    def facts(self, kind: str, key: Any) -> dict[str, Any] | None:
        """None where the scheduler does not know the key."""
        self._fresh()
        at = (kind, key)
        if at not in self._facts:
            keys = [key]
            if kind == "task" and self.hint:
                keys += [k for k in self.hint if k != key and (kind, k) not in self._facts]
                self.hint = []
            self.prefetch(kind, keys)
        facts = self._facts.get(at)
        return self.forgotten.get(key) if facts is None and kind == "task" else facts

    def prefetch(self, kind: str, keys: list[Any]) -> None:
        for start in range(0, len(keys), PAGE):
            page = keys[start : start + PAGE]
            reply = self.ask("view-facts", kind=kind, keys=page)
            if len(page) > 1:
                # a page counts from when it came, or a slow machine would ask for each of its objects again
                self._renew()
            for key, facts in zip(page, reply["facts"], strict=True):
                self._facts[kind, key] = facts

    def field(self, kind: str, key: Any, name: str) -> Any:
        """A large or closed field of one object."""
        return self.ask("view-field", kind=kind, key=key, name=name).get("value")

    def count(self, what: str) -> int:
        self._fresh()
        at = f"#{what}"
        if at not in self._values:
            self._values[at] = self.ask("view-count", what=what)["count"]
        return self._values[at]

    def scan(self, what: str, key: Any = None) -> Iterator[Any]:
        """All keys of a collection, in pages; what comes or goes meanwhile may be in it or not."""
        for page in self.pages(what, key):
            yield from page

    def pages(self, what: str, key: Any = None) -> Iterator[Iterable[Any]]:
        cursor = None
        while True:
            reply = self.ask("view-scan", what=what, key=key, cursor=cursor)
            yield reply["keys"]
            cursor = reply.get("cursor")
            if cursor is None:
                return

    def call(self, op: str, fields: Message) -> Any:
        """An RPC op of the scheduler, from code that cannot wait."""
        try:
            return self.ask("scheduler-call", name=op, fields=fields).get("value")
        finally:
            self.forget()

    async def call_async(self, op: str, fields: Message) -> Any:
        try:
            return (await self.ask_async("scheduler-call", name=op, fields=fields)).get("value")
        finally:
            self.forget()
