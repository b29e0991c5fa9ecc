#!/usr/bin/python3
"""What a playbook asks systemd for, on machines of tests, which have none: starts a unit's ExecStart as its User."""

import os
import pwd
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

UNITS = Path("/etc/systemd/system")
STATE = Path("/run/units")


def settings(unit: str) -> dict[str, str]:
    lines = [line.partition("=") for line in (UNITS / f"{unit}.service").read_text().splitlines() if "=" in line]
    return {name: value for name, _, value in lines if not name.startswith("#")}


def pid_of(unit: str) -> int | None:
    try:
        pid = int((STATE / unit).read_text())
        os.kill(pid, 0)
        # The first process reaps, later.
        return None if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z" else pid
    except (FileNotFoundError, ProcessLookupError):
        return None


def start(unit: str) -> None:
    if pid_of(unit) is not None:
        return
    given = settings(unit)
    user = pwd.getpwnam(given.get("User", "root"))
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": user.pw_dir, "LANG": "C.UTF-8"}
    environment |= dict(one.split("=", 1) for one in shlex.split(given.get("Environment", "")))
    STATE.mkdir(exist_ok=True)
    with (STATE / f"{unit}.log").open("ab") as log:
        process = subprocess.Popen(
            shlex.split(given["ExecStart"]),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd="/",
            user=user.pw_uid,
            group=user.pw_gid,
            extra_groups=[],
            start_new_session=True,
        )
    (STATE / unit).write_text(str(process.pid))


def stop(unit: str) -> None:
    pid = pid_of(unit)
    if pid is None:
        return
    # KillMode=mixed: to the first process alone; what is left of its session at the end is killed.
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while pid_of(unit) is not None and time.monotonic() < deadline:
        time.sleep(0.05)
    subprocess.run(["pkill", "-KILL", "-s", str(pid)])


def main() -> None:
    verb, *names = [one for one in sys.argv[1:] if not one.startswith("-")]
    [unit] = [name.removesuffix(".service") for name in names] or [""]
    link = UNITS / "multi-user.target.wants" / f"{unit}.service"
    if verb == "show":
        state = "active" if pid_of(unit) else "inactive"
        print(f"Id={unit}.service\nLoadState=loaded\nActiveState={state}\nUnitFileState=enabled")
    elif verb == "is-enabled":
        print("enabled" if link.is_symlink() else "disabled")
        sys.exit(0 if link.is_symlink() else 1)
    elif verb == "enable":
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(UNITS / f"{unit}.service")
    elif verb in ("start", "restart"):
        if verb == "restart":
            stop(unit)
        start(unit)
    elif verb == "stop":
        stop(unit)
    else:
        assert verb == "daemon-reload", sys.argv


main()
