"""deploy/ansible's playbook on three machines, from nothing to a cluster that computes.

It installs Node packages and a Python environment on each of them, which takes minutes: only where DASK_TS_ANSIBLE=1.
"""

from __future__ import annotations

import os
import re
import subprocess

import asyncssh
import machines
import pytest
from distributed import Client
from processes import free_port, inc

from cloud import ROOT, wait_until

ANSIBLE = ["tool", "run", "--quiet", "--from", "ansible-core==2.19.14", "ansible-playbook"]
NAMES = ("head", "compute-1", "compute-2")

pytestmark = pytest.mark.timeout(1500)


@pytest.fixture
def hosts(tmp_path):
    reason = machines.reason_against()
    if reason is not None:
        pytest.skip(reason)
    key = asyncssh.generate_private_key("ssh-ed25519")
    key.write_private_key(tmp_path / "key")
    (tmp_path / "key").chmod(0o600)
    started = []
    try:
        for name in NAMES:
            started.append(machines.Machine(tmp_path / name, name, key, free_port()))
        (tmp_path / "known_hosts").write_text("".join(one.known for one in started))
        yield started
    finally:
        for one in started:
            one.close()


def play(folder, hosts, *variables):
    """`ansible-playbook` as README has it; its summary, a line for each host."""
    options = f"ansible_user=root ansible_ssh_private_key_file={folder}/key ansible_python_interpreter=/usr/bin/python3"
    lines = [f"{one.name} ansible_host=127.0.0.1 ansible_port={one.port} {options}" for one in hosts]
    (folder / "inventory.ini").write_text("\n".join(["[master]", lines[0], "", "[compute]", *lines[1:], ""]))
    command = [ROOT / ".tools" / "uv" / "bin" / "uv", *ANSIBLE, "-i", folder / "inventory.ini"]
    given = [part for one in variables for part in ("-e", one)]
    done = subprocess.run(
        [*command, *given, ROOT / "deploy" / "ansible" / "playbook.yml"],
        env={**os.environ, "ANSIBLE_SSH_ARGS": f"-o UserKnownHostsFile={folder}/known_hosts -o ControlMaster=no"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return {name: int(changed) for name, changed in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", done.stdout, re.M)}


def read_text(path):
    return __import__("pathlib").Path(path).read_text()


read_text.__module__ = "__main__"


def test_playbook(tmp_path, hosts):
    (tmp_path / "so.csv").write_text("id,tag\n1,python\n")
    port, dashboard = free_port(), free_port()
    variables = [
        f"scheduler_port={port}",
        f"scheduler_dashboard_port={dashboard}",
        f'{{"dask_data_files": [{{"src": "{tmp_path}/so.csv", "dest": "/data/so.csv"}}]}}',
        '{"worker_options": "--nworkers 1 --nthreads 2 --local-directory /var/tmp/dask"}',
    ]
    assert set(play(tmp_path, hosts, *variables)) == set(NAMES)
    with Client(f"tcp://127.0.0.1:{port}", timeout=30) as client:
        client.wait_for_workers(2, timeout=60)
        assert client.gather(client.map(inc, range(100))) == list(range(1, 101))
        # Files on each of them, read by the user whom the playbook makes.
        assert set(client.run(read_text, "/data/so.csv").values()) == {"id,tag\n1,python\n"}
        assert set(client.run(lambda: __import__("getpass").getuser()).values()) == {"dask"}
        assert len(client.get_versions(check=True)["workers"]) == 2
        # Once more changes nothing, and nothing starts anew.
        before = set(client.scheduler_info(n_workers=-1)["workers"])
        assert play(tmp_path, hosts, *variables) == dict.fromkeys(NAMES, 0)
        assert set(client.scheduler_info(n_workers=-1)["workers"]) == before
        # A machine that fails is one worker less.
        hosts[2].close()
        wait_until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 1, "one worker", 120)
        assert client.submit(inc, 1, pure=False).result(timeout=30) == 2
