"""WebSockets, several addresses at once, IPv6, `spec`, and the flags of the commands."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
import yaml
from distributed import Client
from distributed.cli import dask_scheduler, dask_worker
from distributed.security import Security

from cluster import ROOT, Cluster, Process, wait_until

DASK_TS = str(ROOT / "bin" / "dask-ts")


def inc(x: int) -> int:
    return x + 1


def compute(client: Client) -> None:
    """Two workers, tasks on both, and a transfer between them."""
    first, second = client.scheduler_info()["workers"]
    assert client.gather(client.map(inc, range(20))) == list(range(1, 21))
    data = client.submit(bytes, 20_000_000, workers=[first])
    assert client.submit(len, data, workers=[second]).result(timeout=20) == 20_000_000


@pytest.mark.parametrize(("scheduler", "worker"), [("ours", "ours"), ("ours", "stock"), ("stock", "ours")])
def test_web_sockets(scheduler: str, worker: str) -> None:
    with Cluster(scheduler, [worker, worker], scheduler_flags=["--protocol", "ws"]) as cluster:
        assert cluster.address.startswith("ws://")
        with cluster.client() as client:
            assert all(address.startswith("ws://") for address in client.scheduler_info()["workers"])
            compute(client)


@pytest.fixture(scope="module")
def security() -> Security:
    return Security.temporary()


@pytest.fixture
def tls_flags(security: Security, tmp_path) -> dict[str, list[str]]:
    def flags(role: str) -> list[str]:
        names = {"--tls-ca-file": "tls_ca_file", "--tls-cert": f"tls_{role}_cert", "--tls-key": f"tls_{role}_key"}
        out = []
        for flag, field in names.items():
            path = tmp_path / field
            path.write_text(getattr(security, field))
            out += [flag, str(path)]
        return out

    return {"scheduler": flags("scheduler"), "worker": flags("worker")}


@pytest.mark.parametrize("worker", ["ours", "stock"])
def test_encrypted_web_sockets(worker: str, security: Security, tls_flags: dict[str, list[str]]) -> None:
    with Cluster(
        workers=[worker, worker],
        scheduler_flags=["--protocol", "wss", *tls_flags["scheduler"]],
        worker_flags=[*tls_flags["worker"]],
        client_options={"security": security},
    ) as cluster:
        assert cluster.address.startswith("wss://")
        with cluster.client() as client:
            compute(client)


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def test_several_protocols_and_ports() -> None:
    tcp, ws = free_ports(2)
    # The later --port wins over the cluster's own.
    with Cluster(workers=["ours"], scheduler_flags=["--protocol", "tcp,ws", "--port", f"{tcp},{ws}"]) as cluster:
        assert cluster.address == f"tcp://127.0.0.1:{tcp}"
        assert f"ws://127.0.0.1:{ws}" in cluster.scheduler.text
        cluster.start_worker("ours", "--protocol", "ws")
        for address in (f"tcp://127.0.0.1:{tcp}", f"ws://127.0.0.1:{ws}"):
            with Client(address, timeout=20) as client:
                client.wait_for_workers(2, timeout=20)
                assert client.submit(inc, 1).result(timeout=20) == 2
        with cluster.client() as client:
            assert sorted(a[:2] for a in client.scheduler_info()["workers"]) == ["tc", "ws"]
            compute(client)


@pytest.mark.parametrize("worker", ["ours", "stock"])
def test_ipv6(worker: str) -> None:
    # The later --host wins over the cluster's own.
    flags = ["--host", "[::1]"]
    with Cluster(workers=[worker, worker], scheduler_flags=flags, worker_flags=flags) as cluster:
        assert cluster.address.startswith("tcp://[::1]:")
        with cluster.client() as client:
            compute(client)


def test_interface_and_contact_address() -> None:
    [loopback] = [name for _, name in socket.if_nameindex() if name == "lo"]
    port = free_ports(1)[0]
    listen, contact = f"tcp://0.0.0.0:{port}", f"tcp://localhost:{port}"
    env = {"DASK_DISTRIBUTED__SCHEDULER__CONTACT_ADDRESS": "tcp://localhost:1"}
    # An empty --host takes the cluster's own back.
    with Cluster(workers=[], scheduler_flags=["--host", "", "--interface", loopback], env=env) as cluster:
        assert cluster.address.startswith("tcp://127.0.0.1:")
        cluster.start_worker("ours", "--host", "", "--listen-address", listen, "--contact-address", contact)
        with cluster.client() as client:
            client.wait_for_workers(1, timeout=20)
            assert list(client.scheduler_info()["workers"]) == [f"tcp://127.0.0.1:{port}"]
            assert client.submit(inc, 1).result(timeout=20) == 2


def test_contact_address_of_the_scheduler() -> None:
    env = {"DASK_DISTRIBUTED__SCHEDULER__CONTACT_ADDRESS": "tcp://localhost:1"}
    with Cluster(workers=[], scheduler_flags=["--host", ""], env=env) as cluster:
        assert cluster.address.startswith("tcp://localhost:")
        assert not cluster.address.endswith(":1")


def test_encryption_required_by_the_configuration() -> None:
    env = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}
    result = run("scheduler", "--protocol", "tcp", "--port", "0", env=env)
    assert result.returncode == 1
    assert "encryption required by Dask configuration" in result.stderr
    result = run("scheduler", "--port", "0", env=env)
    assert "without TLS certificates" in result.stderr


def test_pickles_refused_by_the_configuration() -> None:
    result = run("scheduler", "--port", "0", env={"DASK_DISTRIBUTED__SCHEDULER__PICKLE": "False"})
    assert result.returncode == 1
    assert "distributed.scheduler.pickle: pickles can no longer be refused" in result.stderr


def test_pages_on_the_port_of_the_web_sockets() -> None:
    [port] = free_ports(1)
    flags = ["--protocol", "ws", "--port", str(port), "--dashboard-address", f"127.0.0.1:{port}"]
    with Cluster(workers=["ours"], scheduler_flags=flags) as cluster:
        assert cluster.identity["services"]["dashboard"] == port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as page:
            assert page.read() == b"ok"
        with cluster.client() as client:
            assert client.submit(inc, 1).result(timeout=20) == 2


@pytest.mark.parametrize("worker", ["ours", "stock"])
def test_compression_between_hosts(worker: str) -> None:
    """Two ends with one address do not compress: these have two."""
    env = {"DASK_DISTRIBUTED__COMM__COMPRESSION": "lz4"}
    with Cluster(workers=[], env=env) as cluster:
        # The later --host wins over the cluster's own.
        cluster.start_worker("ours", "--host", "127.0.0.2")
        cluster.start_worker(worker, "--host", "127.0.0.3")
        with cluster.client() as client:
            client.wait_for_workers(2, timeout=20)
            first, second = client.scheduler_info()["workers"]
            for source, target in ((first, second), (second, first)):
                data = client.submit(bytes, 20_000_000, workers=[source], pure=False)
                assert client.submit(len, data, workers=[target], pure=False).result(timeout=20) == 20_000_000
                assert data.result() == bytes(20_000_000)


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    import os

    environment = {**os.environ, "DASK_TS_PYTHON": sys.executable, **(env or {})}
    return subprocess.run(
        [DASK_TS, *arguments], capture_output=True, text=True, timeout=30, check=False, env=environment
    )


@pytest.mark.parametrize("cls", ["dask.distributed.Nanny", "distributed.Worker"])
def test_spec(cls: str, tmp_path) -> None:
    file = tmp_path / "scheduler.json"
    opts = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "scheduler_file": str(file)}
    spec = {"cls": "dask.distributed.Scheduler", "opts": opts}
    python = ["--python", sys.executable]
    scheduler = Process("scheduler", [DASK_TS, "spec", "--spec", json.dumps(spec), *python], tmp_path, {})
    worker = None
    try:
        wait_until(lambda: file.exists() or not scheduler.running, "the scheduler file")
        assert scheduler.running, scheduler.text
        address = json.loads(file.read_text())["address"]
        opts = {"nthreads": 3, "name": "foo", "host": "127.0.0.1", "local_directory": str(tmp_path)}
        (tmp_path / "spec.yaml").write_text(yaml.dump({"cls": cls, "opts": opts}))
        command = [DASK_TS, "spec", address, "--spec-file", str(tmp_path / "spec.yaml"), *python]
        worker = Process("worker", command, tmp_path, {})
        with Client(address, timeout=20) as client:
            client.wait_for_workers(1, timeout=20)
            [info] = client.scheduler_info()["workers"].values()
            assert (info["name"], info["nthreads"]) == ("foo", 3)
            assert bool(info["nanny"]) == cls.endswith("Nanny")
            assert client.submit(inc, 1).result(timeout=20) == 2
        assert worker.stop() == 0
        assert scheduler.stop() == 0
    finally:
        for process in (worker, scheduler):
            if process is not None:
                process.kill()


def test_spec_usage() -> None:
    result = run("spec")
    assert (result.returncode, result.stdout) == (1, "Must specify exactly one of --spec and --spec-file\n")
    result = run("spec", "--spec", '{"cls": "dask_cuda.CUDAWorker", "opts": {}}')
    assert result.returncode == 1
    assert "cannot run" in result.stderr and "at " not in result.stderr.splitlines()[-1][:4]


def test_stock_worker_by_specification(tmp_path) -> None:
    """`Worker(nanny=False)` says so to the scheduler."""
    spec = json.dumps({"cls": "dask.distributed.Worker", "opts": {"nanny": False, "nthreads": 3, "name": "foo"}})
    with Cluster(workers=[]) as cluster:
        command = [sys.executable, "-m", "distributed.cli.dask_spec", cluster.address, "--spec", spec]
        worker = Process("worker", command, cluster.folder, {})
        cluster.processes.append(worker)
        with cluster.client() as client:
            client.wait_for_workers(1, timeout=20)
            assert client.submit(inc, 1).result(timeout=20) == 2


def stock_flags(command) -> Iterator[dict]:
    for parameter in command.params:
        if parameter.param_type_name == "option" and parameter.name != "version":
            names = parameter.opts + parameter.secondary_opts
            yield {"names": names, "takesValue": not parameter.is_flag, "multiple": parameter.multiple}


@pytest.mark.parametrize("name, module", [("scheduler", dask_scheduler), ("worker", dask_worker)])
def test_the_list_of_flags_is_that_of_the_installed_release(name: str, module) -> None:
    """packages/cli/test/flags.test.ts goes by this list."""
    listed = json.loads((ROOT / "packages" / "cli" / "test" / "stock-flags.json").read_text())
    assert listed[name] == list(stock_flags(module.main))


@pytest.mark.parametrize(
    "arguments, code, text",
    [
        (["scheduler", "--no-such-flag"], 2, "unknown option"),
        (["scheduler", "stray"], 2, "unexpected extra argument"),
        (["scheduler", "--tls-cert", "/no/such/file"], 2, "does not exist"),
        (["scheduler", "--jupyter"], 1, "run Jupyter beside"),
        (["scheduler", "--protocol", "ucx", "--port", "0"], 1, "unknown address scheme 'ucx'"),
        (["scheduler", "--interface", "nope0"], 1, "not a valid network interface"),
        (["scheduler", "--idle-timeout", "1 foo"], 1, "--idle-timeout: Invalid time unit: foo"),
        (["worker"], 1, "Need to provide scheduler address"),
        (["worker", "tcp://127.0.0.1:1", "--death-timeout", "1 foo"], 1, "--death-timeout: Invalid time unit: foo"),
        (["worker", "tcp://127.0.0.1:1", "--lifetime", "soon"], 1, "--lifetime: "),
        (["worker", "tcp://127.0.0.1:1", "--memory-limit", "5 foos"], 1, "--memory-limit: Could not interpret 'foos'"),
        (["worker", "tcp://127.0.0.1:1", "--no-nanny", "--nworkers", "2"], 1, "--no-nanny"),
        (["nonsense"], 2, "unknown command"),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, text: str) -> None:
    result = run(*arguments)
    assert text in result.stderr
    assert "    at " not in result.stderr
    assert result.returncode == code


def test_ssh(tmp_path) -> None:
    """With an `ssh` that runs the command here."""
    import os

    fake = tmp_path / "ssh"
    fake.write_text('#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n')
    fake.chmod(0o755)
    [port] = free_ports(1)
    env = {"PATH": f"{tmp_path}:{ROOT / 'bin'}:{os.environ['PATH']}"}
    command = [DASK_TS, "ssh", "127.0.0.1", "--scheduler-port", str(port), "--remote-python", sys.executable]
    process = Process("ssh", [*command, "--local-directory", str(tmp_path)], tmp_path, env)
    try:
        with Client(f"tcp://127.0.0.1:{port}", timeout=30) as client:
            client.wait_for_workers(1, timeout=30)
            assert client.submit(inc, 1).result(timeout=20) == 2
            client.shutdown()
        assert process.popen.wait(30) == 0
        assert "[ scheduler 127.0.0.1 ] : " in process.text
    finally:
        process.kill()
