"""Tasks that the tests run. As a program: their run_specs and other pickles, as JSON of base64."""

import asyncio
import base64
import ctypes
import json
import os
import threading
import time

import numpy as np
from dask._task_spec import Alias, Task
from distributed import Reschedule, get_worker, secede
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.protocol import pickle


def inc(x):
    return x + 1


def fail(text):
    raise ValueError(text)


def reschedule():
    raise Reschedule()


def seceding():
    secede()
    return get_worker().get_current_task()


def array(n):
    return np.arange(n, dtype="u1")


def double_sum(x, y):
    return int(x[:10].sum()) + int(y[:10].sum())


def segfault():
    ctypes.string_at(0)


def exit_with(code):
    raise SystemExit(code)


def lock():
    return threading.Lock()


class Secret(Exception):
    def __reduce__(self):
        raise TypeError("this exception cannot be pickled")


def secret():
    raise Secret("the text is kept")


class Refuses:
    def __reduce__(self):
        return exec, ("raise ImportError('no such module on this worker')",)

    def __call__(self):
        return None


async def wait_long(x):
    await asyncio.sleep(x)


async def async_inc(x):
    await asyncio.sleep(0)
    return get_worker().name, x + 1


class Counter:
    def __init__(self):
        self.n = 0

    def increment(self, by):
        self.n += by
        return self.n

    async def slow(self):
        await asyncio.sleep(0)
        return self.n


def context():
    from distributed.utils import thread_state

    worker = get_worker()
    task = worker.state.tasks[thread_state.key]
    return [
        str(thread_state.key),
        worker.get_current_task() == thread_state.key,
        threading.current_thread().name.split("-")[0:4],
        worker.address,
        list(task.priority),
        dict(task.annotations),
    ]


def talk():
    get_worker().log_event("topic", {"x": 1})
    print("said by a task")


def thread_name():
    return threading.current_thread().name


def hold(path):
    while not os.path.exists(path):
        time.sleep(0.01)


def on_worker(dask_worker, n=0):
    return [dask_worker.name, n, dask_worker.state.nthreads]


async def coroutine_on_worker(dask_worker):
    await asyncio.sleep(0)
    return dask_worker.address


def use_executor(dask_worker):
    from concurrent.futures import ThreadPoolExecutor

    dask_worker.executors["mine"] = ThreadPoolExecutor(1, thread_name_prefix="mine")


class Plugin(WorkerPlugin):
    name = "counting"

    def setup(self, worker):
        worker.seen = []
        worker.handlers["plugin_op"] = self.answer
        self.worker = worker

    def answer(self, x):
        return {"x": x, "seen": self.worker.seen}

    def transition(self, key, start, finish, **kwargs):
        self.worker.seen.append((key, start, finish))

    def teardown(self, worker):
        worker.seen = "torn down"


def specs():
    return {
        "inc": Task("inc", inc, 1),
        "fail": Task("fail", fail, "broken"),
        "reschedule": Task("reschedule", reschedule),
        "secede": Task("secede", seceding),
        "array": Task("array", array, 50_000_000),
        "sum": Task("sum", double_sum, Alias("array"), Alias("copy")),
        "segfault": Task("segfault", segfault),
        "exit": Task("exit", exit_with, 7),
        "lock": Task("lock", lock),
        "secret": Task("secret", secret),
        "refuses": Task("refuses", Refuses()),
        "wait": Task("wait", wait_long, 3600),
        "async": Task("async", async_inc, 1),
        "counter": Task("counter", Counter),
        "context": Task("context", context),
        "talk": Task("talk", talk),
        "thread": Task("thread", thread_name),
    }


def pickles():
    plain = {
        "function:on_worker": on_worker,
        "function:coroutine_on_worker": coroutine_on_worker,
        "function:use_executor": use_executor,
        "function:fail": fail,
        "function:wait_long": wait_long,
        "args:hour": (3600,),
        "args:text": ("in run",),
        "plugin": Plugin(),
    }
    return {**specs(), **plain}


if __name__ == "__main__":
    # functions by reference to this module, which the executor finds on its PYTHONPATH
    import executor_tasks_under_test as module

    print(
        json.dumps({name: base64.b64encode(pickle.dumps(value)).decode() for name, value in module.pickles().items()})
    )
