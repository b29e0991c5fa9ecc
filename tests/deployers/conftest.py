"""Stock deployers in a Python whose modules start dask-ts."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid

import pytest
from processes import Processes, new_environment

from cloud import ROOT

# It takes minutes, and only where somebody asks for it.
collect_ignore = [] if os.environ.get("DASK_TS_ANSIBLE") == "1" else ["test_ansible.py"]


@pytest.fixture
def processes(monkeypatch):
    mark = uuid.uuid4().hex
    monkeypatch.setenv("DASK_TS_TEST", mark)
    found = Processes(mark)
    yield found
    for process in found.all():
        process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="session")
def python(tmp_path_factory) -> str:
    """An environment in which `dask-ts deploy redirect` was run."""
    python, _ = new_environment(tmp_path_factory.mktemp("python"))
    done = subprocess.run([ROOT / "bin" / "dask-ts", "deploy", "redirect", python], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return str(python)
