"""Runs three real analyses on a Dask cluster and checks each against the same computation without a cluster.

    python demo/run.py tcp://127.0.0.1:8786

Any cluster will do that has this folder on its PYTHONPATH: this is a stock Dask program. It may be started before the
cluster is there. Plots go to demo-output/. The exit code is 0 only if all agree.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from pathlib import Path

from distributed import Client

OUTPUT = Path(__file__).resolve().parent.parent / "demo-output"

# Each is imported when its turn comes, the one with the quickest imports first: the cluster computes while a newcomer
# still looks, instead of after ten seconds of pandas, matplotlib and scikit-learn.
ANALYSES = ["warming", "flights", "digits"]


TINY = 1000


def square(x: int) -> int:
    return x * x


def run(name: str, client: Client) -> bool:
    """One analysis: on the cluster, without it, compared, shown. True where both agree."""
    try:
        module = importlib.import_module(name)
        print(f"\n== {module.TITLE}", flush=True)
        start = time.perf_counter()
        results = module.on_cluster(client)
        on_cluster = time.perf_counter() - start
        start = time.perf_counter()
        expected = module.without_cluster()
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
    os.environ.setdefault("MPLBACKEND", "Agg")
    importlib.import_module(ANALYSES[0])  # while the cluster starts
    start = time.perf_counter()
    with Client(address, timeout=60) as client:
        threads = sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())
        print(f"connected to {client.scheduler.address}: {threads} threads, {time.perf_counter() - start:.1f} s")
        start = time.perf_counter()
        assert sum(client.gather(client.map(square, range(TINY)))) == sum(map(square, range(TINY)))
        print(f"{TINY:,} tiny tasks: {time.perf_counter() - start:.2f} s", flush=True)
        good = [run(name, client) for name in ANALYSES]
    print(f"\n{sum(good)} of {len(good)} analyses agree. Plots are in {OUTPUT.name}/")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
