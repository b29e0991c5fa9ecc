"""Real clusters for tests: scheduler and workers as processes, ours or stock, on real sockets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from distributed import Client

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 30
OURS = {"scheduler": [str(ROOT / "bin" / "dask-scheduler")], "worker": [str(ROOT / "bin" / "dask-worker")]}
STOCK = {
    "scheduler": [sys.executable, "-m", "distributed.cli.dask_scheduler"],
    "worker": [sys.executable, "-m", "distributed.cli.dask_worker"],
}
COMMANDS = {"ours": OURS, "stock": STOCK}
# DASK_TS_E2E=stock runs the tests on stock processes, to see that the tests themselves are right.
DEFAULT = os.environ.get("DASK_TS_E2E", "ours")
# Every invariant of both state machines is checked after every event.
VALIDATE = {"DASK_DISTRIBUTED__SCHEDULER__VALIDATE": "True", "DASK_DISTRIBUTED__WORKER__VALIDATE": "True"}


def wait_until(condition: Callable[[], object], what: str, seconds: float = START_SECONDS) -> None:
    """Polls until the condition holds; fails with `what` where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Process:
    """One command in its own process group, its output in a file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, env: dict[str, str]):
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as output:
            self.popen = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **VALIDATE, "PYTHONPATH": str(ROOT / "tests" / "e2e"), **env},
                cwd=folder,
                start_new_session=True,
            )

    @property
    def text(self) -> str:
        return self.log.read_text(errors="replace")

    @property
    def running(self) -> bool:
        return self.popen.poll() is None

    def stop(self, seconds: float = 15) -> int:
        """SIGTERM, as every deployer sends it; the exit code."""
        self.popen.terminate()
        return self.popen.wait(seconds)

    def kill(self) -> None:
        """The whole group at once, without a word."""
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()


def is_whole(file: Path) -> bool:
    """Whether the JSON is there; stock writes it in place, so half of it may be."""
    try:
        json.loads(file.read_text())
    except (OSError, ValueError):
        return False
    return True


class Cluster:
    """A scheduler and workers; a context manager that leaves no process behind."""

    def __init__(
        self,
        scheduler: str = DEFAULT,
        workers: Sequence[str] = (DEFAULT, DEFAULT),
        nthreads: int = 1,
        scheduler_flags: Sequence[str] = (),
        worker_flags: Sequence[str] = (),
        env: dict[str, str] | None = None,
        client_options: dict | None = None,
    ):
        self.kinds = (scheduler, list(workers))
        self.nthreads = nthreads
        self.scheduler_flags = list(scheduler_flags)
        self.worker_flags = list(worker_flags)
        self.env = env or {}
        self.client_options = client_options or {}
        self.processes: list[Process] = []
        self.address = ""

    def __enter__(self) -> Cluster:
        self.folder = Path(tempfile.mkdtemp(prefix="dask-ts-e2e-"))
        try:
            self.start_scheduler()
            for kind in self.kinds[1]:
                self.start_worker(kind)
            if self.kinds[1]:
                self.wait_for_workers(len(self.kinds[1]))
        except BaseException:
            self.__exit__()
            raise
        return self

    def start_scheduler(self) -> None:
        file = self.folder / "scheduler.json"
        command = [*COMMANDS[self.kinds[0]]["scheduler"], *self.python("scheduler", self.kinds[0])]
        command += [
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--dashboard-address",
            "127.0.0.1:0",
            "--scheduler-file",
            str(file),
        ]
        self.scheduler = Process("scheduler", [*command, *self.scheduler_flags], self.folder, self.env)
        self.processes.append(self.scheduler)
        wait_until(lambda: is_whole(file) or not self.scheduler.running, "the scheduler file")
        assert self.scheduler.running, self.scheduler.text
        self.identity = json.loads(file.read_text())
        self.address = self.identity["address"]

    def start_worker(self, kind: str, *flags: str) -> Process:
        command = [*COMMANDS[kind]["worker"], self.address, *self.python("worker", kind)]
        command += ["--nthreads", str(self.nthreads), "--memory-limit", "2GB", "--host", "127.0.0.1"]
        command += ["--local-directory", str(self.folder), "--dashboard-address", "127.0.0.1:0"]
        count = sum(1 for process in self.processes if process.name.startswith("worker"))
        process = Process(f"worker-{count}", [*command, *self.worker_flags, *flags], self.folder, self.env)
        self.processes.append(process)
        return process

    @staticmethod
    def python(role: str, kind: str) -> list[str]:
        return ["--python", sys.executable] if kind == "ours" else []

    @property
    def workers(self) -> list[Process]:
        return [process for process in self.processes if process.name.startswith("worker")]

    def worker_at(self, address: str) -> Process:
        return next(process for process in self.workers if f"Start worker at:      {address}" in process.text)

    def wait_for_workers(self, n: int) -> None:
        with self.client() as client:
            client.wait_for_workers(n, timeout=START_SECONDS)

    def client(self, **options) -> Client:
        return Client(self.address, timeout=START_SECONDS, **{**self.client_options, **options})

    def logs(self) -> str:
        return "\n".join(f"--- {process.name}\n{process.text[-5000:]}" for process in self.processes)

    def __exit__(self, *_) -> None:
        for process in reversed(self.processes):
            process.kill()
        # what killed workers had on disk, gigabytes in some tests; the logs stay
        shutil.rmtree(self.folder / "dask-scratch-space", ignore_errors=True)
