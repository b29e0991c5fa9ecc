"""A dispatch while another thread imports the package that fills the table."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import dask_ts

PROGRAM = """
import sys, threading
import numpy
sys.modules["xarray"] = None  # it would take seconds
from dask_ts.imports import patience_with_imports, wait_for_imports

if sys.argv[1] == "patient":
    patience_with_imports()
reached, proceed = threading.Event(), threading.Event()

class Stop:
    def find_spec(self, name, path, target=None):
        if name == "dask.array.percentile":  # in backends.py, before it registers anything
            reached.set()
            proceed.wait(20)

sys.meta_path.insert(0, Stop())

def whole():
    import dask.array

def part():
    from dask.array.core import concatenate3
    try:
        print(concatenate3([numpy.ones(2), numpy.ones(1)]).tolist())
    except TypeError as e:
        print(e)

first = threading.Thread(target=whole)
first.start()
assert reached.wait(60)
second = threading.Thread(target=part)
second.start()
second.join(1 if sys.argv[1] == "patient" else 20)
waited = second.is_alive()
proceed.set()
second.join(20)
first.join(20)
print("waited" if waited else "did not wait")
"""


def run(how):
    command = [sys.executable, "-c", PROGRAM, how]
    env = {**os.environ, "PYTHONPATH": str(Path(dask_ts.__file__).parent.parent)}
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60, env=env).stdout.splitlines()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("patient", ["[1.0, 1.0, 1.0]", "waited"]),
        # what is mended: should this ever pass without patience, the module can go
        ("as it is", ["No dispatch for <class 'numpy.ndarray'>", "did not wait"]),
    ],
)
def test_a_table_that_is_not_full_yet(how, said):
    assert run(how) == said
