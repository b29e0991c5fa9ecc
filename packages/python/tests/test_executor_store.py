from __future__ import annotations

import threading
from collections import deque

import numpy as np
import pytest
from distributed.protocol.serialize import Serialized, to_serialize
from distributed.spill import SpillBuffer

from dask_ts.executor_outcomes import OutcomeQueue
from dask_ts.executor_store import Store, TypeCache, close_value, open_value, pickle_leaves


def test_values_go_out_and_in_with_the_headers_of_a_stock_reply():
    array = np.arange(1000)
    closed = close_value(array)
    assert closed.header["serializer"] == "dask"
    assert closed.header["split-num-sub-frames"] == (1,)
    assert closed.header["compression"] == [None]
    np.testing.assert_array_equal(open_value(closed), array)
    assert open_value({"a": (closed, 1), "b": [closed]})["a"][1] == 1


def test_serializers_are_honoured_and_errors_become_the_error_family():
    assert close_value(np.arange(3), ["pickle"]).header["serializer"] == "pickle"
    closed = close_value(threading.Lock())
    assert closed.header["serializer"] == "error"
    with pytest.raises(TypeError, match="lock"):
        open_value(closed)


def test_put_describes_each_value_and_keeps_the_good_ones():
    store = Store({}, {})
    bad = close_value(threading.Lock())
    good, error = store.put([("a", close_value(b"123")), ("b", bad)])
    assert good[0] == len(b"123") or good[0] > 3
    assert good[2] == "bytes"
    assert error["status"] == "error"
    assert store.data == {"a": b"123"}
    assert store.managed_bytes == good[0]
    store.drop(["a", "b", "never there"])
    assert store.managed_bytes == 0
    assert not store.data


def test_actors_stay_apart():
    store = Store({}, {})
    store.add("a", object(), actor=True)
    assert "a" in store.actors
    assert not store.data
    store.drop(["a"])
    assert not store.actors


def test_spilled_values_are_counted(tmp_path):
    store = Store(SpillBuffer(str(tmp_path), target=3000), {})
    for i in range(4):
        store.add(i, b"x" * 1000)
    memory, disk = store.spilled_bytes()
    assert memory >= 1000
    assert disk > 0
    assert store.data[0] == b"x" * 1000
    store.drop(range(4))
    assert store.spilled_bytes() == (0, 0)


def test_a_value_over_the_target_that_cannot_be_pickled_is_refused(tmp_path):
    class Large:
        def __sizeof__(self):
            return 10_000

        def __reduce__(self):
            raise TypeError("not me")

    store = Store(SpillBuffer(str(tmp_path), target=3000), {})
    with pytest.raises(TypeError):
        store.add("x", Large())
    assert store.managed_bytes == 0


def test_types_are_pickled_once():
    cache = TypeCache(limit=1)
    assert cache.describe(int)[1] == "int"
    assert cache.describe(int) is cache.describe(int)
    assert cache.describe(str)[1] == "str"
    assert cache.describe(int)[1] == "int"


def test_what_msgpack_does_not_know_is_pickled():
    value = pickle_leaves({"a": [1, object(), to_serialize(1)], "b": Serialized({}, [])})
    assert value["a"][0] == 1
    assert type(value["a"][1]).__name__ == "ToPickle"
    assert type(value["a"][2]).__name__ == "Serialize"


def test_an_outcome_does_not_wait_for_the_next_task():
    sent: deque = deque()
    arrived = threading.Event()

    def send(batch):
        sent.append(batch)
        arrived.set()

    queue = OutcomeQueue(send)
    queue.add([0, "a"], more_to_come=True)
    queue.add([0, "b"], more_to_come=True)
    assert arrived.wait(10)
    arrived.clear()
    assert [item for batch in sent for item in batch] == [[0, "a"], [0, "b"]]
    queue.add([0, "c"], more_to_come=False)
    assert sent[-1] == [[0, "c"]]


def test_outcomes_of_many_threads_all_arrive():
    sent: list = []
    queue = OutcomeQueue(sent.extend)
    threads = [
        threading.Thread(target=lambda n=n: [queue.add([0, (n, i)], i % 3 == 0) for i in range(500)]) for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    queue.flush()
    assert sorted(item[1] for item in sent) == [(n, i) for n in range(4) for i in range(500)]
