"""How soon the workers of one command are registered, and what all its processes hold at rest: stock's and ours.

    worker_start.py [--nworkers 4] [--rounds 3] [--kinds stock,ours]

Each kind starts in turn against the same scheduler (ours). `registered`: from the start of the command until its
scheduler knows all workers, seconds. `memory`: the proportional set size of the whole process tree, MB, once it has
been idle for `--settle` seconds; shared pages count once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time

import psutil
from distributed import Client

import bench


def tree_memory(pid: int) -> tuple[float, int]:
    """PSS of a process and all below it in MB, and how many they are."""
    root = psutil.Process(pid)
    processes = [root, *root.children(recursive=True)]
    return sum(process.memory_full_info().pss for process in processes) / 1e6, len(processes)


def measure(kind: str, client: Client, args: argparse.Namespace, folder: str) -> tuple[float, float, int]:
    command = [
        *bench.WORKERS[kind],
        client.scheduler.address,
        "--nworkers",
        str(args.nworkers),
        "--nthreads",
        "1",
    ]
    start = time.perf_counter()
    with subprocess.Popen(
        [*command, "--local-directory", folder, "--no-dashboard"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            while len(client.scheduler_info(n_workers=-1)["workers"]) < args.nworkers:
                time.sleep(0.01)
            registered = time.perf_counter() - start
            time.sleep(args.settle)
            memory, count = tree_memory(process.pid)
        finally:
            process.terminate()
            process.wait()
        while client.scheduler_info(n_workers=-1)["workers"]:
            time.sleep(0.05)
    return registered, memory, count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nworkers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settle", type=float, default=5.0)
    parser.add_argument("--kinds", default="stock,ours")
    args = parser.parse_args()
    kinds = args.kinds.split(",")
    best: dict[str, list[tuple[float, float, int]]] = {kind: [] for kind in kinds}
    with (
        tempfile.TemporaryDirectory() as folder,
        bench.Cluster("ours", 0, 1, folder) as cluster,
        Client(cluster.address) as client,
    ):
        for _ in range(args.rounds):
            for kind in kinds:
                best[kind].append(measure(kind, client, args, folder))
    print("| workers | registered, s | memory, MB | processes |")
    print("| --- | --- | --- | --- |")
    for kind, rows in best.items():
        registered, memory, count = (min(column) for column in zip(*rows, strict=True))
        print(f"| {kind}, {args.nworkers} | {registered:.2f} | {memory:.0f} | {count} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
