from __future__ import annotations

import errno
import gc
import os
import random
import threading
import time

import dask
import numpy as np
import pytest
from distributed.metrics import context_meter
from distributed.spill import ManualEvictProto, SpillBuffer

from dask_ts.executor_spill import Buffer

KB = 1000


class Value:
    """Of any size for ``sizeof``; pickling may wait or fail."""

    def __init__(self, size=KB, n=0, error=None):
        self.size = size
        self.n = n
        self.error = error

    def __sizeof__(self):
        return self.size

    def __reduce__(self):
        if self.error is not None:
            raise self.error
        return Value, (self.size, self.n)


def fill(buffer, n, size=KB):
    for i in range(n):
        buffer[f"k{i}"] = Value(size, i)


def files(buffer):
    return sorted(os.listdir(buffer.directory))


def full_disk(buffer, n=100):
    """Whatever the buffer writes next meets ENOSPC."""
    first = 1 + max((int(name) for name in files(buffer)), default=-1)
    for number in range(first, first + n):
        os.symlink("/dev/full", os.path.join(buffer.directory, str(number)))


def room_again(buffer):
    for name in files(buffer):
        path = os.path.join(buffer.directory, name)
        if os.path.islink(path):
            os.remove(path)


@pytest.fixture
def buffer(tmp_path):
    return Buffer(str(tmp_path / "storage"), target=3 * KB + 500)


def test_the_least_recently_used_goes_first(buffer):
    fill(buffer, 3)
    assert buffer["k0"].n == 0
    buffer["k3"] = Value()
    buffer["k4"] = Value()
    assert list(buffer.slow) == ["k1", "k2"]
    assert set(buffer.fast) == {"k0", "k3", "k4"}
    assert len(files(buffer)) == 2
    assert buffer.spilled_total.memory > 2 * KB - 1


def test_reading_brings_back_and_sends_the_oldest_away(buffer):
    fill(buffer, 5)
    assert set(buffer.disk) == {"k0", "k1"}
    assert buffer["k0"].n == 0
    assert set(buffer.disk) == {"k1", "k2"}
    assert len(files(buffer)) == 2
    assert {buffer[f"k{i}"].n for i in range(5)} == set(range(5))


def test_dropping_leaves_nothing(buffer):
    fill(buffer, 6)
    for key in list(buffer):
        del buffer[key]
    assert not files(buffer)
    assert len(buffer) == 0
    assert buffer.fast.total_weight == 0
    assert buffer.spilled_total == (0, 0)
    with pytest.raises(KeyError):
        del buffer["k0"]
    with pytest.raises(KeyError):
        buffer["k0"]


def test_a_new_value_replaces_the_old_one_wherever_it_is(buffer):
    fill(buffer, 5)
    for key in ("k0", "k4"):
        buffer[key] = Value(10, 99)
        assert buffer[key].n == 99
    assert len(buffer) == 5
    assert len(files(buffer)) == len(buffer.slow)


def test_a_value_over_the_target_goes_straight_to_disk_and_stays_there(buffer):
    fill(buffer, 3)
    buffer["big"] = Value(10 * KB, 7)
    assert list(buffer.slow) == ["big"]
    assert set(buffer.fast) == {"k0", "k1", "k2"}
    assert buffer["big"].n == 7
    assert list(buffer.slow) == ["big"]


def test_a_value_over_the_target_that_cannot_be_pickled_is_refused(buffer):
    fill(buffer, 3)
    cause = ValueError("not me")
    with pytest.raises(TypeError, match="Failed to pickle 'big'") as e:
        buffer["big"] = Value(10 * KB, error=cause)
    assert e.value.__cause__.__cause__ is cause or e.value.__cause__ is cause
    assert "big" not in buffer
    assert set(buffer.fast) == {"k0", "k1", "k2"}


def test_what_cannot_be_pickled_stays_and_others_go_in_its_place(buffer, caplog):
    buffer["bad"] = Value(error=ValueError("not me"))
    fill(buffer, 5)
    assert "bad" in buffer.fast
    assert set(buffer.slow) == {"k0", "k1", "k2"}
    (record,) = [record for record in caplog.records if record.name == "distributed.spill"]
    assert record.getMessage().startswith("Failed to pickle 'bad'\n")
    # the log does not keep the value
    assert record.exc_info is None
    del record
    caplog.clear()
    buffer["bad"] = Value(n=1)
    buffer["k5"] = buffer["k6"] = buffer["k7"] = Value()
    assert "bad" in buffer.slow


