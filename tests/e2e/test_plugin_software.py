"""What plugins bring along: stream handlers, and software that is installed on scheduler and workers."""

from __future__ import annotations

import ensurepip
import sys
import zipfile
from pathlib import Path

import pytest
from distributed import PipInstall, SchedulerPlugin
from distributed.diagnostics.plugin import InstallPlugin

from cluster import ROOT, Cluster, wait_until


class Streams(SchedulerPlugin):
    """Ops of its own on the streams of workers and clients."""

    name = "streams"

    def __init__(self):
        self.heard = []

    async def start(self, scheduler):
        self.scheduler = scheduler
        scheduler.stream_handlers.update({"my-op": self.plain, "my-later-op": self.later})

    def plain(self, value, worker=None, client=None):
        self.heard.append(("plain", value, worker, client))
        if client is not None:
            self.scheduler.client_send(client, {"op": "my-reply", "value": value})

    async def later(self, worker=None, client=None, **kwargs):
        self.heard.append(("later", kwargs, worker, client))


def test_stream_handlers():
    def heard(dask_scheduler):
        return dask_scheduler.plugins["streams"].heard

    def say(dask_worker):
        dask_worker.batched_stream.send({"op": "my-op", "value": (1, b"2")})

    with Cluster(workers=["stock"]) as cluster, cluster.client() as client:
        client.register_plugin(Streams())
        replies = []
        client._stream_handlers["my-reply"] = lambda value: replies.append(value)
        client._send_to_scheduler({"op": "my-op", "value": {"a": [1]}})
        client._send_to_scheduler({"op": "my-later-op", "x": 1, "y": None})
        client.run(say)
        (worker,) = client.scheduler_info(-1)["workers"]
        wait_until(lambda: len(client.run_on_scheduler(heard)) == 3, "all are heard")
        assert sorted(client.run_on_scheduler(heard), key=repr) == sorted(
            [
                ("plain", {"a": (1,)}, None, client.id),
                ("later", {"x": 1, "y": None}, None, client.id),
                ("plain", (1, b"2"), worker, None),
            ],
            key=repr,
        )
        wait_until(lambda: replies == [{"a": (1,)}], "the reply on the client's stream")

        # one that fails hurts nobody
        client._send_to_scheduler({"op": "my-op", "wrong": 1})
        wait_until(
            lambda: "the stream handler 'my-op' of a scheduler plugin failed" in cluster.scheduler.text, "a line"
        )
        assert client.submit(str, 1).result() == "1"

        # the scheduler's own ops stay the scheduler's
        def replace(dask_scheduler):
            dask_scheduler.stream_handlers["client-releases-keys"] = lambda **_: None

        client.run_on_scheduler(replace)
        wait_until(lambda: "'client-releases-keys' is the scheduler's own" in cluster.scheduler.text, "a line")
        future = client.submit(str, 2, key="released")
        assert future.result() == "2"
        del future
        wait_until(lambda: "released" not in client.who_has(), "keys are released")


def wheel(folder: Path, name: str) -> Path:
    """A wheel with one module, made by hand."""
    path = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{name}.py", "value = 7\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


def with_pip(target: Path) -> dict[str, str]:
    """The environment may be without pip; the one that Python brings along does."""
    (wheel_of_pip,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    pip = target.parent / "pip"
    # from the wheel itself it would be compiled anew each time it runs
    with zipfile.ZipFile(wheel_of_pip) as file:
        file.extractall(pip)
    return {"PYTHONPATH": f"{ROOT / 'tests' / 'e2e'}:{pip}:{target}", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def value_of(name):
    import importlib

    importlib.invalidate_caches()
    return importlib.import_module(name).value


def test_pip_install(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    options = ["--no-index", "--no-deps", "--target", str(target)]
    with Cluster(workers=["ours", "stock"], env=with_pip(target)) as cluster, cluster.client() as client:
        plugin = PipInstall([str(wheel(tmp_path, "dask_ts_probe"))], pip_options=options)
        client.register_plugin(plugin)
        assert client.run_on_scheduler(lambda: value_of("dask_ts_probe")) == 7
        assert list(client.run(value_of, "dask_ts_probe").values()) == [7, 7]
        assert client.submit(value_of, "dask_ts_probe", pure=False).result() == 7
        assert plugin.name in client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.worker_plugins))
        # workers that come later have it done, too
        cluster.start_worker("ours")
        client.wait_for_workers(3)
        assert list(client.run(value_of, "dask_ts_probe").values()) == [7, 7, 7]
        with pytest.raises(RuntimeError, match="pip install failed"):
            client.register_plugin(PipInstall([str(tmp_path / "no-such-1.0-py3-none-any.whl")], pip_options=options))


def test_an_installation_that_fails_on_workers():
    def install():
        if not {"dask_ts.plugin_host", "distributed.cli.dask_scheduler"} & set(sys.modules):
            raise LookupError("no place for it here")

    with Cluster(workers=["ours", "stock"]) as cluster, cluster.client() as client:
        with pytest.raises(LookupError, match="no place for it here"):
            client.register_plugin(InstallPlugin(install, restart_workers=False))
        assert client.submit(str, 1).result() == "1"


def test_pip_install_and_restart(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    options = ["--no-index", "--no-deps", "--target", str(target)]
    flags = {"worker_flags": ["--nanny"]}
    with Cluster(workers=["ours", "stock"], env=with_pip(target), **flags) as cluster, cluster.client() as client:
        plugin = PipInstall([str(wheel(tmp_path, "dask_ts_probe"))], pip_options=options, restart_workers=True)
        client.register_plugin(plugin)
        client.wait_for_workers(2)
        wait_until(lambda: list(client.run(value_of, "dask_ts_probe").values()) == [7, 7], "both workers have it")
        assert plugin.name in client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.nanny_plugins))
