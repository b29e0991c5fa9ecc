"""The clusters of the ecosystem's suites: real processes, ours or stock (DASK_TS_ECOSYSTEM_SCHEDULER, _WORKER)."""

from __future__ import annotations

import os

import pytest

from cluster import Cluster

SCHEDULER = os.environ.get("DASK_TS_ECOSYSTEM_SCHEDULER", "ours")
WORKER = os.environ.get("DASK_TS_ECOSYSTEM_WORKER", "ours")
# Tasks are functions of the tests' modules.
ENV = {"PYTHONPATH": os.environ["PYTHONPATH"]}


@pytest.fixture(scope="module")
def cluster():
    with Cluster(scheduler=SCHEDULER, workers=(WORKER, WORKER), env=ENV) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with cluster.client() as client:
        yield client


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows the logs of its cluster's processes."""
    outcome = yield
    report = outcome.get_result()
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if report.when == "call" and report.failed and isinstance(cluster, Cluster):
        report.sections.append(("cluster", cluster.logs()))
