"""Tasks pickled here open with plain pickle in another process, and mean what stock's pickles mean."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import cloudpickle
import msgpack
import numpy as np
import pytest
from dask._task_spec import DataNode, Task
from distributed.protocol import pickle as distributed_pickle

from dask_ts.graph_pickle import LARGE_BUFFER, RunSpecPickler, pickled_header

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def client_tasks() -> dict[str, tuple[bytes, str]]:
    done = subprocess.run([sys.executable, HERE / "main_program.py"], capture_output=True, check=True)
    return pickle.loads(done.stdout)


def run_on_clean_worker(pickles: dict[str, tuple[bytes, list[bytes]]]) -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, HERE / "clean_worker.py"],
        input=pickle.dumps(pickles),
        capture_output=True,
        check=False,
        env=env,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


def test_every_kind_of_task_opens_elsewhere(client_tasks):
    ours, stock = {}, {}
    pickler = RunSpecPickler()
    for name, (blob, _) in client_tasks.items():
        node = cloudpickle.loads(blob)
        data, buffers = pickler.dumps(node)
        ours[name] = (data, [bytes(b) for b in buffers])
        raw: list = []
        stock[name] = (distributed_pickle.dumps(node, buffer_callback=raw.append), None)
        stock[name] = (stock[name][0], [bytes(b.raw()) for b in raw])
    # one process per kind: classes of one case must not help another
    got = run_on_clean_worker(ours)
    expected = run_on_clean_worker(stock)
    assert got == expected
    plain = {name: value for name, (_, value) in client_tasks.items() if " object at " not in value}
    assert {name: got[name] for name in plain} == plain


def test_each_task_opens_by_itself(client_tasks):
    pickler = RunSpecPickler()
    for name in ["globals", "shared globals", "class and instance"]:
        node = cloudpickle.loads(client_tasks[name][0])
        for _ in range(2):  # the second one is made from what was kept
            data, buffers = pickler.dumps(node)
            got = run_on_clean_worker({name: (data, [bytes(b) for b in buffers])})
            assert got[name] == client_tasks[name][1]


def test_importable_tasks_are_what_pickle_writes():
    pickler = RunSpecPickler()
    for node in [Task("t", len, "abc"), DataNode("t", 1), Task("t", np.sum, [1, 2], axis=0)]:
        assert pickler.dumps(node) == (pickle.dumps(node, 5), [])


def test_a_function_is_pickled_once(monkeypatch):
    count = 0
    original = cloudpickle.dumps

    def counting(*args, **kwargs):
        nonlocal count
        count += 1
        return original(*args, **kwargs)

    monkeypatch.setattr(cloudpickle, "dumps", counting)
    pickler = RunSpecPickler()
    f, g = (lambda x: x), (lambda x: -x)
    for i in range(50):
        data, _ = pickler.dumps(Task(f"t-{i}", f, i))
        assert pickle.loads(data)({}) == i
    assert count == 1
    for i in range(50):
        data, _ = pickler.dumps(Task(f"t-{i}", map, f, [g, i]))
    assert count <= 4


def test_large_buffers_stay_out_of_band_and_small_ones_do_not():
    pickler = RunSpecPickler()
    small, large = np.zeros(100, "u1"), np.zeros(LARGE_BUFFER, "u1")
    data, buffers = pickler.dumps(Task("t", lambda *a: sum(x.nbytes for x in a), small, large))
    assert [b.nbytes for b in buffers] == [LARGE_BUFFER]
    assert pickle.loads(data, buffers=buffers)({}) == LARGE_BUFFER + 100


def test_a_large_closure_is_shared_by_all_its_tasks():
    pickler = RunSpecPickler()
    held = np.zeros(10 * LARGE_BUFFER, "u1")
    tasks = [pickler.dumps(Task(f"t-{i}", lambda: held.nbytes)) for i in range(1)]

    def shared():
        return held.nbytes

    tasks = [pickler.dumps(Task(f"t-{i}", shared)) for i in range(3)]
    assert all(len(data) < 1000 for data, _ in tasks)
    assert len({id(buffers[0].obj) for _, buffers in tasks}) == 1
    assert pickle.loads(tasks[2][0], buffers=tasks[2][1])({}) == held.nbytes


def test_what_only_distributed_can_pickle():
    from distributed.protocol import dask_deserialize, dask_serialize

    class Stubborn:
        def __reduce__(self):
            raise TypeError("not by pickle")

    dask_serialize.register(Stubborn)(lambda obj: ({}, [b"x"]))
    dask_deserialize.register(Stubborn)(lambda header, frames: Stubborn())
    node = Task("t", repr, Stubborn())
    pickler = RunSpecPickler()
    # stock itself needs the class to be importable for that; what matters is the same outcome
    try:
        expected = distributed_pickle.dumps(node)
    except Exception as e:
        with pytest.raises(type(e)):
            pickler.dumps(node)
    else:
        assert pickle.loads(pickler.dumps(node)[0])({})[:20] == pickle.loads(expected)({})[:20]


def test_an_unpicklable_task_fails_and_the_next_does_not():
    import threading

    pickler = RunSpecPickler()
    with pytest.raises(TypeError):
        pickler.dumps(Task("t", len, threading.Lock()))
    data, _ = pickler.dumps(Task("t", lambda: 5))
    assert pickle.loads(data)({}) == 5


@pytest.mark.parametrize("size", [0, 255, 256, 65535, 65536])
@pytest.mark.parametrize("buffers", [0, 1, 15, 16, 127, 128, 300])
def test_headers_are_msgpack(size, buffers):
    data = b"x" * size
    assert msgpack.unpackb(pickled_header(data, buffers)) == {
        "pickled-obj": data,
        "compression": [None] * buffers,
        "num-sub-frames": buffers,
    }
