"""How long heartbeats take while a large graph comes in and runs: stock's scheduler and ours, with zero workers.

    intake.py [--tasks 200000] [--shape map|dict] [--workers 8] [--threads 4] [--kinds stock,ours]
              [--intake-only]

A paused worker sends heartbeats every 5 ms (`src/heartbeat-probe.ts`). `intake`: from the submission until the
scheduler knows every task; `run`: from there until all have run. Milliseconds of one heartbeat, there and back.
"""

from __future__ import annotations

import argparse
import json
import operator
import subprocess
import sys
import tempfile
import time
import uuid

from distributed import Client, wait

import bench


def submit(client: Client, shape: str, tasks: int) -> list:
    """Sends the graph; returns the futures to wait for."""
    if shape == "map":
        return client.map(operator.neg, range(tasks), pure=False)
    run = uuid.uuid4().hex[:8]
    graph: dict = {}
    for i in range(tasks // 10):
        graph[f"chain-{run}-{i}-0"] = (operator.neg, i)
        for j in range(1, 10):
            graph[f"chain-{run}-{i}-{j}"] = (operator.neg, f"chain-{run}-{i}-{j - 1}")
    return client.get(graph, [f"chain-{run}-{i}-9" for i in range(tasks // 10)], sync=False)


def window(probe: subprocess.Popen) -> dict[str, float]:
    assert probe.stdin is not None and probe.stdout is not None
    probe.stdin.write(b"\n")
    probe.stdin.flush()
    return json.loads(probe.stdout.readline())


def measure(kind: str, args: argparse.Namespace, folder: str) -> None:
    with bench.Cluster(kind, args.workers, args.threads, folder) as cluster:
        script = str(bench.ROOT / "benchmarks" / "dist" / "heartbeat-probe.js")
        probe = subprocess.Popen(["node", script, cluster.address], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        cluster.processes.append(probe)
        assert probe.stdout is not None
        if probe.stdout.readline().strip() != b"ready":
            raise RuntimeError("the heartbeat probe did not start")
        with Client(cluster.address) as client:
            client.wait_for_workers(args.workers)
            wait(submit(client, args.shape, 100))
            window(probe)
            start = time.perf_counter()
            futures = submit(client, args.shape, args.tasks)
            last = futures[-1].key
            while client.sync(client.scheduler.get_task_status, keys=[last])[last] is None:
                time.sleep(0.02)
            intake = time.perf_counter() - start
            rows = [("intake", intake, window(probe))]
            if not args.intake_only:
                wait(futures)
                rows.append(("run", time.perf_counter() - start - intake, window(probe)))
        for name, seconds, row in rows:
            figures = " | ".join(f"{row[column]:.1f}" for column in ("p50", "p99", "max"))
            print(
                f"| {kind} | {args.shape}-{args.tasks} | {name} | {seconds:.1f} | {row['count']} | {figures} |",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=200_000)
    parser.add_argument("--shape", choices=["map", "dict"], default="map")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--kinds", default="stock,ours")
    parser.add_argument("--intake-only", action="store_true", help="end where the scheduler knows every task")
    args = parser.parse_args()
    print("| scheduler | graph | window | s | heartbeats | p50 ms | p99 ms | max ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.kinds.split(","):
            measure(kind, args, folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
