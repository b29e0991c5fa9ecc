"""Many small results to one client: stock's worker and ours, stock's scheduler and ours.

    gather.py [--count 100000] [--values int,tuple] [--rounds 3] [--kinds stock,ours] [--direct no,yes]
              [--origin tasks|scatter]

`stock` is stock's scheduler with stock's worker, `ours` ours with ours, `stock+ours` stock's scheduler with our worker,
`ours+stock` the other way round. Each has one worker with one thread that holds the results; `client.gather` of all.
The CPU columns are seconds of one gather: of this process (the stock client, which is the same for all), of the
scheduler and of the worker with all their children.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time

from distributed import Client, wait

import bench

VALUES = {
    "int": lambda i: i,
    "tuple": lambda i: (i, i / 2, "text"),
    "dict": lambda i: {"i": i, "half": i / 2},
}


def measure(kind: str, args: argparse.Namespace, folder: str) -> None:
    scheduler, _, worker = kind.partition("+")
    with (
        bench.Cluster(scheduler, 0, 1, folder) as cluster,
        Client(cluster.address) as client,
    ):
        process = subprocess.Popen(
            [
                *bench.WORKERS[worker or scheduler],
                cluster.address,
                *("--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", folder),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            client.wait_for_workers(1)
            for name in args.values.split(","):
                make = VALUES[name]
                if args.origin == "tasks":
                    futures = client.map(make, range(args.count), pure=False)
                else:
                    futures = client.scatter([make(i) for i in range(args.count)], hash=False)
                wait(futures)
                time.sleep(1)
                for direct in args.direct.split(","):
                    rows = []
                    for _ in range(args.rounds):
                        trees = [[cluster.processes[0].pid], [process.pid]]
                        before = [bench.cpu_seconds(bench.tree_of(pids[0])) for pids in trees]
                        own = time.process_time()
                        start = time.perf_counter()
                        values = client.gather(futures, direct=direct == "yes")
                        seconds = time.perf_counter() - start
                        own = time.process_time() - own
                        after = [bench.cpu_seconds(bench.tree_of(pids[0])) for pids in trees]
                        assert values == [make(i) for i in range(args.count)]
                        rows.append((seconds, own, after[0] - before[0], after[1] - before[1]))
                        del values
                    seconds, own, of_scheduler, of_worker = min(rows)
                    print(
                        f"| {kind} | {name} | {direct} | {seconds:.2f} | {args.count / seconds:,.0f} "
                        f"| {own:.2f} | {of_scheduler:.2f} | {of_worker:.2f} |",
                        flush=True,
                    )
                client.cancel(futures)
                del futures
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--values", default="int,tuple")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default="stock,ours")
    parser.add_argument("--direct", default="no,yes")
    parser.add_argument("--origin", choices=["tasks", "scatter"], default="tasks")
    args = parser.parse_args()
    print("| cluster | values | direct | s | results/s | client CPU s | scheduler CPU s | worker CPU s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds.split(","):
            measure(kind, args, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
