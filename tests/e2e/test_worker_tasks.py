"""What tasks, functions and plugins find on a worker of ours."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import operator
import os
import threading
import time
import warnings
import zipfile

import dask
import pytest
from distributed import Reschedule, WorkerPlugin, get_worker, rejoin, secede
from distributed.cluster_dump import load_cluster_dump
from distributed.diagnostics.plugin import CondaInstall, InstallPlugin, UploadDirectory

from cluster import Cluster, wait_until


@pytest.fixture(scope="module")
def cluster():
    with Cluster(workers=("ours", "ours"), nthreads=2) as cluster:
        yield cluster


def test_secede_and_rejoin(client):
    def leave_and_return():
        secede()
        rejoin()
        return 1

    assert client.gather([client.submit(leave_and_return, pure=False) for _ in range(6)]) == [1] * 6


def test_reschedule(client, tmp_path):
    def twice():
        with open(tmp_path / "runs", "a") as file:
            file.write("x")
        if len((tmp_path / "runs").read_text()) < 3:
            raise Reschedule
        return 2

    assert client.submit(twice, pure=False).result(timeout=20) == 2


@pytest.mark.parametrize("catches", [False, True])
def test_an_async_task_that_nobody_wants_is_cancelled(client, tmp_path, catches):
    began, ended = tmp_path / "began", tmp_path / "ended"

    async def wait_for_ever():
        began.touch()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            ended.touch()
            if catches:
                return 1
            raise

    async def quick(x):
        await asyncio.sleep(0)
        return x + 1

    future = client.submit(wait_for_ever, key=f"for-ever-{catches}")
    wait_until(began.exists, "it runs")
    future.release()
    wait_until(ended.exists, "it was cancelled")
    # its thread is free, its key as good as new
    assert client.submit(quick, 1, key=f"for-ever-{catches}").result(timeout=10) == 2
    wait_until(lambda: not any(client.processing().values()), "nothing runs")


def test_print_and_warn_reach_the_client(client):
    def speak():
        from distributed import print, warn

        print("said", 42, sep="-")
        warn("beware")

    out = io.StringIO()
    with contextlib.redirect_stdout(out), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.submit(speak, pure=False).result(timeout=10)
        wait_until(lambda: "said-42\n" in out.getvalue(), "the print")
        wait_until(lambda: any("beware" in str(warning.message) for warning in caught), "the warning")


def test_logs_and_events(client):
    def leave_traces():
        logging.getLogger("distributed.worker").warning("a trace")
        get_worker().log_event(["left", "right"], {"x": 1})

    client.submit(leave_traces, pure=False).result(timeout=10)
    wait_until(lambda: "a trace" in str(client.get_worker_logs()), "the line")
    wait_until(lambda: client.get_events("right"), "the event")
    assert client.get_events("left")[0][1]["x"] == 1


class Hears(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def test_loggers_are_forwarded(client):
    def speak():
        logging.getLogger("a.library").error("from afar")

    handler = Hears()
    logging.getLogger("a.library").addHandler(handler)
    client.forward_logging("a.library")
    client.submit(speak, pure=False).result(timeout=10)
    wait_until(lambda: handler.lines == ["from afar"], "the record")
    client.unforward_logging("a.library")


class Counter:
    n = 0

    def up(self):
        self.n += 1
        return self.n

    async def later(self):
        return self.up()

    def fail(self):
        raise ValueError("not this way")


def test_actors(client):
    counter = client.submit(Counter, actor=True).result(timeout=10)
    assert [counter.up().result(), counter.later().result(), counter.n] == [1, 2, 2]
    with pytest.raises(ValueError, match="not this way"):
        counter.fail().result()
    for address in client.scheduler_info(-1)["workers"]:  # its own worker and the other
        client.submit(lambda actor: actor.up().result(), counter, workers=[address], pure=False).result(timeout=10)
    assert counter.n == 4


def test_functions_on_workers(client, tmp_path):
    async def behind():
        (tmp_path / str(os.getpid())).touch()

    assert len(set(client.run(os.getpid).values())) == 2
    assert client.run(behind, wait=False) is None
    wait_until(lambda: len(list(tmp_path.iterdir())) == 2, "both have run")
    found = client.run(lambda: 1 / 0, on_error="return")
    assert all(isinstance(error, ZeroDivisionError) for error in found.values())


class Hooks(WorkerPlugin):
    name = "hooks"

    def setup(self, worker):
        self.worker = worker
        worker.heard = []

    def transition(self, key, start, finish, **_):
        self.worker.heard.append((key, start, finish))

    def teardown(self, worker):
        worker.heard = None


def test_plugins_with_every_hook(cluster, client):
    client.register_plugin(Hooks())
    future = client.submit(operator.add, 1, 2, key="plugged")
    assert future.result(timeout=10) == 3
    wanted = [("released", "waiting"), ("waiting", "ready"), ("ready", "executing"), ("executing", "memory")]

    def heard():
        lists = client.run(lambda dask_worker: dask_worker.heard).values()
        return [(start, finish) for found in lists for key, start, finish in found if key == "plugged"]

    wait_until(lambda: heard() == wanted, "all transitions")
    cluster.start_worker("ours", "--name", "late")
    client.wait_for_workers(3, timeout=30)
    late = next(a for a, w in client.scheduler_info(-1)["workers"].items() if w["name"] == "late")
    assert client.run(lambda dask_worker: dask_worker.heard, workers=[late])[late] == []
    client.unregister_worker_plugin("hooks")
    assert set(client.run(lambda dask_worker: dask_worker.heard).values()) == {None}
    client.retire_workers([late])


def test_files_are_uploaded(client, tmp_path):
    module = tmp_path / "uploaded_module.py"
    for value in (5, 6):
        module.write_text(f"value = {value}\n")
        client.upload_file(str(module))

        def read():
            import uploaded_module

            return uploaded_module.value

        assert client.submit(read, pure=False).result(timeout=10) == value
    for kind in ("egg", "zip"):
        with zipfile.ZipFile(tmp_path / f"in_{kind}.{kind}", "w") as archive:
            archive.writestr(f"in_{kind}/__init__.py", "value = 7\n")
            archive.writestr(f"in_{kind}/deeper.py", "value = 8\n")
        client.upload_file(str(tmp_path / f"in_{kind}.{kind}"))

        def read_both(name):
            import importlib

            return importlib.import_module(name).value, importlib.import_module(f"{name}.deeper").value

        assert client.submit(read_both, f"in_{kind}", pure=False).result(timeout=10) == (7, 8)


def test_installers(client, tmp_path):
    def install():
        (tmp_path / f"installed-{os.getpid()}").touch()

    client.register_plugin(InstallPlugin(install, restart_workers=False))
    assert len(list(tmp_path.iterdir())) == 3, "the scheduler's Python and both workers"
    with pytest.raises(RuntimeError, match="conda could not be found"):
        client.register_plugin(CondaInstall(["no-such-package"]))


def test_an_uploaded_folder_and_a_restart(client, tmp_path):
    (tmp_path / "in_a_folder").mkdir()
    (tmp_path / "in_a_folder" / "__init__.py").write_text("value = 3\n")
    client.register_plugin(UploadDirectory(str(tmp_path / "in_a_folder"), restart_workers=True))
    client.wait_for_workers(2, timeout=30)

    def read():
        import in_a_folder

        return in_a_folder.value

    assert client.submit(read, pure=False).result(timeout=30) == 3


def test_call_stacks_and_profiles(client, tmp_path):
    def busy():
        while not (tmp_path / "enough").exists():
            sum(range(1000))

    future = client.submit(busy, pure=False)
    wait_until(lambda: any(client.processing().values()), "it runs")
    wait_until(lambda: "busy" in str(client.call_stack(future)), "its stack")
    wait_until(lambda: "busy" in json.dumps(client.profile(key="busy"), default=str), "its profile")
    (tmp_path / "enough").touch()
    future.result(timeout=10)


def test_named_executors(client):
    def add(dask_worker):
        from concurrent.futures import ThreadPoolExecutor

        dask_worker.executors["mine"] = ThreadPoolExecutor(1, thread_name_prefix="mine")

    client.run(add)
    with dask.annotate(executor="mine"):
        found = client.submit(lambda: threading.current_thread().name, pure=False).result(timeout=10)
    assert found.startswith("mine")
    with dask.annotate(executor="nobody's"), pytest.raises(ValueError, match="Invalid executor"):
        client.submit(operator.neg, 1, key="nobody's").result(timeout=10)


def test_dumps_say_what_stock_says(client, tmp_path):
    future = client.submit(operator.add, 3, 4, key="dumped")
    future.result(timeout=10)
    client.dump_cluster_state(str(tmp_path / "dump"))
    workers = load_cluster_dump(str(tmp_path / "dump.msgpack.gz"))["workers"].values()
    wanted = {
        "config",
        "stimulus_log",
        "max_spill",
        "memory_monitor_interval",
        "memory_target_fraction",
        "log",
        "tasks",
    }
    for worker in workers:
        assert wanted <= worker.keys()
        assert worker["config"]["distributed"]["worker"]["memory"]["target"] == 0.6
    events = [(e["cls"], e.get("key")) for worker in workers for e in worker["stimulus_log"]]
    assert ("ComputeTaskEvent", "dumped") in events
    assert ("ExecuteSuccessEvent", "dumped") in events


def test_what_the_facade_does_not_have_says_so(client):
    def look(dask_worker):
        found = {}
        for name in dir(type(dask_worker)):
            if name.startswith("__"):
                continue
            try:
                getattr(dask_worker, name)
            except Exception as e:
                found[name] = f"{type(e).__name__}: {e}"
        for name in ("http_server", "never_heard_of"):
            try:
                getattr(dask_worker, name)
            except AttributeError as e:
                found[name] = str(e)
        return found

    for found in client.run(look).values():
        assert found == {
            "http_server": "the executor's Worker has no 'http_server': the worker process serves HTTP",
            "never_heard_of": "the executor's Worker has no 'never_heard_of'",
        }


def test_the_facade_knows_its_worker(client):
    def look(dask_worker):
        seen = dask_worker
        return {
            "port": seen.port,
            "host": seen.address == f"tcp://{seen.ip}:{seen.port}",
            "listen": seen.listen_address == seen.address,
            "nanny": seen.nanny is not None,
            "latency": seen.latency > 0,
        }

    for address, found in client.run(look).items():
        port = int(address.rsplit(":", 1)[1])
        assert found == {"port": port, "host": True, "listen": True, "nanny": True, "latency": True}


def test_tasks_outlive_a_cluster_wide_restart(client):
    client.restart(timeout=60)
    assert client.submit(time.sleep, 0, pure=False).result(timeout=20) is None