def test_a_full_disk_loses_nothing(buffer, caplog):
    fill(buffer, 4)
    full_disk(buffer)
    fill(buffer, 8)
    assert buffer.refused.errno == errno.ENOSPC
    assert buffer.refused.__traceback__ is None
    assert [buffer[f"k{i}"].n for i in range(8)] == list(range(8))
    assert "Spill to disk failed; keeping data in memory" in caplog.text
    buffer["big"] = Value(10 * KB, 1)
    assert "big" in buffer.fast
    assert buffer.evict() == -1
    room_again(buffer)
    assert buffer.evict() > 0
    assert buffer.refused is None
    fill(buffer, 1)
    assert buffer.fast.total_weight <= buffer.n


def test_half_a_file_is_not_left_behind(buffer, monkeypatch):
    class HalfFile:
        def __init__(self, path, mode):
            self.file = os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY), mode)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def writelines(self, frames):
            self.file.write(b"half")
            self.file.flush()
            raise OSError(errno.ENOSPC, "No space left on device")

    fill(buffer, 3)
    monkeypatch.setattr("dask_ts.executor_spill.open", HalfFile, raising=False)
    assert buffer.evict() == -1
    assert not files(buffer)
    assert buffer._writing == 0


def test_a_disk_that_becomes_free_in_a_moment_is_not_full(buffer, monkeypatch):
    """Large files are deleted behind; who needs their place waits for it."""
    monkeypatch.setattr("dask_ts.executor_spill.LARGE_FILE", 0)
    may_delete = threading.Event()
    remove = os.remove

    def late_remove(path):
        assert may_delete.wait(10)
        remove(path)
        room_again(buffer)

    fill(buffer, 4)
    full_disk(buffer)
    monkeypatch.setattr(os, "remove", late_remove)
    del buffer["k0"]
    threading.Timer(0.05, may_delete.set).start()
    assert buffer.evict() > 0
    assert buffer.refused is None


def test_max_spill(tmp_path, caplog):
    value = os.urandom(KB)
    buffer = Buffer(str(tmp_path), target=3 * KB + 500, max_spill=2500)
    for i in range(10):
        buffer[i] = value
    assert len(buffer.slow) == 2
    assert buffer.spilled_total.disk <= 2500
    assert len(buffer.fast) == 8
    assert "Spill file on disk reached capacity; keeping data in memory" in caplog.text
    # not a fault of the disk
    assert buffer.refused is None
    # one over the target is tried before the others; they may find place where it does not
    del buffer[0]
    buffer["big"] = os.urandom(20 * KB)
    assert set(buffer.slow) == {1, 2}
    for key in list(buffer):
        del buffer[key]
    for i in range(5):
        buffer[i] = value
    assert len(buffer.slow) == 2


def test_evict_moves_one_and_says_how_much(buffer):
    assert isinstance(buffer, SpillBuffer)
    assert hasattr(ManualEvictProto, "evict")
    assert not buffer.fast
    assert buffer.evict() == -1
    fill(buffer, 2)
    assert buffer.evict() >= KB
    assert list(buffer.slow) == ["k0"]
    buffer.evict()
    assert not buffer.fast


@pytest.mark.parametrize("compression", ["auto", False])
def test_what_shrinks_is_compressed(tmp_path, compression):
    with dask.config.set({"distributed.worker.memory.spill-compression": compression}):
        buffer = Buffer(str(tmp_path), target=1000)
    buffer["zeros"] = np.zeros(100_000)
    buffer["noise"] = np.random.default_rng(0).random(100_000)
    sizes = {key: size.disk for key, size in buffer.slow.weight_by_key.items()}
    assert sizes["noise"] >= 800_000
    assert (sizes["zeros"] < 80_000) is (compression == "auto")
    assert buffer["zeros"].sum() == 0
    buffer["zeros"][0] = 1  # arrays can be written to, as before


def test_a_value_still_in_use_is_not_read_twice(buffer):
    fill(buffer, 3)
    first = buffer["k0"]
    while buffer.fast:
        buffer.evict()
    assert buffer["k0"] is first
    reads = buffer.cumulative_metrics.get(("disk-read", "count"), 0)
    assert reads == 0
    del first
    buffer.evict()
    gc.collect()
    assert buffer["k0"].n == 0
    assert buffer.cumulative_metrics["disk-read", "count"] == 1


