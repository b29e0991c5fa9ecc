"""`dask-ts deploy redirect`: what `python -m …` starts."""

from __future__ import annotations

import os
import subprocess

import pytest
from processes import new_environment

from cloud import ROOT

PROGRAM = ROOT / "bin" / "dask-ts"


def redirect(*args):
    return subprocess.run([PROGRAM, "deploy", "redirect", *args], capture_output=True, text=True)


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    """An environment whose redirected modules tell what they would start."""
    python, packages = new_environment(tmp_path_factory.mktemp("echo"))
    assert redirect(python).returncode == 0
    file = packages / "dask_ts_redirect.py.command"
    node, program = file.read_text().splitlines()
    assert os.access(node, os.X_OK)
    assert program == str(PROGRAM)
    file.write_text("/bin/echo\n")
    return python


def said(python, *args, **variables):
    done = subprocess.run([python, *args], capture_output=True, text=True, env={**os.environ, **variables})
    return done.stdout.strip()


def test_modules_start_dask_ts(echo):
    for role in ("scheduler", "worker", "spec", "ssh"):
        assert said(echo, "-m", f"distributed.cli.dask_{role}", "--name", "a b") == f"{role} --name a b"
    assert said(echo, "-m", "dask", "spec", "--spec", "{}") == "spec --spec {}"


def test_everything_else_is_stocks(echo):
    assert "Usage: python -m dask" in said(echo, "-m", "dask", "--help")
    stock = said(echo, "-m", "distributed.cli.dask_worker", "--help", DASK_TS_REDIRECT="0")
    assert stock.startswith("Usage:") and "--termination-grace" not in stock
    assert said(echo, "-c", "import distributed.cli.dask_worker as one; print(one.__name__)").endswith(".dask_worker")


def test_it_can_be_undone(tmp_path):
    python, packages = new_environment(tmp_path)
    before = sorted(packages.iterdir())
    redirect(python)
    assert len(list(packages.iterdir())) == len(before) + 3
    assert redirect("--remove", python).stdout.startswith("Removed from ")
    assert sorted(one for one in packages.iterdir() if one.name != "__pycache__") == before
    assert redirect("--remove", python).stdout.startswith("Nothing of dask-ts is in ")
    done = redirect(tmp_path / "none")
    assert done.returncode == 1
    assert "is no Python" in done.stderr
