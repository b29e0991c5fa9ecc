"""What a cluster of real processes holds: processes, descriptors, shared memory, files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path


def processes() -> Iterator[tuple[int, int, int, str]]:
    """(pid, parent, session, state) of all processes that are not zombies."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text()
        except OSError:
            continue
        state, parent, _, session = stat.rsplit(")", 1)[1].split()[:4]
        if state != "Z":
            yield int(entry), int(parent), int(session), state


def members(sessions: Iterable[int]) -> dict[int, str]:
    """Processes of these sessions (each command of a cluster has its own), with their command lines."""
    wanted = set(sessions)
    found = {}
    for pid, _, session, _ in processes():
        if session in wanted:
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found[pid] = command.strip()
    return found


def descriptors(pid: int) -> Counter[str]:
    """Open descriptors by kind: sockets, pipes, files."""
    kinds: Counter[str] = Counter()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{entry}")
        except OSError:
            continue
        kinds[target.split(":")[0] if ":" in target else "file"] += 1
    return kinds


def shared_memory() -> set[str]:
    """Segments; semaphores are those of other programs' multiprocessing."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.")}


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
