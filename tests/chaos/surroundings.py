"""Broken surroundings: peers that send rubbish or read slowly, small disks, networks that can be cut."""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
#: For processes that are to import what is in this folder.
PYTHONPATH = os.pathsep.join([str(FOLDER), str(FOLDER.parent / "e2e")])


def is_root() -> bool:
    return os.geteuid() == 0


def place(address: str) -> tuple[str, int]:
    host, port = address.removeprefix("tcp://").rsplit(":", 1)
    return host, int(port)


def send_rubbish(address: str, seed: int, connections: int = 10) -> None:
    """Bytes that are no message, broken lengths, and half a message, each on a connection of its own."""
    rng = random.Random(seed)
    kinds = [
        lambda: rng.randbytes(rng.randrange(1, 5000)),
        lambda: struct.pack("<QQ", 16, 10**9) + bytes(64),
        lambda: struct.pack("<QQQ", 24, 1, 2**60) + bytes(64),
        lambda: struct.pack("<QQQ", 28, 1, 4) + b"\xc1\xc1\xc1\xc1",
        lambda: struct.pack("<QQQ", 1024, 1, 1000) + rng.randbytes(100),
        lambda: b"",
    ]
    for _ in range(connections):
        with contextlib.suppress(OSError), socket.create_connection(place(address), timeout=5) as raw:
            raw.sendall(rng.choice(kinds)())
            if rng.random() < 0.5:
                raw.settimeout(0.2)
                raw.recv(65536)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own (needs root)."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


class Network:
    """Hosts as network namespaces on one switch, itself a namespace; a host's cable can be pulled (needs root)."""

    def __init__(self, hosts: int):
        self.tag = f"dtc{os.getpid()}"
        self.switch = f"{self.tag}s"
        self.names = [f"{self.tag}h{i}" for i in range(hosts)]

    def __enter__(self) -> Network:
        try:
            self._ip("netns", "add", self.switch)
            self._in(self.switch, "link", "add", "sw", "type", "bridge")
            self._in(self.switch, "link", "set", "sw", "up")
            for i, name in enumerate(self.names):
                self._ip("netns", "add", name)
                port = f"port{i}"
                self._in(self.switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
                self._in(self.switch, "link", "set", port, "master", "sw", "up")
                self._in(name, "addr", "add", f"{self.address(i)}/24", "dev", "eth0")
                self._in(name, "link", "set", "lo", "up")
                self._in(name, "link", "set", "eth0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        for name in [*self.names, self.switch]:
            subprocess.run(["ip", "netns", "del", name], check=False, stderr=subprocess.DEVNULL)

    @staticmethod
    def address(host: int) -> str:
        return f"10.77.0.{host + 1}"

    def command(self, host: int, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.names[host], *command]

    def cut(self, host: int) -> None:
        """Nothing comes or goes, and nobody is told."""
        self._in(self.switch, "link", "set", f"port{host}", "down")

    def mend(self, host: int) -> None:
        self._in(self.switch, "link", "set", f"port{host}", "up")

    def _in(self, name: str, *arguments: str) -> None:
        self._ip("-n", name, *arguments)

    @staticmethod
    def _ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)
