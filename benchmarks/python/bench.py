"""Stock's scheduler and ours take turns on the same graphs, with zero workers.

    bench.py [--sizes quick|full] [--graphs map-10000,...] [--rounds 3] [--warm 30000] [--repeat 2]
             [--workers 8] [--threads 4] [--markdown FILE]

For each graph and scheduler: the best round's makespan and tasks a second, the CPU time a task of the scheduler's whole
process tree (graph host included), of the zero workers, and the scheduler tree's memory a task (growth of the RSS at
its largest graph). A round starts with a fresh scheduler.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client
from distributed.versions import VersionMismatchWarning

import graphs

# Zero workers have no Python, so they have no versions.
warnings.filterwarnings("ignore", category=VersionMismatchWarning)

ROOT = Path(__file__).resolve().parent.parent.parent
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
WORKERS = {
    "stock": [sys.executable, "-m", "distributed.cli.dask_worker"],
    "ours": [str(ROOT / "bin" / "dask-worker"), "--python", sys.executable],
}
SIZES = {
    "quick": ["merge-1000", "tree-8", "chains-100", "map-1000", "array-1000", "shuffle-16"],
    "full": [
        "merge-1000", "merge-10000", "tree-10", "tree-12", "chains-100", "chains-1000",
        "map-1000", "map-10000", "map-100000", "array-1000", "array-10000", "shuffle-32",
    ],
}  # fmt: skip
WARM_UP = {
    "merge": "merge-10",
    "tree": "tree-4",
    "chains": "chains-3",
    "map": "map-10",
    "array": "array-10",
    "shuffle": "shuffle-4",
}


def tree_of(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in children.read_text().split()]
            except OSError:
                continue
    return found


def cpu_seconds(pids: list[int]) -> float:
    """CPU time so far, threads and children that have ended included.

    The process's own CPU clock counts nanoseconds; utime and stime of /proc are sampled at the timer's tick, and a
    process that wakes up for a fraction of a tick is charged for all or nothing of it.
    """
    total = 0.0
    for pid in pids:
        try:
            # clock_getcpuclockid(3): the complement of the process id, and CPUCLOCK_SCHED
            total += time.clock_gettime(~pid << 3 | 2)
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        # cutime and cstime: children that have ended and were waited for
        total += (int(fields[13]) + int(fields[14])) / TICK
    return total


def rss_bytes(pids: list[int]) -> int:
    total = 0
    for pid in pids:
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
        except OSError:
            continue
    return total


@dataclass
class Cluster:
    """A scheduler with zero workers in one process beside it."""

    kind: str
    workers: int
    threads: int
    folder: str
    processes: list[subprocess.Popen] = field(default_factory=list)
    address: str = ""

    def __enter__(self) -> Cluster:
        file = Path(self.folder) / f"{self.kind}-{time.time_ns()}.json"
        ours = [str(ROOT / "bin" / "dask-scheduler"), "--python", sys.executable]
        stock = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
        command = ours if self.kind == "ours" else stock
        # What a user could have set for one of the two is not taken over.
        os.environ["DASK_DISTRIBUTED__SCHEDULER__VALIDATE"] = "False"
        options = [
            "--host",
            "127.0.0.1",
            "--port",
            "0",
            "--scheduler-file",
            str(file),
            "--no-dashboard",
        ]
        self.start([*command, *options])
        while not file.exists() or file.stat().st_size == 0:
            if self.processes[0].poll() is not None:
                raise RuntimeError(f"the {self.kind} scheduler ended with {self.processes[0].returncode}")
            time.sleep(0.02)
        import json

        self.address = json.loads(file.read_text())["address"]
        worker = ROOT / "benchmarks" / "dist" / "zero-worker.js"
        zero = self.start(
            ["node", str(worker), self.address, str(self.workers), str(self.threads)], stdout=subprocess.PIPE
        )
        assert zero.stdout is not None
        if zero.stdout.readline().strip() != b"ready":
            raise RuntimeError("the zero workers did not start")
        return self

    def start(self, command: list[str], stdout=subprocess.DEVNULL) -> subprocess.Popen:
        process = subprocess.Popen(command, stdout=stdout, stderr=subprocess.DEVNULL)
        self.processes.append(process)
        return process

    def __exit__(self, *_) -> None:
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@dataclass
class Figures:
    tasks: int
    seconds: float
    scheduler_us: float
    zero_us: float
    bytes_a_task: float


def settle(scheduler: int, zero: int) -> None:
    """Waits until what the last run left behind (its keys are let go) is done: 0.2 s with nearly no CPU."""
    pids = [*tree_of(scheduler), zero]
    deadline = time.monotonic() + 10
    before = cpu_seconds(pids)
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = cpu_seconds(pids)
        if now - before <= 0.02:
            return
        before = now


def measure(cluster: Cluster, name: str, warm: int, repeat: int) -> list[Figures]:
    """The cold run, as many more as make up `warm` tasks, and the last `repeat`, which count."""
    scheduler, zero = cluster.processes[0].pid, cluster.processes[1].pid
    with Client(cluster.address) as client:
        client.wait_for_workers(cluster.workers)
        graphs.run(client, WARM_UP[name.split("-")[0]])  # imports
        runs = [measure_run(client, name, scheduler, zero)]
        while len(runs) < 20 and len(runs) * runs[0].tasks < warm:
            runs.append(measure_run(client, name, scheduler, zero))
        return runs + [measure_run(client, name, scheduler, zero) for _ in range(repeat)]


def measure_run(client: Client, name: str, scheduler: int, zero: int) -> Figures:
    """One run; letting go of its keys belongs to its cost."""
    settle(scheduler, zero)
    scheduler_tree = tree_of(scheduler)
    before, before_zero, before_rss = cpu_seconds(scheduler_tree), cpu_seconds([zero]), rss_bytes(scheduler_tree)
    start = time.perf_counter()
    tasks = graphs.run(client, name)
    seconds = time.perf_counter() - start
    scheduler_tree = tree_of(scheduler)
    rss = rss_bytes(scheduler_tree)
    settle(scheduler, zero)
    after, after_zero = cpu_seconds(scheduler_tree), cpu_seconds([zero])
    return Figures(
        tasks,
        seconds,
        (after - before) / tasks * 1e6,
        (after_zero - before_zero) / tasks * 1e6,
        (rss - before_rss) / tasks,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", choices=SIZES, default="quick")
    parser.add_argument("--graphs", help="names instead of a set of sizes, separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--warm",
        type=int,
        default=30000,
        help="tasks to run before measuring, the cold run's included (at most 20 runs)",
    )
    parser.add_argument("--repeat", type=int, default=2, help="measured runs in a round; 0: all runs are")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--markdown", help="write the table to this file as well")
    args = parser.parse_args()
    names = args.graphs.split(",") if args.graphs else SIZES[args.sizes]
    head = [
        "graph",
        "tasks",
        "stock s",
        "ours s",
        "stock tasks/s",
        "ours tasks/s",
        "stock µs CPU",
        "ours µs CPU",
        "ratio",
        "stock cold",
        "ours cold",
        "zero µs",
        "stock B",
        "ours B",
    ]
    rows = []
    print(" | ".join(head), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            figures: dict[str, list[Figures]] = {"stock": [], "ours": []}
            first: dict[str, list[Figures]] = {"stock": [], "ours": []}
            for _ in range(args.rounds):
                for kind in figures:
                    with Cluster(kind, args.workers, args.threads, folder) as cluster:
                        runs = measure(cluster, name, args.warm, args.repeat)
                        first[kind].append(runs[0])
                        figures[kind] += runs[-args.repeat :]
            stock, ours = (min(figures[kind], key=lambda f: f.scheduler_us) for kind in figures)
            stock_cold, ours_cold = (min(first[kind], key=lambda f: f.scheduler_us) for kind in figures)
            row = [
                name, str(ours.tasks), f"{stock.seconds:.2f}", f"{ours.seconds:.2f}",
                f"{stock.tasks / stock.seconds:.0f}", f"{ours.tasks / ours.seconds:.0f}",
                f"{stock.scheduler_us:.0f}", f"{ours.scheduler_us:.0f}",
                f"1/{stock.scheduler_us / max(ours.scheduler_us, 0.1):.1f}",
                f"{stock_cold.scheduler_us:.0f}", f"{ours_cold.scheduler_us:.0f}",
                f"{statistics.mean([stock.zero_us, ours.zero_us]):.0f}",
                f"{stock_cold.bytes_a_task:.0f}", f"{ours_cold.bytes_a_task:.0f}",
            ]  # fmt: skip
            rows.append(row)
            print(" | ".join(row), flush=True)
    if args.markdown:
        lines = [
            "| " + " | ".join(head) + " |",
            "|" + " --- |" * len(head),
            *("| " + " | ".join(row) + " |" for row in rows),
        ]
        Path(args.markdown).write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
