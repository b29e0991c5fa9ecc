"""Each task on a network interface of its own, as on AWS: Linux network namespaces on one bridge."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

PREFIX = "daskaws"


class NetworkError(RuntimeError):
    """This machine cannot have network namespaces: it needs Linux, root and iproute2."""


def ip(*args: str) -> str:
    done = subprocess.run(["ip", *args], capture_output=True, text=True)
    if done.returncode != 0:
        raise NetworkError(f"ip {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def reason_against() -> str | None:
    """Why there can be no namespaces here, None where there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    try:
        name = f"{PREFIX}{os.getpid()}probe"
        ip("netns", "add", name)
        ip("netns", "del", name)
    except (NetworkError, FileNotFoundError) as error:
        return str(error)
    return None


def claim_prefix() -> tuple[str, socket.socket]:
    """The first half of addresses that no other process has; a name that the kernel frees with the process holds it."""
    for octet in range(64, 192):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0{PREFIX}-10.{octet}")
            return f"10.{octet}", claim
        except OSError:
            claim.close()
    raise NetworkError("all networks are in use")


class TaskNetwork:
    """A bridge of this process, whose first address is the host's; tasks get the others."""

    def __init__(self) -> None:
        self.id = os.getpid()
        self.prefix, self._claim = claim_prefix()
        self.host = f"{self.prefix}.0.1"
        # Names of interfaces have 15 letters at most.
        self.bridge = f"dab{self.id}"
        self._remove_dead()
        ip("link", "add", self.bridge, "type", "bridge")
        ip("addr", "add", f"{self.host}/16", "dev", self.bridge)
        ip("link", "set", self.bridge, "up")
        # An engine for containers may have set bridged traffic to be dropped.
        self._rule = ["FORWARD", "-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT"]
        subprocess.run(["iptables", "-I", *self._rule], capture_output=True)
        self.count = 0

    def next_address(self) -> str:
        self.count += 1
        return f"{self.prefix}.{1 + self.count // 250}.{1 + self.count % 250}"

    def add(self, address: str) -> str:
        """A namespace with this address; its name."""
        number = address.rsplit(".", 2)[1:]
        name = f"{PREFIX}{self.id}-{number[0]}-{number[1]}"
        veth = f"d{self.id % 10**6}x{int(number[0]) * 256 + int(number[1])}"
        ip("netns", "add", name)
        ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("link", "set", veth, "master", self.bridge, "up")
        ip("-n", name, "addr", "add", f"{address}/16", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "route", "add", "default", "via", self.host)
        return name

    def remove(self, name: str) -> None:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def close(self) -> None:
        for name in self._names(self.id):
            self.remove(name)
        subprocess.run(["iptables", "-D", *self._rule], capture_output=True)
        subprocess.run(["ip", "link", "del", self.bridge], capture_output=True)
        self._claim.close()

    @staticmethod
    def _names(owner: int) -> list[str]:
        names = [line.split()[0] for line in ip("netns", "list").splitlines() if line.strip()]
        return [name for name in names if name.startswith(f"{PREFIX}{owner}-")]

    def _remove_dead(self) -> None:
        """What runs that were killed left behind."""
        names = [line.split()[0] for line in ip("netns", "list").splitlines() if line.startswith(PREFIX)]
        for name in names:
            owner = name[len(PREFIX) :].partition("-")[0]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                self.remove(name)
                subprocess.run(["ip", "link", "del", f"dab{owner}"], capture_output=True)