def test_what_is_metered(buffer):
    seen = []
    fill(buffer, 4)
    with context_meter.add_callback(lambda *row: seen.append(row)):
        buffer["k3"]
        buffer["k0"]
    labels = {(label, unit) for label, _, unit in seen}
    assert {
        ("memory-read", "count"),
        ("memory-read", "bytes"),
        ("disk-read", "seconds"),
        ("disk-read", "bytes"),
    } <= labels
    metrics = buffer.cumulative_metrics
    assert metrics["memory-read", "count"] == 1
    assert metrics["disk-write", "count"] == 2
    assert metrics["disk-write", "bytes"] > 0
    assert ("serialize", "seconds") in metrics


def test_looking_moves_nothing(buffer):
    fill(buffer, 5)
    before = list(buffer.fast), list(buffer.slow)
    assert [value.n for value in buffer.values()] == [2, 3, 4, 0, 1]
    assert {key: value.n for key, value in buffer.items()}["k0"] == 0
    assert buffer.slow["k1"].n == 1
    assert buffer.fast["k4"].n == 4
    assert "k0" not in buffer.fast
    with pytest.raises(KeyError):
        buffer.fast["k0"]
    assert (list(buffer.fast), list(buffer.slow)) == before
    with pytest.raises(NotImplementedError):
        buffer.pop("k0", None)


def test_a_value_dropped_while_it_is_written_leaves_no_file(buffer):
    entered, go_on = threading.Event(), threading.Event()

    class Slow(Value):
        def __reduce__(self):
            entered.set()
            assert go_on.wait(10)
            return Value, (self.size, self.n)

    buffer["slow"] = Slow()
    evicted: list = []
    thread = threading.Thread(target=lambda: evicted.append(buffer.evict()))
    thread.start()
    assert entered.wait(10)
    # nobody waits for the one that is being written
    assert isinstance(buffer["slow"], Slow)
    fill(buffer, 6)
    assert buffer["k0"].n == 0
    del buffer["slow"]
    go_on.set()
    thread.join(10)
    assert evicted == [0]
    assert "slow" not in buffer
    assert len(files(buffer)) == len(buffer.slow)
    assert buffer._leaving == 0


def test_two_that_want_the_same_spilled_value_get_one(buffer, monkeypatch):
    entered, go_on = threading.Event(), threading.Event()
    read = Buffer._read

    def slow_read(self, entry):
        entered.set()
        assert go_on.wait(10)
        return read(self, entry)

    fill(buffer, 5)
    monkeypatch.setattr(Buffer, "_read", slow_read)
    got: list = []
    threads = [threading.Thread(target=lambda: got.append(buffer["k0"])) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(got) == 3
    assert got[0] is got[1] is got[2]


def test_a_file_that_is_gone_is_an_error_of_its_reader_only(buffer):
    fill(buffer, 5)
    os.remove(os.path.join(buffer.directory, files(buffer)[0]))
    with pytest.raises(FileNotFoundError):
        buffer["k0"]
    assert buffer["k1"].n == 1


def test_many_threads(tmp_path):
    """Readers, writers, evictions and drops at once: each reads what was written last."""
    buffer = Buffer(str(tmp_path), target=20 * KB)
    errors: list = []
    stop = time.monotonic() + 1

    def work(seed):
        rng = random.Random(seed)
        mine = [(seed, i) for i in range(15)]
        held: dict = {}
        try:
            while time.monotonic() < stop:
                key = rng.choice(mine)
                action = rng.random()
                if action < 0.3:
                    held[key] = n = rng.random()
                    buffer[key] = Value(rng.choice([KB, 2 * KB, 30 * KB]), n)
                elif action < 0.4 and key in held:
                    del held[key]
                    del buffer[key]
                elif action < 0.5:
                    buffer.evict()
                elif key in held:
                    assert buffer[key].n == held[key]
                buffer["shared"]
            for key, n in held.items():
                assert buffer[key].n == n
                del buffer[key]
        except BaseException as e:
            errors.append(e)

    buffer["shared"] = Value(KB, 1)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    del buffer["shared"]
    assert not files(buffer)
    assert (buffer.fast.total_weight, buffer.spilled_total, buffer._leaving, buffer._writing) == (0, (0, 0), 0, 0)
