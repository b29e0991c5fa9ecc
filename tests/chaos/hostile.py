"""Tasks that no worker should have to run. Each is one function without arguments; see test_hostile_tasks.TABLE."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import resource
import signal
import sys
import tempfile
import threading
import time

from distributed import get_worker

MEGABYTE = 2**20


# The end of the process


def exits_at_once():
    os._exit(3)


def exits():
    sys.exit(5)


def interrupts():
    raise KeyboardInterrupt


def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def terminates_itself():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def segfaults():
    ctypes.string_at(0)


def aborts():
    os.abort()


def closes_all_descriptors():
    os.closerange(3, 4096)
    time.sleep(60)


async def stops_the_loop():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.1)
    return "stopped"


# Errors


class Unpicklable(Exception):
    def __reduce__(self):
        raise RuntimeError("no pickle of this")


class Unreadable(Exception):
    def __init__(self, one, two):
        super().__init__(one)


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no text of this")

    __repr__ = __str__


def raises_what_does_not_pickle():
    raise Unpicklable("odd")


def raises_what_cannot_be_read():
    raise Unreadable("odd", 2)


def raises_what_has_no_text():
    raise Speechless


def raises_a_large_error():
    raise ValueError("x" * (20 * MEGABYTE))


def raises_a_chain():
    error = None
    for i in range(3000):
        try:
            raise ValueError(i) from error
        except ValueError as e:
            error = e
    raise error


def raises_stop_iteration():
    raise StopIteration(1)


def raises_cancelled():
    raise asyncio.CancelledError


def raises_generator_exit():
    raise GeneratorExit


def recurses():
    return recurses()


def asks_for_too_much():
    return bytearray(2**48)


# Results


class Refuses:
    def __reduce__(self):
        raise RuntimeError("this does not travel")


class Recursive:
    def __reduce__(self):
        return Recursive, (Recursive(),)


class Unopenable:
    def __reduce__(self):
        return int, ("not a number",)


class Immeasurable:
    def __sizeof__(self):
        raise RuntimeError("no size")


class Monstrous:
    def __sizeof__(self):
        return 2**62


class Negative:
    def __sizeof__(self):
        return -5


def returns_what_refuses():
    return Refuses()


def returns_what_recurses():
    return Recursive()


def returns_what_cannot_be_opened():
    return Unopenable()


def returns_a_deep_list():
    found = []
    for _ in range(100_000):
        found = [found]
    return found


def returns_a_lock():
    return threading.Lock()


def returns_a_generator():
    return (i for i in range(3))


def returns_no_size():
    return Immeasurable()


def returns_a_huge_size():
    return Monstrous()


def returns_a_negative_size():
    return Negative()


# Output


def prints_much():
    line = "x" * 1023
    for _ in range(100 * 1024):
        print(line)
    return "printed"


def prints_one_long_line():
    sys.stdout.write("y" * (50 * MEGABYTE))
    sys.stdout.flush()
    return "printed"


def prints_bytes():
    os.write(1, bytes(range(256)) * 100)
    os.write(2, b"\xff\xfe\n\0\n" * 100)
    return "printed"


def logs_much():
    logger = logging.getLogger("distributed.worker")
    for _ in range(2000):
        logger.warning("z" * 10_000)
    return "logged"


# Surroundings


def changes_directory():
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)
    return "changed"


def closes_its_output():
    kept = [os.dup(number) for number in (0, 1, 2)]
    for number in (0, 1, 2):
        os.close(number)
    try:
        print("nobody hears this")
        time.sleep(1)
    finally:
        for number, copy in enumerate(kept):
            os.dup2(copy, number)
            os.close(copy)


def takes_all_descriptors():
    taken = []
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, _))
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        time.sleep(1)
        return len(taken) > 100
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, _))


def removes_its_folder():
    import shutil

    shutil.rmtree(get_worker().local_directory)
    return "removed"


def empties_the_environment():
    os.environ.clear()
    return "empty"


def starts_threads_that_never_end():
    for _ in range(20):
        threading.Thread(target=time.sleep, args=(10_000,)).start()
    return "started"


def ignores_signals():
    # as libraries do that were started in a thread: only the main thread may
    try:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    except ValueError:
        return "refused"
    return "ignored"


# Processes


def forks():
    pid = os.fork()
    if pid == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forks_and_both_return():
    """The child is a copy of the executor with one thread, which returns from the task as its parent does."""
    pid = os.fork()
    if pid == 0:
        return "child"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return "parent"
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "the child does not end"


def forks_and_the_child_raises():
    pid = os.fork()
    if pid == 0:
        raise RuntimeError("in the child")
    os.waitpid(pid, 0)
    return "parent"


def uses_a_pool_of_processes():
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(abs, range(-20, 0))[0]


def leaves_a_child_behind():
    import subprocess

    subprocess.Popen(["sleep", "1"])
    return "left"


# Time


def holds_the_gil():
    ctypes.PyDLL(None).usleep(4_000_000)
    return "held"


async def blocks_the_loop():
    time.sleep(3)
    return "blocked"
