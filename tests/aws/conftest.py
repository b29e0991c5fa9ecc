"""AWS on this machine for a whole run: moto's server and a runner of tasks (local_aws)."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cloud import VARIABLES, Cloud, wait_until
from local_aws import network


@pytest.fixture(scope="session")
def cloud():
    reason = network.reason_against()
    if reason is not None:
        pytest.skip(reason)
    # What other AWS settings the machine has must not leak in.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(VARIABLES)
    with tempfile.TemporaryDirectory(prefix="dask-ts-aws-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        log = (folder / "server.log").open("wb")
        server = subprocess.Popen(
            [sys.executable, "-m", "local_aws", str(folder)], cwd=Path(__file__).parent, stdout=log, stderr=log
        )
        try:
            url = folder / "url"
            wait_until(lambda: url.exists() or server.poll() is not None, "moto's server", 120)
            assert server.poll() is None, (folder / "server.log").read_text()
            os.environ["AWS_ENDPOINT_URL"] = url.read_text()
            os.environ["DASK_TS_PYTHON"] = sys.executable
            cloud = Cloud(url.read_text(), folder)
            # What every account has by now, and moto only where it was asked for.
            cloud.client("ecs").put_account_setting(name="taskLongArnFormat", value="enabled")
            yield cloud
        finally:
            server.terminate()
            server.wait(60)


@pytest.fixture(scope="session")
def place(cloud):
    """A VPC, and its private subnets, for everything that needs one."""
    return cloud.network_of()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what the last tasks printed; below these long logs once more what failed."""
    outcome = yield
    report = outcome.get_result()
    cloud = getattr(item, "funcargs", {}).get("cloud")
    if report.when == "call" and report.failed and isinstance(cloud, Cloud):
        report.sections.append(("tasks", cloud.logs()))
        report.sections.append(("server", (cloud.folder / "server.log").read_text()[-3000:]))
        report.sections.append(("what failed", str(call.excinfo.getrepr(style="short"))[:4000]))
