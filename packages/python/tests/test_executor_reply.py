"""Replies that do not fit into memory: what a peer reads, and how much is held meanwhile."""

from __future__ import annotations

import socket
import threading
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from dask_ts.bridge import FrameReader, decode_message
from dask_ts.executor_reply import PiecewiseReply, spilled_beyond_room
from dask_ts.executor_spill import Buffer
from dask_ts.executor_store import open_value
from dask_ts.executor_transfer import PartlySent

SIZE = 2_000_000
COUNT = 20


@pytest.fixture
def data(tmp_path):
    buffer = Buffer(str(tmp_path), target=2.5 * SIZE)
    for i in range(COUNT):
        buffer[f"x-{i}"] = bytes([i]) * SIZE
    buffer["mixed"] = {"small": list(range(100)), "large": bytearray(b"m") * SIZE}
    buffer["last"] = b"l" * SIZE
    return buffer


def exchange(reply: PiecewiseReply, keys: list[str], after_encoding=lambda: None) -> dict[str, Any]:
    """What arrives at the other end."""
    ours, theirs = socket.socketpair()
    messages: list[Any] = []
    errors: list[BaseException] = []

    def write():
        try:
            with ours:
                views, sent = reply.encode(keys)
                after_encoding()
                reply.write(ours, views)
                messages.append(sent)
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=write)
    thread.start()
    opened: list[Any] = []
    reader = FrameReader(lambda frames: opened.append(decode_message(frames)))
    with theirs:
        while reader.read(theirs):
            pass
    thread.join()
    if errors:
        raise errors[0]
    [message] = opened
    assert message["status"] == "OK"
    assert messages == [list(message["data"])]
    return {key: open_value(value) for key, value in message["data"].items()}


def test_what_is_on_disk_arrives_as_it_was(data):
    keys = [*(f"x-{i}" for i in range(COUNT)), "unknown", "mixed", "last"]
    spilled = set(data.slow)
    assert {"x-0", "mixed"} & spilled
    assert len(spilled) > COUNT - 3
    got = exchange(PiecewiseReply(data, spilled, None, data.__getitem__), keys)
    assert {key: bytes(got[key]) for key in keys if key.startswith("x")} == {
        f"x-{i}": bytes([i]) * SIZE for i in range(COUNT)
    }
    assert got["mixed"] == {"small": list(range(100)), "large": bytearray(b"m") * SIZE}
    assert got["last"] == b"l" * SIZE
    # looking has moved nothing
    assert set(data.slow) == spilled


def test_one_value_is_held_at_a_time(data):
    keys = sorted(data.slow)
    reply = PiecewiseReply(data, set(keys), None, data.__getitem__)
    tracemalloc.start()
    try:
        views, _ = reply.encode(keys)
        # a value, its file and its pickle
        assert tracemalloc.get_traced_memory()[1] < 6 * SIZE
        assert sum(map(len, views)) > len(keys) * SIZE
    finally:
        tracemalloc.stop()


def test_a_value_that_is_dropped_meanwhile_breaks_the_message(data):
    keys = ["x-0", "x-1", "x-2"]

    def drop():
        del data["x-1"]

    with pytest.raises(PartlySent, match="x-1"):
        exchange(PiecewiseReply(data, set(keys), None, data.__getitem__), keys, drop)


def test_only_where_it_would_not_fit(data):
    def worker(limit, used):
        manager = SimpleNamespace(memory_limit=limit, memory_pause_fraction=0.8)
        monitor = SimpleNamespace(get_process_memory=lambda: used)
        store = SimpleNamespace(nbytes=dict.fromkeys(data, SIZE))
        return SimpleNamespace(data=data, memory_manager=manager, monitor=monitor, store=store)

    keys = ["x-0", "x-1", "x-2", "last"]
    assert "last" in data.fast
    assert spilled_beyond_room(worker(100 * SIZE, 10 * SIZE), keys) == set()
    assert spilled_beyond_room(worker(100 * SIZE, 78 * SIZE), keys) == {"x-0", "x-1", "x-2"}
    assert spilled_beyond_room(worker(None, 78 * SIZE), keys) == set()
    # nothing is gained with one
    assert spilled_beyond_room(worker(100 * SIZE, 90 * SIZE), ["x-0", "last"]) == set()
