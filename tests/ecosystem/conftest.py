"""The clusters of the ecosystem's suites: real processes, ours or stock (DASK_TS_ECOSYSTEM_SCHEDULER, _WORKER)."""

from __future__ import annotations

import os

import pytest

from cluster import Cluster
from failure_report import pytest_runtest_makereport as pytest_runtest_makereport

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
