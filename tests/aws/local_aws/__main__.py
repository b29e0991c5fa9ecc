"""`python -m local_aws FOLDER`: runs until SIGTERM; `FOLDER/url` is written when it answers."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

# Nothing here speaks for an account: moto takes whatever key it is given.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_REGION": "us-east-1",
}


def main() -> None:
    folder = Path(sys.argv[1])
    # IAM policies that AWS manages, which the library attaches and the templates name.
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"
    os.environ.update(CREDENTIALS)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)

    from moto.server import ThreadedMotoServer

    from local_aws import resources
    from local_aws.runner import ROOT, Runner

    resources.install()
    python = Path(sys.executable).parent
    environment = {
        **CREDENTIALS,
        "PATH": f"{ROOT}/bin:{Path(__file__).parent}/bin:{python}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "DASK_TS_PYTHON": sys.executable,
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        # Every library that is imported spreads over all cores, and the processes of many containers share few.
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }
    runner = Runner(folder, environment)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        server = ThreadedMotoServer(ip_address="0.0.0.0", port=0, verbose=False)
        server.start()
        url = f"http://{runner.network.host}:{server.get_host_and_port()[1]}"
        environment["AWS_ENDPOINT_URL"] = url
        runner.start()
        (folder / "url.part").write_text(url)
        (folder / "url.part").rename(folder / "url")
        # Ends with whoever started it, also when that one was killed.
        parent = os.getppid()
        while not stop.wait(0.5) and os.getppid() == parent:
            pass
    finally:
        runner.close()


main()
