from __future__ import annotations

import gc
import os
import threading
import time
import weakref
from collections import UserDict, defaultdict
from types import SimpleNamespace

import dask
import pytest
from distributed.gc import ThrottledGC
from distributed.utils import RateLimiterFilter

from dask_ts.executor_spill import Buffer
from dask_ts.executor_spill_monitor import SpillMonitor, worker_data
from dask_ts.executor_store import Store, close_value
from executor_child import Child

LIMIT = 1000


class Worker:
    """A process whose memory is what its buffer holds in memory, and ``base``."""

    def __init__(self, data, **fractions):
        self.base = 0
        self.memory_manager = SimpleNamespace(
            data=data,
            memory_limit=LIMIT,
            memory_target_fraction=0.6,
            memory_spill_fraction=0.7,
            memory_pause_fraction=0.8,
            memory_monitor_interval=0.001,
            _throttled_gc=ThrottledGC(),
        )
        self.memory_manager.__dict__.update(fractions)
        self.monitor = SimpleNamespace(get_process_memory=self.memory)
        self.digests = defaultdict(float)

    def memory(self):
        return self.base + 100 * len(getattr(self.memory_manager.data, "fast", ()))

    def digest_metric(self, name, value):
        self.digests[name] += value


@pytest.fixture
def buffer(tmp_path):
    return Buffer(str(tmp_path), target=float("inf"))


def fill(buffer, n):
    for i in range(n):
        buffer[i] = i


def full_disk(buffer):
    for number in range(1000):
        path = os.path.join(buffer.directory, str(number))
        if not os.path.exists(path):
            os.symlink("/dev/full", path)


def test_from_above_spill_down_to_target(buffer):
    worker = Worker(buffer)
    monitor = SpillMonitor(worker, lambda settings: None)
    fill(buffer, 7)
    monitor.check()
    assert not buffer.disk
    fill(buffer, 8)
    monitor.check()
    assert len(buffer.fast) == 6
    assert worker.digests["memory-monitor", "disk-write", "count"] == 2


def test_a_large_result_is_made_room_for_at_once(buffer):
    """The thread that brings it in does so: the next look may come after several more."""
    worker = Worker(buffer)
    monitor = SpillMonitor(worker, lambda settings: None)
    fill(buffer, 9)
    monitor.check_room(8, nbytes=1)
    assert not buffer.disk
    monitor.check_room(8, nbytes=100)
    assert len(buffer.fast) == 6
    worker.memory_manager.memory_spill_fraction = False
    fill(buffer, 9)
    monitor.check_room(8, nbytes=100)
    assert len(buffer.fast) == 9


def test_without_a_target_it_stops_below_spill(buffer):
    worker = Worker(buffer, memory_target_fraction=False)
    fill(buffer, 9)
    SpillMonitor(worker, lambda settings: None).check()
    assert len(buffer.fast) == 7


@pytest.mark.parametrize("off", [{"memory_limit": None}, {"memory_spill_fraction": False}])
def test_off(buffer, off):
    fill(buffer, 20)
    SpillMonitor(Worker(buffer, **off), lambda settings: None).check()
    assert not buffer.disk


def test_unmanaged_memory_is_warned_of(buffer, caplog):
    RateLimiterFilter.reset_timer("distributed.worker.memory")
    worker = Worker(buffer)
    worker.base = 900
    fill(buffer, 2)
    monitor = SpillMonitor(worker, lambda settings: None)
    for _ in range(3):
        monitor.check()
    assert len(buffer.disk) == 2
    assert sum("Unmanaged memory use is high" in record.message for record in caplog.records) == 1


def test_a_mapping_of_the_users_own_is_left_alone():
    worker = Worker(UserDict(a=1))
    worker.base = 900
    SpillMonitor(worker, lambda settings: None).check()


def test_settings_are_told_once_and_when_they_change(buffer):
    told: list = []
    worker = Worker(buffer)
    monitor = SpillMonitor(worker, told.append)
    monitor.check()
    monitor.check()
    worker.memory_manager.memory_pause_fraction = False
    monitor.check()
    assert told == [
        {"memory_limit": LIMIT, "memory_pause_fraction": 0.8},
        {"memory_limit": LIMIT, "memory_pause_fraction": False},
    ]


def test_it_runs_until_it_is_stopped(buffer):
    checked = threading.Event()
    monitor = SpillMonitor(Worker(buffer), lambda settings: checked.set())
    monitor.start()
    assert checked.wait(10)
    monitor.stop()


def test_a_result_without_any_place_is_refused_and_nothing_else_is_lost(buffer):
    worker = Worker(buffer)
    store = Store(buffer, {})
    monitor = SpillMonitor(worker, lambda settings: None)
    store.check_room = monitor.check_room
    full_disk(buffer)
    for i in range(8):
        store.add(i, i)
    monitor.check()
    assert buffer.refused is not None
    with pytest.raises(OSError, match=r"No space left on device: the result of 'more' .* has no place in memory"):
        store.add("more", b"1")
    assert "more" not in buffer
    assert "more" not in store.nbytes
    assert [buffer[i] for i in range(8)] == list(range(8))
    # what others need here is taken all the same
    (outcome,) = store.put([("dependency", close_value(b"1"))])
    assert isinstance(outcome, tuple)
    # below the threshold nothing is refused
    store.drop(["dependency", 0, 1])
    store.add("more", b"1")
    # and with room on the disk again it is as before
    store.put([("much", close_value(b"1"))])
    for name in os.listdir(buffer.directory):
        os.remove(os.path.join(buffer.directory, name))
    store.add("more and more", b"1")
    monitor.check()
    assert len(buffer.fast) == 6


def test_what_the_worker_holds_its_data_in(tmp_path):
    config = {"distributed.worker.memory.target": 0.5, "distributed.worker.memory.max-spill": "1 kB"}
    with dask.config.set(config):
        data = worker_data(str(tmp_path), 1_000_000, 1)
        assert isinstance(data, Buffer)
        assert (data.n, data.max_spill, data.directory) == (500_000, 1000, str(tmp_path / "storage"))
        assert type(worker_data(str(tmp_path), 0, 1)) is dict
        with dask.config.set({"distributed.worker.memory.target": False}):
            assert worker_data(str(tmp_path), 1_000_000, 1).n == float("inf")
            with dask.config.set({"distributed.worker.memory.spill": False}):
                assert type(worker_data(str(tmp_path), 1_000_000, 1)) is dict


class Tracked:
    pass


ALIVE: weakref.WeakSet[Tracked] = weakref.WeakSet()


def track():
    value = Tracked()
    ALIVE.add(value)
    # long enough for the profiler to look at it
    time.sleep(0.1)
    return value


def count_alive():
    return len(ALIVE)


def stop_collecting():
    gc.collect()
    gc.disable()


def test_what_is_dropped_is_freed_at_once():
    """Not at the next collection: until then the worker would be paused."""
    child = Child()
    try:
        child.run("stop", stop_collecting)
        for i in range(4):
            child.run(i, track)
        assert child.result("alive", count_alive) == 4
        child.bridge.send({"op": "drop", "keys": [0, 1, 2, 3]})
        assert child.result("after", count_alive) == 0
    finally:
        child.kill()
