"""Directories of stock workers beside our own."""

from __future__ import annotations

import os
import subprocess
import sys

from dask_ts.executor_scratch import purge_stock_leftovers

#: A stock worker's way to make its directory; it ends as a process that is killed.
MAKE = """
import os, sys
from distributed.diskutils import WorkSpace
directory = WorkSpace(sys.argv[1]).new_work_dir(prefix="worker-")
open(os.path.join(directory.dir_path, "spilled"), "w").close()
print(directory.dir_path, flush=True)
if sys.argv[2] == "dies":
    os._exit(1)
sys.stdin.read()
"""


def start(space, what):
    process = subprocess.Popen(
        [sys.executable, "-c", MAKE, str(space), what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


def test_dead_ones_go_and_living_ones_stay(tmp_path):
    space = tmp_path / "dask-scratch-space"
    ours = space / "worker-ours"
    ours.mkdir(parents=True)
    (space / "worker-ours.owner").write_text("host 1 1\n")
    living, its_directory = start(space, "lives")
    dead, left = start(space, "dies")
    try:
        dead.wait(30)
        assert os.path.exists(left)
        thread = purge_stock_leftovers(str(ours))
        assert thread is not None
        thread.join(30)
        assert not os.path.exists(left)
        assert not os.path.exists(left + ".dirlock")
        assert os.path.exists(os.path.join(its_directory, "spilled"))
        assert ours.exists()
    finally:
        living.communicate()
        dead.communicate()


def test_only_in_a_scratch_space(tmp_path):
    assert purge_stock_leftovers(str(tmp_path / "data" / "worker-x")) is None
