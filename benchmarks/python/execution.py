"""What one tiny task costs a worker, from `compute-task` to `task-finished`: stock's worker and ours.

    execution.py [--tasks 10000] [--windows 1,10,1000] [--rounds 3] [--kinds stock,ours]

A scheduler that does nothing else (`src/fake-scheduler.ts`) hands `operator.neg(1)` to one worker with one thread.
`window`: how many tasks the worker knows at a time. `CPU`: microseconds a task of the worker's whole process tree, the
best of the rounds; the first round warms up and does not count.
"""

from __future__ import annotations

import argparse
import operator
import pickle
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dask._task_spec import Task

import bench


def measure(kind: str, args: argparse.Namespace, folder: str) -> None:
    task = Path(folder) / "task.pickle"
    task.write_bytes(pickle.dumps(Task("neg", operator.neg, 1)))
    script = str(bench.ROOT / "benchmarks" / "dist" / "fake-scheduler.js")
    with subprocess.Popen(["node", script, str(task)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as scheduler:
        assert scheduler.stdin is not None and scheduler.stdout is not None
        address = scheduler.stdout.readline().decode().strip()
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", folder]
        with subprocess.Popen(
            [*bench.WORKERS[kind], address, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as worker:
            try:
                assert worker.stderr is not None
                for line in worker.stderr:
                    if "Registered to:" in line:
                        break
                for window in map(int, args.windows.split(",")):
                    rows = []
                    for _ in range(args.rounds + 1):
                        before = bench.cpu_seconds(bench.tree_of(worker.pid))
                        scheduler.stdin.write(f"{args.tasks} {window}\n".encode())
                        scheduler.stdin.flush()
                        seconds = float(scheduler.stdout.readline())
                        time.sleep(0.2)  # what follows the last task is the tasks' cost too
                        rows.append((bench.cpu_seconds(bench.tree_of(worker.pid)) - before, seconds))
                    cpu, seconds = min(rows[1:])
                    print(
                        f"| {kind} | {window} | {args.tasks / seconds:,.0f} | {cpu / args.tasks * 1e6:.0f} |",
                        flush=True,
                    )
            finally:
                worker.terminate()
                scheduler.terminate()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--windows", default="1,10,1000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default="stock,ours")
    args = parser.parse_args()
    print("| worker | window | tasks/s | µs CPU |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds.split(","):
            measure(kind, args, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
