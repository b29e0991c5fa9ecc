"""Runs three real analyses on a Dask cluster and checks each against the same computation without a cluster.

    python demo/run.py tcp://127.0.0.1:8786

Any cluster will do that has this folder on its PYTHONPATH: this is a stock Dask program. Plots go to demo-output/.
The exit code is 0 only if all agree.
"""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from distributed import Client

import digits
import flights
import warming

OUTPUT = Path(__file__).resolve().parent.parent / "demo-output"

ANALYSES = [
    (flights, flights.with_pandas),
    (warming, warming.without_cluster),
    (digits, digits.without_cluster),
]


def run(module, locally, client: Client) -> bool:
    """One analysis: on the cluster, without it, compared, shown. True where both agree."""
    print(f"\n== {module.TITLE}", flush=True)
    try:
        start = time.perf_counter()
        results = module.on_cluster(client)
        on_cluster = time.perf_counter() - start
        start = time.perf_counter()
        expected = locally()
        alone = time.perf_counter() - start
        module.check(results, expected)
    except Exception:
        traceback.print_exc()
        print("   FAILED", flush=True)
        return False
    for line in module.show(results, OUTPUT):
        print(f"   {line}")
    print(f"   agrees with the computation without a cluster; {on_cluster:.1f} s here, {alone:.1f} s there", flush=True)
    return True


def main(address: str) -> int:
    OUTPUT.mkdir(exist_ok=True)
    start = time.perf_counter()
    with Client(address, timeout=30) as client:
        threads = sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
        print(f"connected to {client.scheduler.address}: {threads} threads, {time.perf_counter() - start:.1f} s")
        good = [run(module, locally, client) for module, locally in ANALYSES]
    print(f"\n{sum(good)} of {len(good)} analyses agree. Plots are in {OUTPUT.name}/")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
