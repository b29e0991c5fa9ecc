from __future__ import annotations

import pytest

from cluster import Cluster


@pytest.fixture(scope="module")
def cluster():
    """Ours and ours: a scheduler and two workers of one thread, shared by the module's tests."""
    with Cluster() as cluster:
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
    if report.when == "call" and report.failed and cluster is not None:
        report.sections.append(("cluster", cluster.logs()))
