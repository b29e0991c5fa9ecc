"""Arrays on their way between two workers: stock's workers and ours, with the same scheduler (ours).

    transfer.py [--shapes 1x1000,100x10] [--fill random,ones] [--rounds 3] [--kinds stock,ours] [--scheduler ours|stock]
                [--one-command]

`1x1000`: one array of 1000 MB. A task on the second worker needs arrays that the first one holds; measured is the time
from its submission to its result, which is the transfer and some milliseconds. Arrays are made anew for each round, and
the kinds take turns: the first round warms up. GB/s: the best round and the median one. `CPU`: median of the seconds of
both workers' whole process trees for one GB. `--one-command`: both workers from one `--nworkers 2`.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import numpy as np
from distributed import Client, wait

import bench

MB = 1_000_000


@dataclass
class Pair:
    """Two workers of a kind."""

    processes: list[subprocess.Popen]
    addresses: list[str]


def make(count: int, fill: str, seed: int) -> np.ndarray:
    if fill == "ones":
        return np.ones(count // 8)
    return np.frombuffer(np.random.default_rng(seed).bytes(count), dtype="float64")


def first_bytes(arrays: list[np.ndarray]) -> int:
    return sum(array.nbytes for array in arrays)


def start_workers(kind: str, address: str, folder: str, one_command: bool) -> list[subprocess.Popen]:
    options = [address, "--nthreads", "1", "--memory-limit", "0", "--no-dashboard", "--local-directory", folder]
    commands = [[*options, "--nworkers", "2"]] if one_command else [[*options, "--no-nanny"]] * 2
    return [
        subprocess.Popen([*bench.WORKERS[kind], *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]


def cpu(processes: list[subprocess.Popen]) -> float:
    return sum(bench.cpu_seconds(bench.tree_of(process.pid)) for process in processes)


def transfer(pair: Pair, client: Client, count: int, megabytes: int, fill: str) -> tuple[float, float]:
    """Seconds and CPU seconds of one transfer."""
    first, second = pair.addresses
    arrays = [
        client.submit(make, megabytes * MB, fill, i, workers=[first], pure=False, allow_other_workers=False)
        for i in range(count)
    ]
    wait(arrays)
    time.sleep(0.3)
    before = cpu(pair.processes)
    start = time.perf_counter()
    nbytes = client.submit(first_bytes, arrays, workers=[second], pure=False).result()
    seconds = time.perf_counter() - start
    assert nbytes == count * megabytes * MB
    used = cpu(pair.processes) - before
    del arrays
    time.sleep(0.3)
    return seconds, used


def start_pair(kind: str, client: Client, args: argparse.Namespace, folder: str) -> Pair:
    known = set(client.scheduler_info(n_workers=-1)["workers"])
    processes = start_workers(kind, client.scheduler.address, folder, args.one_command)
    client.wait_for_workers(len(known) + 2)
    return Pair(
        processes, [address for address in client.scheduler_info(n_workers=-1)["workers"] if address not in known]
    )


def measure(client: Client, args: argparse.Namespace, folder: str) -> None:
    pairs: dict[str, Pair] = {}
    try:
        for kind in args.kinds.split(","):
            pairs[kind] = start_pair(kind, client, args, folder)
        for shape in args.shapes.split(","):
            count, megabytes = map(int, shape.split("x"))
            gigabytes = count * megabytes / 1000
            for fill in args.fill.split(","):
                rows: dict[str, list[tuple[float, float]]] = {kind: [] for kind in pairs}
                for turn in range(args.rounds + 1):
                    # the first of a turn finds the memory that the last of the turn before has given back
                    for kind, pair in list(pairs.items())[:: -1 if turn % 2 else 1]:
                        row = transfer(pair, client, count, megabytes, fill)
                        if turn > 0:
                            rows[kind].append(row)
                for kind, measured in rows.items():
                    seconds = sorted(row[0] for row in measured)
                    middle = seconds[len(seconds) // 2]
                    used = sorted(row[1] for row in measured)[len(measured) // 2]
                    print(
                        f"| {kind} | {shape} | {fill} | {gigabytes / seconds[0]:.2f} | {gigabytes / middle:.2f} "
                        f"| {used / gigabytes:.2f} |",
                        flush=True,
                    )
    finally:
        processes = [process for pair in pairs.values() for process in pair.processes]
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default="1x1000,100x10")
    parser.add_argument("--fill", default="random,ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default="stock,ours")
    parser.add_argument("--scheduler", choices=["ours", "stock"], default="ours")
    parser.add_argument("--one-command", action="store_true")
    args = parser.parse_args()
    print("| workers | MB | fill | GB/s | median | CPU s/GB |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        bench.Cluster(args.scheduler, 0, 1, folder) as cluster,
        Client(cluster.address) as client,
    ):
        measure(client, args, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
