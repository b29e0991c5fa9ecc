"""Counts what a deployer starts and leaves; what is computed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from cloud import wait_until


class Processes:
    """What was started with this run's mark in its environment, by whomever."""

    def __init__(self, mark: str):
        self.mark = mark

    def all(self) -> list[psutil.Process]:
        return [one for one in psutil.process_iter() if one.pid != os.getpid() and self.is_marked(one)]

    def is_marked(self, process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE and process.environ().get("DASK_TS_TEST") == self.mark
        except psutil.Error:
            return False

    def of_dask_ts(self) -> list[str]:
        """The roles that run now: `scheduler`, `worker`, `spec`."""
        lines = [line for line in map(command_line, self.all()) if "node" in line[:1][0] and "dask-ts" in line[1]]
        return sorted(line[2] for line in lines)

    def assert_none_left(self) -> None:
        wait_until(lambda: not self.all(), f"the end of {[command_line(one) for one in self.all()]}")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def command_line(process: psutil.Process) -> list[str]:
    try:
        return [*process.cmdline(), "", "", ""]
    except psutil.Error:
        return ["", "", ""]


def new_environment(folder: Path) -> tuple[Path, Path]:
    """A Python with the packages of this one, and the folder for more."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "same.pth").write_text(f"{Path(psutil.__file__).parents[1]}\n")
    return folder / "bin" / "python", packages


def inc(x):
    return x + 1


def slow_inc(x):
    time.sleep(0.5)
    return x + 1


# Of no module that workers could import: they are sent whole.
inc.__module__ = slow_inc.__module__ = "__main__"
