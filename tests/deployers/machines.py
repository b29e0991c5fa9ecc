"""Plain machines on this one: each a copy of its file system with SSH, a user's keys, and processes of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import asyncssh

from cloud import wait_until

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
# What a fresh machine does not have: other people's work.
HIDDEN = ("root", "work", "tmp", "mnt", "srv")
# And what this one needs to reach the package registries.
ENVIRONMENT = ["CI=true", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
ENVIRONMENT += [
    f"{name}={value}" for name, value in os.environ.items() if re.fullmatch(r"(NODE|SSL|PIP)_\w*CERT\w*", name)
]


class Machine:
    """`root` is its file system as it sees it, while it runs; only what it changes takes space."""

    def __init__(self, folder: Path, name: str, key: asyncssh.SSHKey, port: int):
        self.folder, self.name, self.port = folder, name, port
        self.upper = folder / "changes"
        work, self.root = folder / "work", folder / "root"
        for one in (self.upper, work, self.root):
            one.mkdir(parents=True)
        host = asyncssh.generate_private_key("ssh-ed25519")
        self.write("etc/ssh/test_key", host.export_private_key().decode(), 0o600)
        self.write("etc/ssh/test_authorized_keys", key.export_public_key().decode(), 0o644)
        self.write("usr/bin/systemctl", Path(__file__).with_name("systemctl.py").read_text(), 0o755)
        config = ["ListenAddress 127.0.0.1", "HostKey /etc/ssh/test_key", "PermitRootLogin prohibit-password"]
        config += [f"Port {port}", "AuthorizedKeysFile /etc/ssh/test_authorized_keys", "PidFile none", "UsePAM no"]
        config += [
            "StrictModes no",
            "Subsystem sftp internal-sftp",
            f"SetEnv {' '.join(ENVIRONMENT)}",
        ]
        self.write("etc/ssh/test_config", "\n".join(config) + "\n", 0o644)
        self.known = f"[127.0.0.1]:{port} {host.export_public_key().decode()}"
        hide = " && ".join(f"mount -t tmpfs -o mode=1777 tmpfs {self.root}/{one}" for one in (*HIDDEN, "run"))
        script = (
            f"mount -t overlay -o lowerdir=/,upperdir={self.upper},workdir={work} overlay {self.root} && {hide} && "
            f"mount -t proc proc {self.root}/proc && mount --rbind /dev {self.root}/dev"
            f" && mkdir {self.root}/run/sshd && "
            f"hostname {name} && cd / && exec chroot {self.root} {SSHD} -D -e -f /etc/ssh/test_config"
        )
        self.log = folder / "sshd.log"
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--uts", "--kill-child"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([*namespaces, "sh", "-c", script], stderr=log, stdout=log)
        wait_until(lambda: "Server listening" in self.log.read_text() or self.process.poll() is not None, "SSH", 10)
        assert self.process.poll() is None, self.log.read_text()

    def write(self, name: str, text: str, mode: int) -> None:
        file = self.upper / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def close(self) -> None:
        """Pulls the plug: with its first process all of its processes end, and what they mounted is gone."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)


def reason_against() -> str | None:
    if os.geteuid() != 0:
        return "machines with file systems of their own need root"
    return None if SSHD is not None else "no sshd here: apt-get install openssh-server"
