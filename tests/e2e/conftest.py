from __future__ import annotations

import pytest

from cluster import Cluster
from failure_report import pytest_runtest_makereport as pytest_runtest_makereport


@pytest.fixture(scope="module")
def cluster():
    """Ours and ours: a scheduler and two workers of one thread, shared by the module's tests."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with cluster.client() as client:
        yield client
