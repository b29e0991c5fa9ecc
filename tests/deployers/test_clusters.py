"""SSHCluster, SubprocessCluster and dask-jobqueue, unmodified: up, scaled, adapted, closed, nothing left."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from pathlib import Path

import asyncssh
import pytest
from dask_jobqueue.local import LocalCluster
from distributed import Client, SSHCluster, SubprocessCluster
from machines import SSHD
from processes import free_port, inc, slow_inc

from cloud import wait_until


@pytest.fixture
def sshd(tmp_path, processes):
    """OpenSSH's server on a port of its own, with keys made here; what it takes to connect to it."""
    if SSHD is None:
        pytest.skip("no sshd here: apt-get install openssh-server")
    host, user = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    host.write_private_key(tmp_path / "host")
    (tmp_path / "authorized_keys").write_bytes(user.export_public_key())
    (tmp_path / "host").chmod(0o600)
    port = free_port()
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{port} {host.export_public_key().decode()}")
    (tmp_path / "sshd_config").write_text(f"""
Port {port}
ListenAddress 127.0.0.1
HostKey {tmp_path}/host
AuthorizedKeysFile {tmp_path}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
MaxStartups 100
SetEnv DASK_TS_TEST={processes.mark}
""")
    command = [SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"]
    user_name = getpass.getuser()
    if os.geteuid() == 0:
        # OpenSSH signals no process of root's: root under another name, which only this server knows.
        user_name = "somebody"
        passwd = tmp_path / "passwd"
        passwd.write_text(f"{Path('/etc/passwd').read_text()}somebody:*:4242:4242::/tmp:/bin/sh\n")
        namespace = "unshare --user --map-user=4242 --map-group=4242"
        command = ["sh", "-c", f'mount --bind {passwd} /etc/passwd && exec {namespace} "$@"', "sh", *command]
        command = ["unshare", "--mount", *command]
    log = (tmp_path / "log").open("wb")
    # Without this run's mark: it ends here, and what it starts is counted.
    server = subprocess.Popen(command, stderr=log, env={"PATH": os.environ["PATH"]})
    wait_until(lambda: b"Server listening" in (tmp_path / "log").read_bytes() or server.poll() is not None, "sshd")
    assert server.poll() is None, (tmp_path / "log").read_text()
    yield {
        "port": port,
        "username": user_name,
        "known_hosts": str(tmp_path / "known_hosts"),
        "client_keys": [user],
    }
    server.terminate()
    server.wait(10)


def test_ssh_cluster(sshd, python, processes):
    with (
        SSHCluster(
            ["127.0.0.1"] * 5,
            connect_options=sshd,
            worker_options={"nthreads": 1, "memory_limit": "1 GB"},
            scheduler_options={"port": 0, "dashboard_address": ":0"},
            remote_python=python,
        ) as cluster,
        Client(cluster, timeout=90) as client,
    ):
        client.wait_for_workers(4, timeout=90)
        assert processes.of_dask_ts().count("spec") == 5
        assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
        workers = client.scheduler_info(n_workers=-1)["workers"].values()
        assert {one["nthreads"] for one in workers} == {1}
        assert {one["memory_limit"] for one in workers} == {10**9}
        assert cluster.dashboard_link.endswith("/status")
        cluster.scale(1)
        wait_until(lambda: workers_of(client) == 1, "one worker")
        assert client.submit(inc, 1, pure=False).result() == 2
    processes.assert_none_left()


def adapts(cluster, client):
    """Down to one worker where there is no work, and up where there is."""
    cluster.adapt(minimum=1, maximum=2, interval="100ms", wait_count=2, target_duration="500ms")
    wait_until(lambda: workers_of(client) == 1, "one worker")
    futures = client.map(slow_inc, range(8), pure=False)
    client.wait_for_workers(2, timeout=90)
    assert client.gather(futures) == list(range(1, 9))


def workers_of(client):
    return len(client.scheduler_info(n_workers=-1)["workers"])


def test_subprocess_cluster(monkeypatch, python, processes):
    monkeypatch.setattr(sys, "executable", python)
    options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": ":0"}
    with SubprocessCluster(**options) as cluster, Client(cluster, timeout=90) as client:
        cluster.scale(4)
        client.wait_for_workers(4, timeout=90)
        assert processes.of_dask_ts().count("spec") == 5
        assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
        # Its workers have other names than it thinks, so that `adapt` is of no use with stock either.
        cluster.scale(1)
        wait_until(lambda: workers_of(client) == 1, "one worker")
        assert client.submit(inc, 1, pure=False).result() == 2
    processes.assert_none_left()


@pytest.mark.parametrize("security", [False, True], ids=["tcp", "tls"])
def test_jobqueue(tmp_path, python, processes, security):
    """Its scheduler is stock's, in the user's process; its workers are ours."""
    options = {"protocol": "tls://", "security": True, "shared_temp_directory": str(tmp_path)} if security else {}
    with (
        LocalCluster(
            cores=1,
            processes=1,
            memory="1 GB",
            python=python,
            local_directory=str(tmp_path),
            death_timeout=30,
            scheduler_options={"dashboard_address": ":0", "host": "127.0.0.1"},
            **options,
        ) as cluster,
        Client(cluster, timeout=90) as client,
    ):
        cluster.scale(jobs=4 if not security else 1)
        client.wait_for_workers(1 if security else 4, timeout=90)
        assert "worker" in processes.of_dask_ts()
        assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
        if not security:
            cluster.scale(jobs=3)
            wait_until(lambda: workers_of(client) == 3, "three workers")
            adapts(cluster, client)
    processes.assert_none_left()
