"""What a worker answers while a task holds the GIL: stock's worker and ours.

    gil.py [--seconds 5] [--kinds stock,ours]

The task is a C function called with the GIL held (`ctypes.PyDLL(None).sleep`); nothing else of its process's Python
can run meanwhile. `src/gil-scheduler.ts` asks, as scheduler and as peer. Milliseconds from a question to its answer;
of heartbeats: how much later than their interval they came.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import operator
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from dask._task_spec import Task

import bench


def hold_the_gil(seconds: int) -> int:
    return ctypes.PyDLL(None).sleep(seconds)


def measure(kind: str, args: argparse.Namespace, folder: str) -> None:
    # by value: the worker has no module of this name
    import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    tasks = {
        "hold": Task("hold", hold_the_gil, args.seconds),
        "value": Task("value", operator.neg, 1),
        "array": Task("array", np.ones, 125_000),
        "other": Task("other", operator.neg, 1),
    }
    files = []
    for name, task in tasks.items():
        file = Path(folder) / name
        file.write_bytes(cloudpickle.dumps(task) if name == "hold" else pickle.dumps(task))
        files.append(str(file))
    script = str(bench.ROOT / "benchmarks" / "dist" / "gil-scheduler.js")
    with subprocess.Popen(["node", script, *files, str(args.seconds)], stdout=subprocess.PIPE) as scheduler:
        assert scheduler.stdout is not None
        address = scheduler.stdout.readline().decode().strip()
        options = ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", folder]
        worker = subprocess.Popen(
            [*bench.WORKERS[kind], address, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            answers = json.loads(scheduler.stdout.readline())
        finally:
            worker.terminate()
            worker.wait(30)
            scheduler.terminate()
    for question, answer in answers.items():
        times = sorted(answer["ms"])
        said = ", ".join(f"{text} {count}" for text, count in answer["said"].items())
        print(
            f"| {kind} | {question} | {len(times)} | {times[len(times) // 2]:.1f} | {times[-1]:.1f} | {said} |",
            flush=True,
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--kinds", default="stock,ours")
    args = parser.parse_args()
    print("| worker | question | answers | p50 ms | max ms | said |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    for kind in args.kinds.split(","):
        with tempfile.TemporaryDirectory() as folder:
            measure(kind, args, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
