"""Clients and workers of older releases against this scheduler and worker: `python tests/skew/run.py`.

Makes an environment per release (uv; kept under --folder), runs `program.py` in each combination and prints a table.
Not part of the test suite: it takes about ten minutes and the package index.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "e2e"))

from cluster import Process, wait_until  # noqa: E402

CURRENT = "2026.8.0"
# Every release of distributed of the twelve months before CURRENT.
RELEASES = [
    "2025.9.0",
    "2025.9.1",
    "2025.9.2",
    "2025.9.3",
    "2025.10.0",
    "2025.11.0",
    "2025.12.0",
    "2026.1.0",
    "2026.1.1",
    "2026.1.2",
    "2026.1.3",
    "2026.3.0",
    "2026.6.0",
    "2026.7.0",
    "2026.7.1",
    CURRENT,
]
PROGRAM_SECONDS = 180
# Column -> (scheduler, scheduler's Python, worker, worker's Python, client's Python); R is the release of the row,
# "" is CURRENT. The last three are stock's own behaviour in the same skew.
COMBINATIONS = {
    "all R": ("ours", "R", "ours", "R", "R"),
    "client R": ("ours", "", "ours", "", "R"),
    "client R, stock worker R": ("ours", "", "stock", "R", "R"),
    "stock worker R": ("ours", "", "stock", "R", ""),
    "stock: client R": ("stock", "", "stock", "", "R"),
    "stock: client R, worker R": ("stock", "", "stock", "R", "R"),
    "stock: worker R": ("stock", "", "stock", "R", ""),
}


class Environments:
    def __init__(self, folder: Path, python: str, uv: str, commands: Path, logs: Path | None):
        self.folder, self.base, self.uv, self.commands, self.logs = folder, python, uv, commands, logs

    def python(self, release: str) -> str:
        """The interpreter of a release's environment, made where it is missing."""
        folder = self.folder / release
        python = folder / "bin" / "python"
        done = folder / "complete"
        if not done.exists():
            subprocess.run([self.uv, "venv", "--quiet", "--clear", "--python", self.base, str(folder)], check=True)
            packages = [f"distributed=={release}", f"dask=={release}"]
            subprocess.run([self.uv, "pip", "install", "--quiet", "--python", str(python), *packages], check=True)
            done.touch()
        return str(python)


def start_command(kind: str, role: str, python: str, commands: Path) -> list[str]:
    if kind == "ours":
        return [str(commands / f"dask-{role}"), "--python", python]
    return [python, "-m", "distributed.cli." + f"dask_{role}"]


def run(combination: tuple[str, ...], release: str, environments: Environments) -> dict[str, str]:
    """One cluster, one client; check -> "ok" or an error."""
    scheduler, scheduler_release, worker, worker_release, client_release = combination
    pythons = [
        environments.python(release if r == "R" else CURRENT)
        for r in (scheduler_release, worker_release, client_release)
    ]
    processes: list[Process] = []
    with tempfile.TemporaryDirectory(prefix="dask-ts-skew-") as name:
        folder = Path(name)
        file = folder / "scheduler.json"
        try:
            command = start_command(scheduler, "scheduler", pythons[0], environments.commands)
            command += ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0"]
            processes.append(Process("scheduler", [*command, "--scheduler-file", str(file)], folder, {}))
            wait_until(lambda: file.exists() or not processes[0].running, "the scheduler file")
            if not processes[0].running:
                return {"scheduler": last_error(processes[0].text)}
            address = json.loads(file.read_text())["address"]
            for i in range(2):
                command = [
                    *start_command(worker, "worker", pythons[1], environments.commands),
                    address,
                    "--nthreads",
                    "1",
                ]
                command += ["--memory-limit", "0", "--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0"]
                command += ["--local-directory", str(folder)]
                processes.append(Process(f"worker-{i}", command, folder, {}))
            try:
                wait_until(lambda: all("Registered to" in process.text for process in processes[1:]), "workers")
            except AssertionError:
                return {"worker": last_error(processes[1].text)}
            done = subprocess.run(
                [pythons[2], str(Path(__file__).with_name("program.py")), address],
                capture_output=True,
                text=True,
                timeout=PROGRAM_SECONDS,
                cwd=folder,
                check=False,
            )
            lines = done.stdout.strip().splitlines()
            results = json.loads(lines[-1]) if lines else {"program": last_error(done.stderr)}
            if environments.logs is not None and summary(results) != "ok":
                environments.logs.mkdir(parents=True, exist_ok=True)
                for process in processes:
                    (environments.logs / f"{release} {'-'.join(combination)} {process.name}.log").write_text(
                        process.text
                    )
            return results
        except subprocess.TimeoutExpired:
            return {"program": f"did not end within {PROGRAM_SECONDS} s"}
        finally:
            for process in reversed(processes):
                process.kill()


def last_error(text: str) -> str:
    lines = [line for line in text.strip().splitlines() if "Error" in line or "ERROR" in line or "refused" in line]
    return (lines or text.strip().splitlines() or ["no output"])[-1][:300]


def summary(results: dict[str, str]) -> str:
    failed = [name for name, result in results.items() if result != "ok"]
    return "ok" if not failed else f"{len(results) - len(failed)} of {len(results)}: not {', '.join(failed)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("releases", nargs="*", help="releases to test; default: all")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dask-ts-skew")
    parser.add_argument("--python", default=sys.executable, help="base interpreter of the environments")
    parser.add_argument("--uv", default="uv")
    parser.add_argument("--commands", type=Path, default=ROOT / "bin", help="folder of dask-scheduler and dask-worker")
    parser.add_argument("--only", action="append", choices=list(COMBINATIONS), help="columns; default: all")
    parser.add_argument("--logs", type=Path, help="folder for the logs of what failed")
    parser.add_argument("--json", type=Path, help="write all results here")
    options = parser.parse_args()
    environments = Environments(options.folder, options.python, options.uv, options.commands, options.logs)
    columns = options.only or list(COMBINATIONS)
    everything: dict[str, dict[str, dict[str, str]]] = {}
    print(f"| release | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}", flush=True)
    for release in options.releases or RELEASES:
        everything[release] = {}
        for column in columns:
            start = time.monotonic()
            results = run(COMBINATIONS[column], release, environments)
            everything[release][column] = results
            took = time.monotonic() - start
            print(f"{release} / {column}: {summary(results)} ({took:.0f} s)", file=sys.stderr)
            for name, result in results.items():
                if result != "ok":
                    print(f"    {name}: {result}", file=sys.stderr, flush=True)
        cells = " | ".join(summary(everything[release][column]) for column in columns)
        print(f"| {release} | {cells} |", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(everything, indent=2))
    broken = [
        (release, column)
        for release, row in everything.items()
        for column, results in row.items()
        if not column.startswith("stock:") and summary(results) != "ok"
    ]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
