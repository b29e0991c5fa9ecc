"""The examples, small, on a cluster of ours as the templates start it: every script, and a notebook."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from cloud import IMAGE, ROOT, VARIABLES

# They share a cluster: one process of the run has all of them.
pytestmark = pytest.mark.xdist_group("examples")

EXAMPLES = ROOT / "examples"
SCRIPTS = sorted(file.stem for file in EXAMPLES.glob("*.py") if file.stem != "notebooks")
SIZES = {
    "climate": {"MAKE_DATA": "1", "MONTHS": "2"},
    "machine_learning": {"DIGITS": "300", "POINTS": "20000"},
    "plain_machines": {"SIZE": "400", "ROWS": "5000"},
    "shared_drive": {},
}


@pytest.fixture(scope="module")
def variables(cloud, tmp_path_factory):
    """A workshop of two workers, as its notebook sees it."""
    up = cloud.command("aws", "workshop", "up", "--name", "examples", "--image", IMAGE, "--workers", "2")
    assert "Dask-Worker 2/2" in up.stderr
    cluster = "examples-Fargate-Dask-Cluster"
    folder = tmp_path_factory.mktemp("shared")
    yield {
        **os.environ,
        **VARIABLES,
        "DASK_SCHEDULER_ADDRESS": f"tcp://{cloud.address(cluster, 'Dask-Scheduler')}:8786",
        "DASK_CLUSTER_NAME": cluster,
        "SHARED": str(folder),
        "TMPDIR": str(folder),
        "REPORT": str(folder / "report.html"),
        "OMP_NUM_THREADS": "1",
    }
    cloud.command("aws", "workshop", "down", "--name", "examples", "--yes")


def test_notebooks_are_what_the_scripts_say():
    done = subprocess.run([sys.executable, EXAMPLES / "notebooks.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {file.stem for file in EXAMPLES.glob("*.ipynb")} == set(SCRIPTS) == set(SIZES)


@pytest.mark.parametrize("name", SCRIPTS)
def test_script(cloud, variables, name):
    environment = {**variables, **SIZES[name]}
    if name == "climate":
        environment["SCALE_TO"] = "3"
    done = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py"], env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # On the cluster, and on no other that a client without an address would start.
    assert re.search(r"<Client: 'tcp://10\.\d+\.\d+\.\d+:8786' processes=[23] threads=[46]", done.stdout)
    for line in WORDS[name]:
        assert line in done.stdout, done.stdout
    if name == "climate":
        report = (EXAMPLES / variables["REPORT"]).read_text()
        assert "<html" in report.lower() and "mean" in report


WORDS = {
    "climate": ["2 files", "100% Completed", "warmest:", "3 workers"],
    "machine_learning": ["best of 48 fits", "points around", "accuracy"],
    "plain_machines": ["the mean of the means", "javascript"],
    "shared_drive": ["workers read it", "12"],
}


def test_notebook(variables, monkeypatch):
    """One of them runs as a notebook does; their code is the scripts'."""
    for name, value in {**variables, **SIZES["plain_machines"]}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(EXAMPLES / "plain_machines.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = [one for cell in notebook.cells if cell.cell_type == "code" for one in cell.outputs]
    assert any("Client: 'tcp://10." in one.get("text", "") for one in outputs)
